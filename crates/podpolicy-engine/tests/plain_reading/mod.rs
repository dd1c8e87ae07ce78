//! What manifests mean, worked out a second time and as plainly as can be: what a selector matches, and what a policy asks for.

use std::collections::BTreeMap;

use podpolicy_engine::{Field, HookKind, Pod, ProbeKind, Value};
use serde_json::{Value as Json, json};

use crate::{cluster, generator::World};

/// Whether a policy selects a pod with these labels of its own, worked out anew from the manifest.
pub fn selects(policy: &Json, world: &World, labels: &BTreeMap<String, String>) -> bool {
    let in_scope = match policy["kind"].as_str() {
        Some("PodPolicy") => policy["metadata"]["namespace"] == "shop",
        _ => {
            !world.surroundings.namespace_is_excluded && matches(&policy["spec"]["namespaceSelector"], &world.surroundings.namespace_labels)
        }
    };
    in_scope && !is_exempt(policy, world) && matches(&policy["spec"]["selector"], labels)
}

/// Whether the policy leaves the pods of the pod's controller alone.
fn is_exempt(policy: &Json, world: &World) -> bool {
    let name = format!("{}/{}", policy["kind"].as_str().unwrap(), policy["metadata"]["name"].as_str().unwrap());
    let mut owners = world.pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    world.surroundings.exempting.contains(&name) && owners.any(|owner| owner["controller"] == true && owner["uid"] == "1")
}

/// What a label selector means; one that is absent matches all.
pub fn matches(selector: &Json, labels: &BTreeMap<String, String>) -> bool {
    let equal =
        selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| labels.get(key).is_some_and(|label| value == label));
    equal
        && selector["matchExpressions"].as_array().into_iter().flatten().all(|condition| {
            let label = labels.get(condition["key"].as_str().unwrap());
            let is_listed = label.is_some_and(|label| condition["values"].as_array().is_some_and(|values| values.contains(&json!(label))));
            match condition["operator"].as_str().unwrap() {
                "In" => is_listed,
                "NotIn" => !is_listed,
                "Exists" => label.is_some(),
                _ => label.is_none(),
            }
        })
}

/// The fields of the pod that a policy speaks of, with the values that it wants.
pub fn wishes(policy: &Json, pod: &Pod) -> Vec<(Field, Json)> {
    let spec = &policy["spec"];
    let entries = |map: &Json| map.as_object().cloned().unwrap_or_default();
    let labels = entries(&spec["labels"]).into_iter().map(|(key, value)| (Field::Label(key), value));
    let annotations = entries(&spec["annotations"]).into_iter().map(|(key, value)| (Field::Annotation(key), value));
    let grace_period = spec.get("terminationGracePeriodSeconds").map(|seconds| (Field::GracePeriod, seconds.clone()));
    let mut wishes: Vec<_> = labels.chain(annotations).chain(grace_period).collect();
    for container in pod.template.containers.iter().filter(|container| container.is_eligible()) {
        let applies = |glob: &Json| {
            glob.as_str().is_some_and(|glob| match glob.strip_suffix('*') {
                Some(start) => container.name.starts_with(start),
                None => container.name == glob,
            })
        };
        let rules = spec["containers"].as_array().into_iter().flatten();
        let rules: Vec<_> = rules.filter(|rule| rule["names"].as_array().unwrap().iter().any(applies)).collect();
        let name = || container.name.clone();
        for kind in ProbeKind::ALL {
            let probe = rules.iter().find_map(|rule| rule.get(kind.field_name()));
            wishes.extend(probe.map(|probe| (Field::Probe { container: name(), kind }, probe.clone())));
        }
        for kind in HookKind::ALL {
            let hook = rules.iter().find_map(|rule| rule.get("lifecycle")?.get(kind.field_name()));
            wishes.extend(hook.map(|hook| (Field::Hook { container: name(), kind }, hook.clone())));
        }
        let signal = rules.iter().find_map(|rule| rule.get("lifecycle")?.get("stopSignal"));
        wishes.extend(signal.map(|signal| (Field::StopSignal { container: name() }, signal.clone())));
    }
    wishes
}

/// Whether a field has the value that is wanted; what the policy leaves out may be anything.
pub fn is_value(wanted: &Json, value: Option<&Value>) -> bool {
    cluster::is_part_of(wanted, &serde_json::to_value(value).unwrap())
}
