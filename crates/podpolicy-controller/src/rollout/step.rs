//! The requests of rollouts: an eviction, a restart, the kubelet's words. Nothing here decides whether to send one, and none is sent
//! again from here.

use std::cmp::Reverse;

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    core::v1::{Event, Pod},
};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, EvictParams, ListParams, Patch, Preconditions},
};
use podpolicy_api::{RESTART_ANNOTATION, RolloutFailure};
use serde_json::json;

use super::plan::{Step, Target};
use crate::{
    apply::{WRITE_TIMEOUT, WriteError, patch_params, within},
    source::SelectingKind,
};

/// What came of a step.
#[derive(Debug)]
pub(crate) enum Done {
    /// It is done, or not needed any more: the watch will show it.
    Taken,
    /// A failure, with the kubelet's words.
    Explained(RolloutFailure),
}

/// Why a step was not taken. The workload is left alone for a while.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// The operator may not do it. Reported until it may.
    #[error("{0}")]
    Forbidden(String),
    /// A disruption budget does not allow the eviction now.
    #[error("{0}")]
    Blocked(String),
    /// The API server refused or failed it otherwise.
    #[error("{0}")]
    Failed(String),
}

impl StepError {
    /// What [`Self::category`] can be.
    pub(crate) const CATEGORIES: [&str; 3] = ["forbidden", "blocked", "failed"];

    /// A name of few values, for metrics.
    pub(crate) fn category(&self) -> &'static str {
        match self {
            Self::Forbidden(_) => "forbidden",
            Self::Blocked(_) => "blocked",
            Self::Failed(_) => "failed",
        }
    }
}

/// Takes the step.
pub(crate) async fn take(client: Client, step: Step) -> Result<Done, StepError> {
    match step {
        Step::Evict { workload, pod, pod_uid } => evict(client, &workload, &pod, pod_uid).await.map(|()| Done::Taken),
        Step::Restart { workload, stamp } => restart(client, &workload, &stamp).await.map(|()| Done::Taken),
        Step::Explain { failure, pod_uid, namespace } => Ok(Done::Explained(explain(client, failure, &pod_uid, &namespace).await)),
    }
}

async fn evict(client: Client, workload: &Target, pod: &str, uid: String) -> Result<(), StepError> {
    let api: Api<Pod> = Api::namespaced(client, &workload.id.key.namespace);
    // Never a pod that was created again under the same name.
    let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
    let delete_options = Some(DeleteParams { preconditions, ..DeleteParams::default() });
    let params = EvictParams { delete_options, ..EvictParams::default() };
    let answer = tokio::time::timeout(WRITE_TIMEOUT, api.evict(pod, &params)).await;
    let status = match answer {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(kube::Error::Api(status))) => status,
        Ok(Err(error)) => return Err(StepError::Failed(format!("pod {pod} of {} could not be evicted: {error}", workload.id))),
        Err(_) => return Err(StepError::Failed(format!("pod {pod} of {} could not be evicted: no answer", workload.id))),
    };
    if status.code == 429 {
        let cause = status.details.as_ref().and_then(|details| details.causes.first()).map(|cause| cause.message.as_str());
        let cause = cause.unwrap_or_default();
        let because = if cause.is_empty() { status.message.clone() } else { format!("{} {cause}", status.message) };
        return Err(StepError::Blocked(format!("pod {pod} of {} cannot be evicted now: {because}", workload.id)));
    }
    let said = status.message.clone();
    match WriteError::from(kube::Error::Api(status)) {
        // Gone, or another pod has the name.
        WriteError::Gone | WriteError::Changed => Ok(()),
        WriteError::Forbidden(_) => Err(StepError::Forbidden(format!(
            "the operator may not evict pods ({said}); grant it what config/components/evict has (with Helm: rollout.evict=true)"
        ))),
        WriteError::Refused(_) | WriteError::ChangedBack | WriteError::Unavailable(_) => {
            Err(StepError::Failed(format!("pod {pod} of {} could not be evicted, which is tried again: {said}", workload.id)))
        }
    }
}

