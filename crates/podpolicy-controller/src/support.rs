//! Which newer fields of pods the API server keeps: found out by a dry run, because its version does not say which feature gates are on. Nothing
//! is ever stored.
//!
//! It runs beside the loop, on every replica, because all of them decide.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::PodTemplate;
use kube::{
    Api, Client,
    api::PostParams,
    core::{ApiResource, DynamicObject, Status},
};
use podpolicy_engine::{Feature, Support, kubernetes::Version};
use serde_json::{Value as Json, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{apply::WRITE_TIMEOUT, beside::Beside};

/// How often the API server is asked again: it may have been upgraded, or started with other feature gates.
const ASK_AGAIN: Duration = Duration::from_mins(5);
/// How soon one that did not answer is asked again; the wait grows up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Where a dry run is made if the operator's own namespace does not exist.
const ELSEWHERE: &str = "default";

/// Starts the task that asks, in the operator's own namespace. The state is none until there is an answer.
pub(crate) fn start(client: &Client, namespace: &str) -> Beside<(), Option<Support>> {
    let (inputs, _) = watch::channel(());
    let (sender, states) = watch::channel(Arc::new(None));
    let mut tasks = JoinSet::new();
    tasks.spawn(keep(client.clone(), namespace.to_owned(), sender));
    Beside { inputs, states, tasks }
}

async fn keep(client: Client, namespace: String, states: watch::Sender<Arc<Option<Support>>>) {
    let mut wait = FIRST_WAIT;
    loop {
        match ask(&client, &namespace).await {
            Ok(found) => {
                wait = FIRST_WAIT;
                if states.borrow().as_ref().as_ref() != Some(&found) {
                    let dropped: Vec<_> = Feature::ALL.into_iter().filter(|feature| !found.has(*feature)).map(Feature::gate).collect();
                    tracing::info!(
                        server = found.server().map(|version| version.to_string()),
                        ?dropped,
                        "found out which newer fields are kept"
                    );
                    states.send_replace(Arc::new(Some(found)));
                }
                sleep(ASK_AGAIN).await;
            }
            Err(error) => {
                tracing::debug!(%error, "could not ask the API server which newer fields it keeps; trying again");
                sleep(wait).await;
                wait = LONGEST_WAIT.min(wait * 2);
            }
        }
    }
}

/// Why there is no answer. It is asked again.
#[derive(Debug, thiserror::Error)]
pub enum SupportError {
    /// It could not be reached, or failed.
    #[error("{0}")]
    Unavailable(#[from] kube::Error),
    /// It did not answer.
    #[error("no answer within {} s", WRITE_TIMEOUT.as_secs())]
    TooSlow,
}

/// What the API server does with newer fields, by a dry run in this namespace. Where that is not allowed: what its version does by default.
pub async fn ask(client: &Client, namespace: &str) -> Result<Support, SupportError> {
    let server = match within(client.apiserver_version()).await {
        Ok(info) => info.git_version.parse::<Version>().ok(),
        // Some proxies keep it to themselves.
        Err(SupportError::Unavailable(kube::Error::Api(status))) if is_final(&status) => None,
        Err(error) => return Err(error),
    };
    for place in [namespace, ELSEWHERE] {
        match dropped(client, place).await {
            Ok(dropped) => return Ok(Support::found(server, dropped)),
            Err(SupportError::Unavailable(kube::Error::Api(status))) if status.code == 404 => {}
            Err(SupportError::Unavailable(kube::Error::Api(status))) if is_final(&status) => {
                tracing::info!(
                    namespace = place,
                    cause = status.message,
                    "may not try which newer fields the API server keeps (create podtemplates, as a dry run); going by its version"
                );
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(server.map_or_else(Support::all, Support::of))
}

/// Whether asking again would be answered the same.
fn is_final(status: &Status) -> bool {
    status.code < 500 && status.code != 429
}

/// The features whose fields do not come back from a dry run, or are refused.
async fn dropped(client: &Client, namespace: &str) -> Result<BTreeSet<Feature>, SupportError> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<PodTemplate>(&()));
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let mut asked = Feature::ALL.to_vec();
    loop {
        match within(api.create(&dry_run, &template(&asked))).await {
            Ok(kept) => {
                let kept: Vec<_> = asked.into_iter().enumerate().filter(|(index, feature)| has(&kept.data, *index, *feature)).collect();
                let kept: BTreeSet<_> = kept.into_iter().map(|(_, feature)| feature).collect();
                return Ok(Feature::ALL.into_iter().filter(|feature| !kept.contains(feature)).collect());
            }
            // One that is known and not allowed makes the whole template invalid.
            Err(SupportError::Unavailable(kube::Error::Api(status))) if refused(&status, asked.len()).next().is_some() => {
                let refused: BTreeSet<_> = refused(&status, asked.len()).collect();
                let mut index = 0;
                asked.retain(|_| {
                    index += 1;
                    !refused.contains(&(index - 1))
                });
            }
            Err(error) => return Err(error),
        }
    }
}

/// The containers that a refusal names.
fn refused(status: &Status, count: usize) -> impl Iterator<Item = usize> {
    let causes = status.details.iter().flat_map(|details| &details.causes).filter(|_| status.code == 422);
    let index = |field: &str| field.strip_prefix("template.spec.containers[")?.split(']').next()?.parse().ok();
    causes.filter_map(move |cause| index(&cause.field)).filter(move |index| *index < count)
}

/// A template with a container for each feature.
fn template(features: &[Feature]) -> DynamicObject {
    let containers: Vec<_> = features
        .iter()
        .map(|feature| {
            let mut container = using(*feature);
            container["name"] = feature.gate().to_lowercase().into();
            // Kubernetes asks for one, and nobody pulls it.
            container["image"] = "podpolicy.invalid/none".into();
            container
        })
        .collect();
    // Stop signals are for pods that name their operating system.
    let spec = json!({ "os": { "name": "linux" }, "containers": containers });
    DynamicObject::new("podpolicy-support", &ApiResource::erase::<PodTemplate>(&()))
        .data(json!({ "template": { "metadata": { "labels": { "app.kubernetes.io/name": "podpolicy" } }, "spec": spec } }))
}

/// A container that uses the feature.
fn using(feature: Feature) -> Json {
    match feature {
        Feature::SleepHook => json!({ "lifecycle": { "preStop": { "sleep": { "seconds": 1 } } } }),
        Feature::StopSignal => json!({ "lifecycle": { "stopSignal": "SIGTERM" } }),
        Feature::HttpProtocol => json!({ "livenessProbe": { "httpGet": { "port": 1, "protocol": "HTTP2" } } }),
        Feature::GrpcMode => json!({ "readinessProbe": { "grpc": { "port": 1, "mode": "TLS" } } }),
        Feature::ContainerRestartPolicy => json!({ "restartPolicy": "Always" }),
    }
}

fn has(template: &Json, index: usize, feature: Feature) -> bool {
    let container = &template["template"]["spec"]["containers"][index];
    let field = feature.path().iter().try_fold(container, |value, key| value.get(key));
    field.is_some_and(|value| !value.is_null())
}

async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, SupportError> {
    Ok(timeout(WRITE_TIMEOUT, request).await.map_err(|_| SupportError::TooSlow)??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_tried_at_its_path() {
        for feature in Feature::ALL {
            let container = using(feature);
            let tried = json!({ "template": { "spec": { "containers": [container] } } });
            assert!(has(&tried, 0, feature), "{feature:?}: {container}");
            assert!(!has(&json!({ "template": { "spec": { "containers": [{}] } } }), 0, feature), "{feature:?}");
        }
    }

    #[test]
    fn refusals_name_containers() {
        let status = |code: u16, fields: &[&str]| {
            let causes: Vec<_> = fields.iter().map(|field| json!({ "field": field })).collect();
            serde_json::from_value::<Status>(json!({ "code": code, "details": { "causes": causes } })).unwrap()
        };
        let fields = ["template.spec.containers[4].restartPolicy", "template.spec.os", "template.spec.containers[9]"];
        assert_eq!(refused(&status(422, &fields), 5).collect::<Vec<_>>(), [4]);
        assert_eq!(refused(&status(403, &fields), 5).count(), 0);
    }
}
