//! Writes to the API server: one PATCH for a pod, one for a policy's status. Nothing here decides whether to write.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
};
use podpolicy_api::{AdmissionStatus, ClusterPodPolicy, PodPolicy, PodPolicyStatus, RolloutStatus};
use podpolicy_engine::{MetadataPlan, PolicyId, PolicyKind};
use serde_json::{Value as Json, json};

use crate::observe::Observed;

/// The name under which writes show in managedFields.
pub(crate) const FIELD_MANAGER: &str = "podpolicy";

/// No write may hang longer: a connection to a dead API server would hold its place for ever.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a write did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The object is gone. The watch will say so: nothing to do.
    #[error("it is gone")]
    Gone,
    /// The object changed meanwhile, or another one has its name. The watch brings it: decide anew.
    #[error("it changed meanwhile")]
    Changed,
    /// The operator may not write. Reported on the policies, and tried again with growing waits.
    #[error("{0}")]
    Forbidden(String),
    /// The API server refused the content. Reported on the policies, and tried again with growing waits.
    #[error("{0}")]
    Refused(String),
    /// The API server took the write, but not all of it stayed: an admission plugin changed it back. Reported on the policies,
    /// and tried again with growing waits.
    #[error(
        "the write was taken, but changed back at once; look for an admission webhook or policy that sets the same labels or annotations"
    )]
    ChangedBack,
    /// The API server could not be asked, or asks to come back later. Tried again with growing waits.
    #[error("{0}")]
    Unavailable(String),
}

impl WriteError {
    /// What [`Self::category`] can be.
    pub(crate) const CATEGORIES: [&str; 6] = ["gone", "changed", "forbidden", "refused", "changed_back", "unavailable"];