async fn restart(client: Client, workload: &Target, stamp: &str) -> Result<(), StepError> {
    let resource = match workload.id.kind {
        SelectingKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        SelectingKind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
        SelectingKind::Deployment
        | SelectingKind::Service
        | SelectingKind::NetworkPolicy
        | SelectingKind::PodDisruptionBudget
        | SelectingKind::ReplicaSet
        | SelectingKind::Job
        | SelectingKind::ReplicationController => ApiResource::erase::<Deployment>(&()),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client, &workload.id.key.namespace, &resource);
    let body = json!({
        "metadata": { "uid": workload.uid },
        "spec": { "template": { "metadata": { "annotations": { RESTART_ANNOTATION: stamp } } } },
    });
    match within(api.patch(&workload.id.key.name, &patch_params(), &Patch::Merge(&body))).await {
        Ok(_) | Err(WriteError::Gone | WriteError::Changed) => Ok(()),
        Err(WriteError::Forbidden(said)) => Err(StepError::Forbidden(format!(
            "the operator may not restart workloads ({said}); grant it what config/components/restart has (with Helm: rollout.restart=true)"
        ))),
        Err(error) => Err(StepError::Failed(format!("{} could not be restarted, which is tried again: {error}", workload.id))),
    }
}

/// The failure, with the kubelet's words where it can be had.
async fn explain(client: Client, failure: RolloutFailure, pod_uid: &str, namespace: &str) -> RolloutFailure {
    let api: Api<Event> = Api::namespaced(client, namespace);
    let events = within(api.list(&ListParams::default().fields(&format!("involvedObject.uid={pod_uid}")))).await;
    match events {
        Ok(events) => with_words(failure, &events.items),
        Err(error) => {
            tracing::debug!(pod = failure.pod, %error, "could not read the events of a pod that failed");
            failure
        }
    }
}

/// The failure with the words of the event that says most: of the probe that kills, then of any other; and of what a probe said, of what it said
/// most often, for in between a container that starts refuses connections.
fn with_words(mut failure: RolloutFailure, events: &[Event]) -> RolloutFailure {
    let rank = |event: &Event| {
        let message = event.message.as_deref().unwrap_or_default();
        match event.reason.as_deref() {
            Some("Unhealthy") if !message.starts_with("Readiness") => Some(0),
            Some("FailedPostStartHook" | "FailedPreStopHook") => Some(1),
            Some("Unhealthy") => Some(2),
            Some("Failed") => Some(3),
            Some("BackOff" | "Killing") => Some(4),
            _ => None,
        }
    };
    let times = |event: &Event| event.series.as_ref().and_then(|series| series.count).max(event.count);
    let best = events.iter().filter_map(|event| Some((rank(event)?, event))).min_by_key(|(rank, event)| (*rank, Reverse(times(event))));
    let Some((_, event)) = best else { return failure };
    if let Some(message) = &event.message {
        failure.message = format!("{}; the kubelet says: {}", failure.message, message.trim());
    }
    // `spec.containers{web}`
    let path = event.involved_object.field_path.as_deref().unwrap_or_default();
    if let Some(container) = path.split_once('{').and_then(|(_, rest)| rest.strip_suffix('}')) {
        failure.container = Some(container.to_owned());
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_that_kills_says_most() {
        let failure: RolloutFailure = serde_json::from_value(json!({
            "workload": "Deployment/web", "workloadUid": "1", "template": "t", "pod": "web-1", "message": "was started again once",
            "time": "2026-01-02T03:04:05Z",
        }))
        .unwrap();
        let event = |reason: &str, message: &str, count: i32| -> Event {
            let object = json!({ "fieldPath": "spec.containers{web}" });
            serde_json::from_value(
                json!({ "metadata": {}, "involvedObject": object, "reason": reason, "message": message, "count": count }),
            )
            .unwrap()
        };
        let events = [
            event("Killing", "killed", 9),
            event("Unhealthy", "Readiness probe failed: 1", 9),
            event("Unhealthy", "Liveness probe failed: connection refused", 1),
            event("Unhealthy", "Liveness probe failed: 404", 2),
        ];
        let explained = with_words(failure.clone(), &events);
        assert_eq!(explained.message, "was started again once; the kubelet says: Liveness probe failed: 404");
        assert_eq!(explained.container.as_deref(), Some("web"));
        assert_eq!(with_words(failure.clone(), &[event("Pulled", "image", 1)]), failure);
    }
}
