//! Kubernetes objects for tests: written as YAML where a person has to read them, applied as they are.
//!
//! Must never create an object in a namespace that the caller did not name.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::discovery::Scope;
use kube::core::{GroupVersionKind, ObjectMeta};
use kube::{Api, Client, discovery};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Whom [`apply`] names as the field manager.
pub const FIELD_MANAGER: &str = "e2e";

/// The image of every container here: it can be pulled from nowhere.
pub const IMAGE: &str = "example.invalid/web";

/// One object from YAML text. Panics with the text when it does not fit the type: that is a mistake in the test.
#[track_caller]
pub fn yaml<T: DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(&outdented(text)).unwrap_or_else(|error| panic!("{error}\nin\n{text}"))
}

/// Applies (server-side, forced) each document of `yaml` and returns what the API server made of them.
///
/// Objects that live in a namespace and name none go into `namespace`. The documents may be indented, all alike.
pub async fn apply(client: &Client, namespace: &str, yaml: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&outdented(yaml)).with_context(|| format!("no YAML:\n{yaml}"))?;
    let mut applied = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        applied.push(apply_document(client, namespace, &document).await.with_context(|| format!("could not apply {document:#}"))?);
    }
    Ok(applied)
}

async fn apply_document(client: &Client, namespace: &str, document: &Value) -> anyhow::Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(document.clone())?;
    let types = object.types.as_ref().context("apiVersion or kind is missing")?;
    let kind = GroupVersionKind::try_from(types)?;
    let (resource, capabilities) = discovery::pinned_kind(client, &kind).await?;
    let api = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let own = object.metadata.namespace.as_deref();
            Api::namespaced_with(client.clone(), own.unwrap_or(namespace), &resource)
        }
    };
    let name = object.metadata.name.as_deref().context("metadata.name is missing")?;
    Ok(api.patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(document)).await?)
}

/// A pod that nobody owns, with one container `web` that serves port `http`, 8080.
pub fn pod(name: &str, labels: &[(&str, &str)]) -> Pod {
    let labels: BTreeMap<_, _> = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let pod: Pod = yaml(&format!(
        "
        apiVersion: v1
        kind: Pod
        spec:
          restartPolicy: Always
          containers:
            - name: web
              image: {IMAGE}
              ports:
                - name: http
                  containerPort: 8080
        "
    ));
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    Pod { metadata, ..pod }
}

/// Sets fields of a pod's status, as its kubelet would; what `status` does not mention stays.
pub async fn set_pod_status(pods: &Api<Pod>, name: &str, status: &Value) -> anyhow::Result<Pod> {
    let patch = Patch::Merge(json!({ "status": status }));
    pods.patch_status(name, &PatchParams::default(), &patch).await.with_context(|| format!("could not set the status of pod {name}"))
}

/// Sets a pod's phase: `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
pub async fn set_phase(pods: &Api<Pod>, name: &str, phase: &str) -> anyhow::Result<Pod> {
    set_pod_status(pods, name, &json!({ "phase": phase })).await
}

/// Makes a pod look as it does when it serves: phase `Running`, condition `Ready`, container `web` started.
pub async fn set_ready(pods: &Api<Pod>, name: &str) -> anyhow::Result<Pod> {
    let status = json!({
        "phase": "Running",
        "conditions": [
            { "type": "ContainersReady", "status": "True" },
            { "type": "Ready", "status": "True" },
        ],
        "containerStatuses": [{
            "name": "web",
            "image": IMAGE,
            "imageID": "",
            "ready": true,
            "started": true,
            "restartCount": 0,
            "state": { "running": {} },
        }],
    });
    set_pod_status(pods, name, &status).await
}

/// The text without the indentation that all its lines have, so that `---` stands where YAML wants it.
fn outdented(text: &str) -> String {
    let filled = text.lines().filter(|line| !line.trim().is_empty());
    let indentation = filled.map(|line| line.len() - line.trim_start_matches(' ').len()).min().unwrap_or(0);
    text.lines().map(|line| line.get(indentation..).unwrap_or("")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_has_name_labels_and_a_container() {
        let pod = pod("a", &[("app", "web")]);
        assert_eq!(pod.metadata.name.as_deref(), Some("a"));
        assert_eq!(pod.metadata.labels.unwrap()["app"], "web");
        assert_eq!(pod.spec.unwrap().containers[0].name, "web");
    }

    #[test]
    #[should_panic(expected = "in\nkind: [")]
    fn yaml_that_does_not_parse_is_shown() {
        yaml::<Pod>("kind: [");
    }

    #[test]
    fn documents_may_be_indented() {
        let documents: Vec<Value> = serde_saphyr::from_multiple(&outdented(
            "
            a: 1

            ---
            b:
              c: 2
        ",
        ))
        .unwrap();
        assert_eq!(documents, [json!({ "a": 1 }), json!({ "b": { "c": 2 } })]);
    }
}
