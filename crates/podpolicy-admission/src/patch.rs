//! What a pod gets at its creation, as a JSON patch of the pod.

use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, jsonptr::PointerBuf};
use podpolicy_engine::{ContainerKind, Creation, Field, Pod, Setting};
use serde_json::{Value as Json, json};

/// The patch that gives the pod what was decided. It is empty when there is nothing to write.
pub fn patch(pod: &Pod, creation: &Creation) -> Patch {
    let mut operations = Vec::new();
    for (map, present, changes) in
        [("labels", &pod.labels, &creation.metadata.labels), ("annotations", &pod.annotations, &creation.metadata.annotations)]
    {
        if present.is_empty() && !changes.is_empty() {
            operations.push(add(&["metadata", map], json!({})));
        }
        for (key, value) in changes {
            let path = ["metadata", map, key];
            operations.push(match value {
                Some(value) => add(&path, value.as_str().into()),
                None => PatchOperation::Remove(RemoveOperation { path: PointerBuf::from_tokens(path) }),
            });
        }
    }
    let mut given_lifecycle = Vec::new();
    for Setting { field, value } in &creation.settings {
        let value = serde_json::to_value(value).expect("settings have only strings for keys");
        match field {
            Field::GracePeriod => operations.push(add(&["spec", "terminationGracePeriodSeconds"], value)),
            Field::Probe { container, kind } => {
                let Some(place) = Place::of(pod, container) else { continue };
                operations.push(add(&["spec", place.list, &place.index, kind.field_name()], value));
            }
            Field::Hook { container, kind } => {
                let Some(place) = Place::of(pod, container) else { continue };
                if !place.has_lifecycle && !given_lifecycle.contains(container) {
                    given_lifecycle.push(container.clone());
                    operations.push(add(&["spec", place.list, &place.index, "lifecycle"], json!({})));
                }
                operations.push(add(&["spec", place.list, &place.index, "lifecycle", kind.field_name()], value));
            }
            Field::Label(_) | Field::Annotation(_) | Field::Container(_) => {}
        }
    }
    Patch(operations)
}

/// Where a container is in a pod.
struct Place {
    list: &'static str,
    index: String,
    has_lifecycle: bool,
}

impl Place {
    fn of(pod: &Pod, name: &str) -> Option<Self> {
        let is_init = |kind: ContainerKind| match kind {
            ContainerKind::Init | ContainerKind::Sidecar => true,
            ContainerKind::Application => false,
        };
        let containers = &pod.template.containers;
        let at = containers.iter().position(|container| container.name == name)?;
        let container = &containers[at];
        let before = containers[..at].iter().filter(|other| is_init(other.kind) == is_init(container.kind)).count();
        let list = if is_init(container.kind) { "initContainers" } else { "containers" };
        Some(Self { list, index: before.to_string(), has_lifecycle: container.has_lifecycle })
    }
}

fn add(path: &[&str], value: Json) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path.iter().copied()), value })
}
