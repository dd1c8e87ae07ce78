//! What was decided for a pod, as a change of the value that describes the pod. Numbers that are Kubernetes' defaults are not spelled out, as a
//! person would not.

use std::collections::BTreeMap;

use podpolicy_engine::{Creation, Field, STOP_SIGNAL, Setting};
use serde_json::Value as Json;

use crate::change::Change;

/// Nobody can tell which container a setting is for: this one has the name of an earlier one.
#[derive(Debug)]
pub(crate) struct Ambiguous {
    pub(crate) list: &'static str,
    pub(crate) index: usize,
    pub(crate) name: String,
}

/// What changes in a pod or pod template (metadata and spec) that gets what was decided.
pub(crate) fn change(template: &Json, creation: &Creation) -> Result<Change, Ambiguous> {
    let mut change = Change::default();
    for (field, changes) in [("labels", &creation.metadata.labels), ("annotations", &creation.metadata.annotations)] {
        let old = &template["metadata"][field];
        let changes = changes.iter().filter(|(key, new)| old.get(*key).and_then(Json::as_str) != new.as_deref());
        let changes: BTreeMap<_, _> =
            changes.map(|(key, new)| (key.clone(), new.as_deref().map(|new| Change::To(Json::from(new))))).collect();
        if !changes.is_empty() {
            *change.key("metadata").key(field) = Change::Keys(changes);
        }
    }
    let spec = &template["spec"];
    for Setting { field, value } in &creation.settings {
        let Ok(value) = serde_json::to_value(value) else { continue };
        match field {
            Field::GracePeriod => {
                if let Some(merged) = merge(&spec["terminationGracePeriodSeconds"], value) {
                    *change.key("spec").key("terminationGracePeriodSeconds") = merged;
                }
            }
            Field::Probe { container, kind } => {
                let Some((list, index, container)) = find(spec, container)? else { continue };
                if let Some(merged) = merge(&container[kind.field_name()], value) {
                    *change.key("spec").key(list).item(index).key(kind.field_name()) = merged;
                }
            }
            Field::Hook { container, .. } | Field::StopSignal { container } => {
                let name = if let Field::Hook { kind, .. } = field { kind.field_name() } else { STOP_SIGNAL };
                let Some((list, index, container)) = find(spec, container)? else { continue };
                if let Some(merged) = merge(&container["lifecycle"][name], value) {
                    *change.key("spec").key(list).item(index).key("lifecycle").key(name) = merged;
                }
            }
            Field::Label(_) | Field::Annotation(_) | Field::Container(_) => {}
        }
    }
    Ok(change)
}

/// The container of that name, and where it is.
fn find<'a>(spec: &'a Json, name: &str) -> Result<Option<(&'static str, usize, &'a Json)>, Ambiguous> {
    // Some kinds name containers that say no name.
    let is_it = |container: &Json| container["name"].as_str().unwrap_or_default() == name;
    let containers = ["initContainers", "containers"].into_iter().flat_map(|list| {
        let containers = spec[list].as_array().into_iter().flatten().enumerate();
        containers.map(move |(index, container)| (list, index, container))
    });
    let mut found = containers.filter(|(_, _, container)| is_it(container));
    let first = found.next();
    match found.next() {
        Some((list, index, _)) => Err(Ambiguous { list, index, name: name.to_owned() }),
        None => Ok(first),
    }
}

/// What makes the old value mean the wanted one, and changes no more than that takes.
fn merge(old: &Json, wanted: Json) -> Option<Change> {
    let (there, wanted) = match (old, wanted) {
        (Json::Object(there), Json::Object(wanted)) => (there, wanted),
        (_, wanted) => {
            let wanted = without_defaults(wanted);
            return (*old != wanted).then_some(Change::To(wanted));
        }
    };
    let is_gone = |key: &String, value: &Json| !wanted.contains_key(key) && !value.is_null() && !is_default(key, value);
    let gone = there.iter().filter(|(key, value)| is_gone(key, value)).map(|(key, _)| (key.clone(), None));
    let mut keys: BTreeMap<_, _> = gone.collect();
    for (key, value) in wanted {
        let old = there.get(&key).unwrap_or(&Json::Null);
        if old.is_null() && is_default(&key, &value) {
            continue;
        }
        if let Some(change) = merge(old, value) {
            keys.insert(key, Some(change));
        }
    }
    (!keys.is_empty()).then_some(Change::Keys(keys))
}

/// A probe or hook, or a part of one, as a person would write it.
fn without_defaults(value: Json) -> Json {
    match value {
        Json::Object(map) => {
            let said = map.into_iter().filter(|(key, value)| !is_default(key, value));
            Json::Object(said.map(|(key, value)| (key, without_defaults(value))).collect())
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => value,
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
        "protocol" => *value == "HTTP1",
        "mode" => *value == "Plaintext",
        "service" | "host" => *value == "",
        _ => false,
    }
}
