//! The pods that manifests describe.

use podpolicy_engine::Pod;
use serde_json::Value as Json;

use crate::{Document, Lines, Manifest, Object, Position, Problem, Step, objects, problem::Flaw, render, wrong_type::Misfit};

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
            let described = describe(manifest, document, &object, place, namespace);
            let Described { path, pod, .. } = described.map_err(|flaw| manifest.problem(flaw))?;
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
) -> Result<Described<'a>, Flaw> {
    let path = [object.path.clone(), Step::keys(place.iter().copied())].concat();
    let template = place.iter().fold(object.value, |value, key| &value[key]);
    let title = object.title(namespace);
    let namespace = object.namespace.unwrap_or(namespace);
    render::check_texts(manifest, document, &path, &template["metadata"])
        .map_err(|Flaw { offset, message }| Flaw::at(offset, format!("{title}: {message}")))?;
    let pod = render::pod(template, object, namespace).map_err(|misfit| {
        let (from, field) = (object.path.len(), [path.as_slice(), &misfit.path].concat());
        let told = Misfit { path: field[from..].to_vec(), message: misfit.message }.told();
        Flaw::at(manifest.offset(document, &field), format!("{title}: {told}"))
    })?;
    Ok(Described { path, template, pod, title })
}
