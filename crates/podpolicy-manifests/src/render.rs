//! The policies applied to a text.

use podpolicy_engine::{Creation, Omitted, Pod, Program};
use serde::Deserialize as _;
use serde_json::{Value as Json, json};

use crate::{
    Document, Manifest, Object, Problem, Step,
    change::Change,
    diff,
    edit::{self, Splice},
    objects,
    pods::{self, Described},
    problem::Flaw,
    relevant::relevant,
    setting::{self, Ambiguous},
    wrong_type::{self, Misfit},
};

/// What policies make of a text.
#[derive(Debug, Default)]
pub struct Rendered {
    /// Documents that stay as they are because of a mistake.
    pub problems: Vec<Problem>,
    /// What the policies have to say about pods, in the documents' order.
    pub notes: Vec<Note>,
    splices: Vec<Splice>,
}

impl Rendered {
    /// The text with the policies applied; none where nothing changes. `before` is the text that was rendered.
    pub fn text(&self, before: &str) -> Option<String> {
        (!self.splices.is_empty()).then(|| edit::apply(before, &self.splices))
    }

    /// What changes as the hunks of a unified diff, each with this many lines around what changes; empty where nothing does. `before` is the text
    /// that was rendered.
    pub fn diff(&self, before: &str, context: usize) -> String {
        diff::unified(before, &self.splices, context)
    }
}

/// Something to know about one pod or pod template.
#[derive(Clone, Debug)]
pub struct Note {
    /// Where the pod is described.
    pub problem: Problem,
    /// The object, such as `Deployment shop/web`.
    pub object: String,
    /// Where the object is in its document.
    pub path: Vec<Step>,
    /// The field that it is about, such as `labels[team]`, where it is about one.
    pub field: Option<String>,
}

/// Applies the policies to the pods and pod templates in a text. Objects that name no namespace are in `namespace`.
pub fn render(manifest: &Manifest, program: &Program, namespace: &str) -> Rendered {
    let mut rendered = Rendered::default();
    for document in manifest.documents() {
        match edit_document(manifest, document, program, namespace, &mut rendered.notes) {
            Ok(edits) => rendered.splices.extend(edits),
            Err(flaw) => rendered.problems.push(manifest.problem(flaw)),
        }
    }
    rendered
}

fn edit_document(
    manifest: &Manifest,
    document: &Document,
    program: &Program,
    namespace: &str,
    notes: &mut Vec<Note>,
) -> Result<Vec<Splice>, Flaw> {
    let old = relevant(manifest, document)?;
    let (mut change, mut titles) = (Change::default(), Vec::new());
    for object in objects(&old) {
        let Some(place) = object.template() else { continue };
        let Described { path, template, pod, title } = pods::describe(manifest, document, &object, place, namespace)?;
        let here = |message: String| Flaw::at(manifest.offset(document, &path), message);
        let creation = program.render(&pod);
        let note =
            |field, message| Note { problem: manifest.problem(here(message)), object: title.clone(), path: object.path.clone(), field };
        notes.extend(noted(&creation).into_iter().map(|(field, message)| note(field, message)));
        if creation.is_empty() {
            continue;
        }
        let changed = setting::change(template, &creation).map_err(|Ambiguous { list, index, name }| {
            let container = [path.as_slice(), &Step::keys(["spec", list]), &[Step::Index(index)]].concat();
            let message = format!("{title}: a policy sets something on container {name:?}, and two have that name: give each its own");
            Flaw::at(manifest.offset(document, &container), message)
        })?;
        if let Some(policy) = program.selects_once_given(&pod, &creation) {
            let message = format!(
                "a label that policies set here makes {policy} select it: rendered again, it would change again, and in a cluster it does not; select on labels that workloads set themselves"
            );
            notes.push(note(None, message));
        }
        if !changed.is_empty() {
            *change.at(&path) = changed;
            titles.push(title);
        }
    }
    if change.is_empty() {
        return Ok(Vec::new());
    }
    edit::edit(manifest, document, &change).map_err(|Flaw { offset, message }| match titles.as_slice() {
        [title] => Flaw::at(offset, format!("{title}: {message}")),
        _ => Flaw { offset, message },
    })
}

/// Labels and annotations are strings; numbers and booleans among them are the commonest mistake in manifests.
pub(crate) fn check_texts(manifest: &Manifest, document: &Document, path: &[Step], metadata: &Json) -> Result<(), Flaw> {
    for field in ["labels", "annotations"] {
        let Some((key, value)) = metadata[field].as_object().and_then(|map| map.iter().find(|(_, value)| !value.is_string())) else {
            continue;
        };
        let offset = manifest.offset(document, &[path, &Step::keys(["metadata", field, key])].concat());
        let message = wrong_type::read::<String>(value, |_| {}).err().map(|misfit| misfit.message).unwrap_or_default();
        return Err(Flaw::at(offset, format!("{field}[{key}]: {message}")));
    }
    Ok(())
}

/// The pod that a template makes, as the engine sees it.
pub(crate) fn pod(template: &Json, object: &Object<'_>, namespace: &str) -> Result<Pod, Misfit> {
    let read = |value: &Json| Pod::deserialize(value).or_else(|_| wrong_type::read::<Pod>(value, |_| {}));
    let mut pod = if template["metadata"].is_null() { read(&json!({ "spec": template["spec"] }))? } else { read(template)? };
    namespace.clone_into(&mut pod.namespace);
    object.name.clone_into(&mut pod.name);
    Ok(pod)
}

/// What there is to say of a decision: the field, where there is one, and the message.
fn noted(creation: &Creation) -> Vec<(Option<String>, String)> {
    let findings = creation.verdicts.iter().flat_map(|verdict| {
        let id = verdict.policy.id();
        verdict
            .findings
            .iter()
            .filter(|finding| finding.refused)
            .map(move |finding| (Some(finding.field.to_string()), format!("{}: {id} is refused: {}", finding.field, finding.message)))
    });
    let omitted = match creation.omitted {
        Omitted::Nothing => None,
        Omitted::Metadata | Omitted::Everything => Some((
            None,
            "its annotations would be larger than Kubernetes allows, so that labels and annotations are left out; shorten them".to_owned(),
        )),
    };
    findings.chain(omitted).collect()
}
