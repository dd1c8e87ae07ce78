//! What was decided for a pod, put into the value that describes the pod. Numbers that are Kubernetes' defaults are not spelled out, as a
//! person would not.

use podpolicy_engine::{Creation, Field, Setting};
use serde_json::{Map, Value as Json, json};

/// Gives a pod or pod template (metadata and spec) what was decided.
pub(crate) fn apply(template: &mut Json, creation: &Creation) {
    for (field, changes) in [("labels", &creation.metadata.labels), ("annotations", &creation.metadata.annotations)] {
        if changes.is_empty() {
            continue;
        }
        let map = object(entry(object(entry(object(template), "metadata")), field));
        for (key, change) in changes {
            match change {
                Some(value) => map.insert(key.clone(), Json::from(value.as_str())),
                None => map.remove(key),
            };
        }
    }
    for Setting { field, value } in &creation.settings {
        let Ok(value) = serde_json::to_value(value) else { continue };
        let spec = &mut template["spec"];
        match field {
            Field::GracePeriod => merge(entry(object(spec), "terminationGracePeriodSeconds"), &value),
            Field::Probe { container, kind } => {
                let Some(container) = find(spec, container) else { continue };
                merge(entry(container, kind.field_name()), &value);
            }
            Field::Hook { container, kind } => {
                let Some(container) = find(spec, container) else { continue };
                merge(entry(object(entry(container, "lifecycle")), kind.field_name()), &value);
            }
            Field::Label(_) | Field::Annotation(_) | Field::Container(_) => {}
        }
    }
}

fn entry<'a>(map: &'a mut Map<String, Json>, key: &str) -> &'a mut Json {
    map.entry(key).or_insert(Json::Null)
}

/// The value as a mapping; what is no mapping becomes one.
fn object(value: &mut Json) -> &mut Map<String, Json> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was made one")
}

fn find<'a>(spec: &'a mut Json, name: &str) -> Option<&'a mut Map<String, Json>> {
    let spec = spec.as_object_mut()?;
    // Some kinds name containers that say no name.
    let is_it = |container: &Json| container["name"].as_str().unwrap_or_default() == name;
    let list = ["initContainers", "containers"]
        .into_iter()
        .find(|list| spec.get(*list).and_then(Json::as_array).is_some_and(|containers| containers.iter().any(is_it)))?;
    let containers = spec.get_mut(list)?.as_array_mut()?;
    containers.iter_mut().find(|container| is_it(container))?.as_object_mut()
}

/// Makes what is there mean the wanted value, changing no more than that takes.
fn merge(old: &mut Json, wanted: &Json) {
    let Json::Object(wanted) = wanted else {
        if *old != *wanted {
            *old = wanted.clone();
        }
        return;
    };
    let old = object(old);
    old.retain(|key, value| wanted.contains_key(key) || value.is_null() || is_default(key, value));
    for (key, value) in wanted {
        match old.get_mut(key) {
            Some(there) if !there.is_null() || !is_default(key, value) => merge(there, value),
            None if !is_default(key, value) => merge(entry(old, key), value),
            Some(_) | None => {}
        }
    }
}

/// Whether the field of a probe or hook has the value that Kubernetes takes where none is given.
fn is_default(field: &str, value: &Json) -> bool {
    match field {
        "initialDelaySeconds" => *value == 0,
        "timeoutSeconds" | "successThreshold" => *value == 1,
        "periodSeconds" => *value == 10,
        "failureThreshold" => *value == 3,
        "scheme" => *value == "HTTP",
        "service" | "host" => *value == "",
        _ => false,
    }
}
