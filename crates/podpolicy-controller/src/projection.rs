//! Kubernetes objects as they are received: only the parts that decisions need. Managed fields, environment and volumes are
//! skipped while parsing and never reach memory that is kept.

use std::borrow::Cow;

use k8s_openapi::{
    ClusterResourceScope, NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Resource, core::DynamicResourceScope, discovery::ApiResource};
use podpolicy_api::RESTART_ANNOTATION;
use podpolicy_engine::Pod;
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

/// A pod, projected to what the engine looks at.
#[derive(Clone, Debug)]
pub(crate) struct ProjectedPod {
    metadata: ObjectMeta,
    pub(crate) pod: Pod,
}

/// A namespace: its labels.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ProjectedNamespace {
    #[serde(deserialize_with = "lean_metadata")]
    metadata: ObjectMeta,
}

/// An object that may select pods: its name and its spec, of which only the selectors are kept.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Selecting {
    #[serde(deserialize_with = "lean_metadata")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: SelectingSpec,
    /// Of a workload, how it stands.
    #[serde(default)]
    pub(crate) status: WorkloadStatus,
}

/// How a workload stands, as its controller reports it; the fields of all kinds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WorkloadStatus {
    pub(crate) observed_generation: Option<i64>,
    pub(crate) replicas: Option<u32>,
    pub(crate) updated_replicas: Option<u32>,
    pub(crate) available_replicas: Option<u32>,
    pub(crate) desired_number_scheduled: Option<u32>,
    pub(crate) updated_number_scheduled: Option<u32>,
    pub(crate) number_available: Option<u32>,
    pub(crate) current_revision: Option<String>,
    pub(crate) update_revision: Option<String>,
    pub(crate) conditions: Option<Vec<WorkloadCondition>>,
}

/// A condition of a workload.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct WorkloadCondition {
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) message: Option<String>,
}

/// How a workload replaces its pods.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateStrategy {
    #[serde(default, rename = "type")]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) rolling_update: Option<RollingUpdate>,
}

/// How a workload rolls.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct RollingUpdate {
    #[serde(default)]
    pub(crate) partition: Option<u32>,
}

/// A pod template: only whether it is another one matters, and its restart stamp.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Template {
    /// Of all but the stamp.
    pub(crate) digest: String,
    pub(crate) stamp: Option<String>,
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut template = serde_json::Value::deserialize(deserializer)?;
        let annotations = template.pointer_mut("/metadata/annotations").and_then(serde_json::Value::as_object_mut);
        let (stamp, is_left_empty) = annotations.map_or((None, false), |annotations| {
            let stamp = annotations.remove(RESTART_ANNOTATION).and_then(|stamp| stamp.as_str().map(str::to_owned));
            (stamp, annotations.is_empty())
        });
        // As it was before there was a stamp.
        if is_left_empty && let Some(metadata) = template.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
            metadata.remove("annotations");
        }
        let digest = Sha256::digest(template.to_string());
        Ok(Self { digest: hex(&digest[..8]), stamp })
    }
}

/// The parts of a spec that hold selectors, whatever the kind.
#[derive(Clone, Debug, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SelectingSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selector: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod_selector: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ingress: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    egress: Option<serde_json::Value>,
    #[serde(default, skip_serializing)]
    pub(crate) replicas: Option<u32>,
    #[serde(default, skip_serializing)]
    pub(crate) paused: Option<bool>,
    #[serde(default, skip_serializing)]
    pub(crate) strategy: Option<UpdateStrategy>,
    #[serde(default, skip_serializing)]
    pub(crate) update_strategy: Option<UpdateStrategy>,
    #[serde(default, skip_serializing)]
    pub(crate) template: Option<Template>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// The metadata that is read; everything else is skipped.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeanMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    #[serde(default)]
    generation: Option<i64>,
    #[serde(default)]
    labels: Option<std::collections::BTreeMap<String, String>>,
    #[serde(default)]
    owner_references: Option<Vec<OwnerReference>>,
}

fn lean_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let LeanMeta { name, namespace, uid, resource_version, generation, labels, owner_references } = LeanMeta::deserialize(deserializer)?;
    Ok(ObjectMeta { name, namespace, uid, resource_version, generation, labels, owner_references, ..ObjectMeta::default() })
}

impl<'de> Deserialize<'de> for ProjectedPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pod = Pod::deserialize(deserializer)?;
        let metadata = ObjectMeta {
            name: Some(pod.name.clone()),
            namespace: Some(pod.namespace.clone()),
            uid: Some(pod.uid.clone()),
            resource_version: Some(pod.resource_version.clone()),
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, pod })
    }
}

impl Resource for ProjectedPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }
    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Resource for ProjectedNamespace {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Namespace".into()
    }
    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        "namespaces".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Resource for Selecting {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }
    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }
    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }
    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn template(annotations: Option<Value>, image: &str) -> Template {
        let mut template =
            json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "web", "image": image }] } });
        if let Some(annotations) = annotations {
            template["metadata"]["annotations"] = annotations;
        }
        serde_json::from_value(template).unwrap()
    }

    #[test]
    fn restart_stamp_makes_no_other_template() {
        let stamped = template(Some(json!({ RESTART_ANNOTATION: "one" })), "a");
        assert_eq!(stamped.stamp.as_deref(), Some("one"));
        assert_eq!(stamped.digest, template(None, "a").digest);
        assert_eq!(stamped.digest.len(), 16);
        assert_ne!(stamped.digest, template(None, "b").digest);
        let annotated = |stamp: Value| template(Some(json!({ "note": "x", RESTART_ANNOTATION: stamp })), "a").digest;
        assert_eq!(annotated("one".into()), annotated("two".into()));
        assert_ne!(annotated("one".into()), stamped.digest);
    }
}