    /// A name of few values, for metrics.
    pub(crate) fn category(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Changed => "changed",
            Self::Forbidden(_) => "forbidden",
            Self::Refused(_) => "refused",
            Self::ChangedBack => "changed_back",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl From<kube::Error> for WriteError {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else { return Self::Unavailable(error.to_string()) };
        let is_explained = status.details.as_ref().is_some_and(|details| !details.causes.is_empty());
        match status.code {
            // A webhook answers with whatever code it likes.
            _ if status.message.starts_with("admission webhook ") => Self::Refused(status.message),
            404 => Self::Gone,
            409 => Self::Changed,
            // A JSON patch whose test fails is answered with 422 and no cause; invalid content names its causes.
            422 if !is_explained => Self::Changed,
            // Admission plugins forbid as well.
            403 if is_about_a_right(&status.message) => Self::Forbidden(status.message),
            429 => Self::Unavailable(status.message),
            400..500 => Self::Refused(status.message),
            _ => Self::Unavailable(status.message),
        }
    }
}

/// Whether the words are those for a right that is missing.
fn is_about_a_right(message: &str) -> bool {
    message.contains(": User \"") && message.contains("\" cannot ")
}

/// What a write to a pod returned.
pub(crate) struct Written {
    /// The pod's metadata as it is then; nothing else can have changed by it.
    pub(crate) metadata: ObjectMeta,
    /// Whether all that was written is there.
    pub(crate) is_kept: bool,
}

/// Writes the plan to the pod.
pub(crate) async fn patch_pod(client: Client, pod: PodPatch) -> Result<Written, WriteError> {
    let api: Api<PartialObjectMeta<Pod>> = Api::namespaced(client, &pod.namespace);
    let patch = Patch::Json::<()>(serde_json::from_value(pod.operations).map_err(|error| WriteError::Refused(error.to_string()))?);
    let metadata = within(api.patch(&pod.name, &patch_params(), &patch)).await?.metadata;
    let stands = |values: Option<&BTreeMap<String, String>>, changes: &BTreeMap<String, Option<String>>| {
        changes.iter().all(|(key, value)| values.and_then(|values| values.get(key)) == value.as_ref())
    };
    let is_kept = stands(metadata.labels.as_ref(), &pod.plan.labels) && stands(metadata.annotations.as_ref(), &pod.plan.annotations);
    Ok(Written { metadata, is_kept })
}

/// Writes the status of the policy with this UID, and returns the policy as it is then.
pub(crate) async fn patch_status(client: Client, id: PolicyId, uid: String, status: PodPolicyStatus) -> Result<Observed, WriteError> {
    let PodPolicyStatus { observed_generation, conditions, pods, findings, admission, exec_checked, rollout } = status;
    // Lists replace what was there; null takes away.
    let body = json!({
        "metadata": { "uid": uid },
        "status": {
            "observedGeneration": observed_generation,
            "conditions": conditions,
            "pods": pods,
            "findings": findings,
            "admission": admission.map(|AdmissionStatus { backend, generation, message }| {
                json!({ "backend": backend, "generation": generation, "message": message })
            }),
            "execChecked": exec_checked,
            "rollout": rollout.map(to_patch),
        },
    });
    let (params, patch) = (patch_params(), Patch::Merge(&body));
    match id.kind {
        PolicyKind::PodPolicy => {
            let api: Api<PodPolicy> = Api::namespaced(client, &id.namespace);
            within(api.patch_status(&id.name, &params, &patch)).await.map(Observed::PodPolicy)
        }
        PolicyKind::ClusterPodPolicy => {
            let api: Api<ClusterPodPolicy> = Api::all(client);
            within(api.patch_status(&id.name, &params, &patch)).await.map(Observed::ClusterPodPolicy)
        }
    }
}

fn to_patch(status: RolloutStatus) -> Json {
    let RolloutStatus { phase, updated, total, workload, workload_updated, workload_total, message, generation, started, failure } = status;
    let failure = failure.map(|failure| {
        let mut body = json!(failure);
        body["container"] = json!(failure.container);
        body["exempt"] = json!(failure.exempt);
        body
    });
    json!({
        "phase": phase, "updated": updated, "total": total, "workload": workload, "workloadUpdated": workload_updated,
        "workloadTotal": workload_total, "message": message, "generation": generation, "started": started, "failure": failure,
    })
}

pub(crate) fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

pub(crate) async fn within<T>(write: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
    match tokio::time::timeout(WRITE_TIMEOUT, write).await {
        Ok(result) => result.map_err(WriteError::from),
        Err(_) => Err(WriteError::Unavailable(format!("no answer within {} s", WRITE_TIMEOUT.as_secs()))),
    }
}

/// A plan for one pod, as a JSON patch. It changes the pod with the UID that was decided on and no other, and only while each
/// key that it touches still has the value that was decided on: what somebody wrote meanwhile is never lost.
#[derive(Clone, Debug)]
pub(crate) struct PodPatch {
    namespace: String,
    name: String,
    operations: Json,
    plan: MetadataPlan,
}

impl PodPatch {
    pub(crate) fn new(pod: &podpolicy_engine::Pod, plan: &MetadataPlan) -> Self {
        let mut operations = vec![json!({ "op": "test", "path": "/metadata/uid", "value": pod.uid })];
        for (map, present, changes) in [("labels", &pod.labels, &plan.labels), ("annotations", &pod.annotations, &plan.annotations)] {
            if changes.is_empty() {
                continue;
            }
            if present.is_empty() {
                let path = format!("/metadata/{map}");
                // To the API server an absent path equals null.
                operations.push(json!({ "op": "test", "path": path, "value": null }));
                operations.push(json!({ "op": "add", "path": path, "value": {} }));
            }
            for (key, value) in changes {
                let path = format!("/metadata/{map}/{}", key.replace('~', "~0").replace('/', "~1"));
                operations.push(json!({ "op": "test", "path": path, "value": present.get(key) }));
                operations.push(match value {
                    Some(value) => json!({ "op": "add", "path": path, "value": value }),
                    None => json!({ "op": "remove", "path": path }),
                });
            }
        }
        Self { namespace: pod.namespace.clone(), name: pod.name.clone(), operations: Json::Array(operations), plan: plan.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn category(status: &Json) -> &'static str {
        let status = serde_json::from_value(status.clone()).unwrap();
        WriteError::from(kube::Error::Api(Box::new(status))).category()
    }

    #[test]
    fn answers_of_the_api_server_are_told_apart() {
        let denied = "admission webhook \"guard.example.com\" denied the request: you cannot patch resource \"pods\" like that";
        let by_policy = "pods \"web\" is forbidden: ValidatingAdmissionPolicy 'guard' with binding 'guard' denied request: no";
        let no_right =
            "pods \"web\" is forbidden: User \"jane\" cannot patch resource \"pods\" in API group \"\" in the namespace \"shop\"";
        let explained = json!({ "causes": [{ "reason": "FieldValueInvalid", "message": "Invalid value", "field": "metadata.labels" }] });
        for (code, message, details, wanted) in [
            (404, "pods \"web\" not found", Json::Null, "gone"),
            (409, "Operation cannot be fulfilled on pods \"web\"", Json::Null, "changed"),
            (422, "the server rejected our request due to an error in our request", Json::Null, "changed"),
            (422, "Pod \"web\" is invalid: metadata.labels: Invalid value", explained, "refused"),
            (403, no_right, Json::Null, "forbidden"),
            (403, by_policy, Json::Null, "refused"),
            (403, denied, Json::Null, "refused"),
            (404, denied, Json::Null, "refused"),
            (409, denied, Json::Null, "refused"),
            (422, denied, Json::Null, "refused"),
            (413, "limit is 3145728", Json::Null, "refused"),
            (429, "too many requests", Json::Null, "unavailable"),
            (500, "etcdserver: request timed out", Json::Null, "unavailable"),
        ] {
            let status = json!({ "code": code, "message": message, "details": details });
            assert_eq!(category(&status), wanted, "{status}");
        }
    }
}
