//! The pods that manifests describe.

use podpolicy_engine::Pod;
use serde::Deserialize as _;
use serde_json::{Value as Json, json};

use crate::{Document, Lines, Manifest, Object, Position, Problem, Step, objects};

/// A pod or pod template in a file.
#[derive(Debug)]
pub struct Subject {
    /// Where it is described.
    pub position: Position,
    /// The kind of the object that has it.
    pub kind: String,
    /// The pod; its name is that of the object.
    pub pod: Pod,
}

/// A pod or pod template in an object.
pub(crate) struct Described<'a> {
    /// The way to it, from the document on.
    pub(crate) path: Vec<Step>,
    /// Its metadata and spec.
    pub(crate) template: &'a Json,
    /// The same as the engine sees it.
    pub(crate) pod: Pod,
    /// The object, such as `Deployment shop/web`.
    pub(crate) title: String,
}

/// The pods and pod templates in a text. Objects that name no namespace are in `namespace`.
pub fn subjects(manifest: &Manifest, namespace: &str) -> Result<Vec<Subject>, Problem> {
    let lines = Lines::new(manifest.text());
    let mut found = Vec::new();
    for document in manifest.documents() {
        let value = manifest.value(document)?;
        for object in objects(&value) {
            let Some(place) = object.template() else { continue };
            let Described { path, pod, .. } = describe(manifest, document, &object, place, namespace)?;
            let position = lines.position(manifest.offset(document, &path));
            found.push(Subject { position, kind: object.kind.to_owned(), pod });
        }
    }
    Ok(found)
}

/// The pod at a place in an object.
pub(crate) fn describe<'a>(
    manifest: &Manifest,
    document: &Document,
    object: &Object<'a>,
    place: &[&str],
    namespace: &str,
) -> Result<Described<'a>, Problem> {
    let path: Vec<_> = object.path.iter().cloned().chain(place.iter().map(|key| Step::Key((*key).to_owned()))).collect();
    let template = place.iter().fold(object.value, |value, key| &value[key]);
    let namespace = object.namespace.unwrap_or(namespace);
    let title = format!("{} {namespace}/{}", object.kind, object.name);
    check_texts(manifest, document, &path, &template["metadata"])?;
    let pod = pod(template, object, namespace).map_err(|message| {
        Problem::at(manifest.text(), manifest.offset(document, &path), format!("{title} has no pod that can be read: {message}"))
    })?;
    Ok(Described { path, template, pod, title })
}

/// Labels and annotations are strings; numbers and booleans among them are the commonest mistake in manifests.
fn check_texts(manifest: &Manifest, document: &Document, path: &[Step], metadata: &Json) -> Result<(), Problem> {
    for field in ["labels", "annotations"] {
        let Some((key, value)) = metadata[field].as_object().and_then(|map| map.iter().find(|(_, value)| !value.is_string())) else {
            continue;
        };
        let steps = ["metadata", field, key].map(|key| Step::Key(key.to_owned()));
        let offset = manifest.offset(document, &path.iter().cloned().chain(steps).collect::<Vec<_>>());
        return Err(Problem::at(manifest.text(), offset, format!("{field}[{key}]: a string is wanted, not {value}; put it in quotes")));
    }
    Ok(())
}

/// The pod that a template makes, as the engine sees it.
pub(crate) fn pod(template: &Json, object: &Object<'_>, namespace: &str) -> Result<Pod, String> {
    let read = |value: &Json| Pod::deserialize(value).map_err(|error| error.to_string());
    let mut pod = if template["metadata"].is_null() { read(&json!({ "spec": template["spec"] }))? } else { read(template)? };
    namespace.clone_into(&mut pod.namespace);
    object.name.clone_into(&mut pod.name);
    Ok(pod)
}
