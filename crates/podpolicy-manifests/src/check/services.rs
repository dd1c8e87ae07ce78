//! The Services among manifests, and which pods they send requests to.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::Object;

/// The Services that are known.
#[derive(Debug, Default)]
pub struct Services(Vec<Service>);

/// A Service that selects pods.
#[derive(Debug)]
pub(super) struct Service {
    namespace: String,
    pub(super) name: String,
    selector: BTreeMap<String, String>,
    /// The ports of the pod that it sends requests to, by number or name.
    pub(super) targets: Vec<Target>,
}

/// A port of a pod.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub(super) enum Target {
    Number(i64),
    Name(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "type")]
    kind: Option<String>,
    selector: Option<BTreeMap<String, String>>,
    ports: Option<Vec<Port>>,
    publish_not_ready_addresses: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    port: Option<i64>,
    target_port: Option<Target>,
}

impl Services {
    /// Takes in an object; `namespace` is where it is. Services to which it does not matter whether a pod is ready are left out.
    pub fn add(&mut self, object: &Object<'_>, namespace: &str) {
        if (object.api_version, object.kind) != ("v1", "Service") {
            return;
        }
        let Ok(spec) = Spec::deserialize(&object.value["spec"] as &Json) else { return };
        let selector = spec.selector.unwrap_or_default();
        let is_blind = spec.publish_not_ready_addresses == Some(true) || spec.kind.as_deref() == Some("ExternalName");
        if selector.is_empty() || is_blind {
            return;
        }
        let target = |port: Port| port.target_port.or(port.port.map(Target::Number));
        self.0.push(Service {
            namespace: namespace.to_owned(),
            name: object.name.to_owned(),
            selector,
            targets: spec.ports.into_iter().flatten().filter_map(target).collect(),
        });
    }

    /// Those that select a pod with these labels.
    pub(super) fn selecting(&self, namespace: &str, labels: &BTreeMap<String, String>) -> impl Iterator<Item = &Service> {
        let is_selected = |service: &&Service| service.selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        self.0.iter().filter(move |service| service.namespace == namespace).filter(is_selected)
    }
}
