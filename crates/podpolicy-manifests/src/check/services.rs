//! The Services among manifests, and which pods they send requests to.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value as Json;

use crate::{Manifest, Object, objects};

/// The Services that are known, by namespace and one of the labels that they select on.
#[derive(Debug, Default)]
pub struct Services(HashMap<String, Vec<Service>>);

/// A Service that selects pods.
#[derive(Debug)]
pub(super) struct Service {
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
    /// Takes in all Services of a text; those that name no namespace are in `namespace`. Documents that cannot be read say nothing.
    pub fn add_manifest(&mut self, manifest: &Manifest, namespace: &str) {
        for document in manifest.documents().iter().filter(|document| manifest.document_text(document).contains("Service")) {
            let Ok(value) = manifest.value(document) else { continue };
            for object in objects(&value) {
                self.add(&object, object.namespace.unwrap_or(namespace));
            }
        }
    }

    /// Takes in an object; `namespace` is where it is. Services to which it does not matter whether a pod is ready are left out.
    fn add(&mut self, object: &Object<'_>, namespace: &str) {
        if (object.api_version, object.kind) != ("v1", "Service") {
            return;
        }
        let Ok(spec) = Spec::deserialize(&object.value["spec"] as &Json) else { return };
        let selector = spec.selector.unwrap_or_default();
        let is_blind = spec.publish_not_ready_addresses == Some(true) || spec.kind.as_deref() == Some("ExternalName");
        let Some((key, value)) = selector.first_key_value().filter(|_| !is_blind) else { return };
        let target = |port: Port| port.target_port.or(port.port.map(Target::Number));
        let targets = spec.ports.into_iter().flatten().filter_map(target).collect();
        let place = place(namespace, key, value);
        self.0.entry(place).or_default().push(Service { name: object.name.to_owned(), selector, targets });
    }

    /// Those that select a pod with these labels.
    pub(super) fn selecting<'a>(&'a self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<&'a Service> {
        let is_selected = |service: &&Service| service.selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        let by_label = labels.iter().filter_map(|(key, value)| self.0.get(&place(namespace, key, value)));
        by_label.flatten().filter(is_selected).collect()
    }
}

/// Names and labels have no line breaks.
fn place(namespace: &str, key: &str, value: &str) -> String {
    format!("{namespace}\n{key}\n{value}")
}
