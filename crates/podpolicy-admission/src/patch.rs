//! What a pod gets at its creation, as a JSON patch of the pod.

use podpolicy_engine::{ContainerKind, Creation, Field, Pod, STOP_SIGNAL, Setting, Value};
use serde::Serialize;

/// One operation of a JSON patch. It serializes as RFC 6902 has it.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation<'a> {
    /// Adds a value, or replaces the one that is there.
    Add {
        /// A JSON pointer to it.
        path: String,
        /// The value.
        value: Content<'a>,
    },
    /// Removes a value.
    Remove {
        /// A JSON pointer to it.
        path: String,
    },
}

/// What an operation adds.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum Content<'a> {
    /// An object for others to be added to.
    Object {},
    /// The value of a label or an annotation.
    Text(&'a str),
    /// A setting.
    Setting(&'a Value),
}

/// The patch that gives the pod what was decided. It is empty when there is nothing to write.
pub fn patch<'a>(pod: &Pod, creation: &'a Creation) -> Vec<Operation<'a>> {
    let mut operations = Vec::new();
    for (map, present, changes) in
        [("labels", &pod.labels, &creation.metadata.labels), ("annotations", &pod.annotations, &creation.metadata.annotations)]
    {
        if present.is_empty() && !changes.is_empty() {
            operations.push(Operation::Add { path: pointer(&["metadata", map]), value: Content::Object {} });
        }
        for (key, value) in changes {
            let path = pointer(&["metadata", map, &escaped(key)]);
            operations.push(match value {
                Some(value) => Operation::Add { path, value: Content::Text(value) },
                None => Operation::Remove { path },
            });
        }
    }
    let mut given_lifecycle = Vec::new();
    for Setting { field, value } in &creation.settings {
        let value = Content::Setting(value);
        match field {
            Field::GracePeriod => operations.push(Operation::Add { path: pointer(&["spec", "terminationGracePeriodSeconds"]), value }),
            Field::Probe { container, kind } => {
                let Some(Place { list, ref index, .. }) = Place::of(pod, container) else { continue };
                operations.push(Operation::Add { path: pointer(&["spec", list, index, kind.field_name()]), value });
            }
            Field::Hook { container, .. } | Field::StopSignal { container } => {
                let name = if let Field::Hook { kind, .. } = field { kind.field_name() } else { STOP_SIGNAL };
                let Some(Place { list, ref index, has_lifecycle }) = Place::of(pod, container) else { continue };
                if !has_lifecycle && !given_lifecycle.contains(&container) {
                    given_lifecycle.push(container);
                    operations.push(Operation::Add { path: pointer(&["spec", list, index, "lifecycle"]), value: Content::Object {} });
                }
                operations.push(Operation::Add { path: pointer(&["spec", list, index, "lifecycle", name]), value });
            }
            Field::Label(_) | Field::Annotation(_) | Field::Container(_) => {}
        }
    }
    operations
}

/// The JSON pointer (RFC 6901) of these keys, which are escaped already.
fn pointer(keys: &[&str]) -> String {
    let mut pointer = String::with_capacity(keys.iter().map(|key| key.len() + 1).sum());
    for key in keys {
        pointer.push('/');
        pointer.push_str(key);
    }
    pointer
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
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
        let index = containers[..at].iter().filter(|other| is_init(other.kind) == is_init(container.kind)).count();
        let list = if is_init(container.kind) { "initContainers" } else { "containers" };
        Some(Self { list, index: index.to_string(), has_lifecycle: container.has_lifecycle })
    }
}

#[cfg(test)]
mod tests {
    use podpolicy_engine::MetadataPlan;
    use serde_json::json;

    use super::*;

    #[test]
    fn patch_is_one_of_rfc_6902() {
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "annotations": { "a/b~c": "1" } } })).unwrap();
        let metadata = MetadataPlan {
            labels: [("team".to_owned(), Some("a \"b\"".to_owned()))].into(),
            annotations: [("a/b~c".to_owned(), None)].into(),
        };
        let settings = vec![Setting { field: Field::GracePeriod, value: Value::Seconds(60) }];
        let creation = Creation { metadata, settings, ..Creation::default() };
        let want = json!([
            { "op": "add", "path": "/metadata/labels", "value": {} },
            { "op": "add", "path": "/metadata/labels/team", "value": "a \"b\"" },
            { "op": "remove", "path": "/metadata/annotations/a~1b~0c" },
            { "op": "add", "path": "/spec/terminationGracePeriodSeconds", "value": 60 },
        ]);
        assert_eq!(serde_json::to_value(patch(&pod, &creation)).unwrap(), want);
    }
}
