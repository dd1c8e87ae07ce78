//! The policies applied to a text.

use podpolicy_engine::{Creation, Omitted, Program};

use crate::{
    Document, Manifest, Problem, Step, edit, objects,
    pods::{self, Described},
    setting,
};

/// What policies make of a text.
#[derive(Debug, Default)]
pub struct Rendered {
    /// The text with the policies applied; none where nothing changes.
    pub text: Option<String>,
    /// Documents that stay as they are because of a mistake.
    pub problems: Vec<Problem>,
    /// What the policies have to say about pods, in the documents' order.
    pub notes: Vec<Note>,
}

/// Something to know about one pod or pod template.
#[derive(Clone, Debug)]
pub struct Note {
    /// Where the pod is described.
    pub problem: Problem,
    /// The object, such as `Deployment shop/web`.
    pub object: String,
}

/// Applies the policies to the pods and pod templates in a text. Objects that name no namespace are in `namespace`.
pub fn render(manifest: &Manifest, program: &Program, namespace: &str) -> Rendered {
    let mut rendered = Rendered::default();
    let mut splices = Vec::new();
    for document in manifest.documents() {
        match edit_document(manifest, document, program, namespace, &mut rendered.notes) {
            Ok(edits) => splices.extend(edits),
            Err(problem) => rendered.problems.push(problem),
        }
    }
    if !splices.is_empty() {
        rendered.text = Some(edit::apply(manifest.text(), splices));
    }
    rendered
}

fn edit_document(
    manifest: &Manifest,
    document: &Document,
    program: &Program,
    namespace: &str,
    notes: &mut Vec<Note>,
) -> Result<Vec<edit::Splice>, Problem> {
    let old = manifest.value(document)?;
    let mut new = None;
    for object in objects(&old) {
        let Some(place) = object.template() else { continue };
        let Described { path, pod, title, .. } = pods::describe(manifest, document, &object, place, namespace)?;
        let here = |message: String| Problem::at(manifest.text(), manifest.offset(document, &path), message);
        let creation = program.create(&pod);
        notes.extend(noted(&creation).into_iter().map(|message| Note { problem: here(message), object: title.clone() }));
        if creation.is_empty() {
            continue;
        }
        let new = new.get_or_insert_with(|| old.clone());
        let changed = path.iter().fold(new, |value, step| match step {
            Step::Key(key) => &mut value[key.as_str()],
            Step::Index(index) => &mut value[*index],
        });
        setting::apply(changed, &creation);
        let again = program.create(&pods::pod(changed, &object, &pod.namespace).map_err(here)?);
        if let Some(message) = selected_by_labels(&creation, &again) {
            notes.push(Note { problem: here(message), object: title });
        }
    }
    match new {
        Some(new) if new != old => edit::edit(manifest, document, &old, &new),
        Some(_) | None => Ok(Vec::new()),
    }
}

/// That the labels which were set make another policy select the pod.
pub(crate) fn selected_by_labels(creation: &Creation, again: &Creation) -> Option<String> {
    let is_new = |id| creation.verdicts.iter().all(|before| before.policy.id() != id);
    let verdict = again.verdicts.iter().find(|verdict| is_new(verdict.policy.id()))?;
    Some(format!(
        "a label that policies set here makes {} select it: rendered again, it would change again, and in a cluster it does not; select on labels that workloads set themselves",
        verdict.policy.id()
    ))
}

fn noted(creation: &Creation) -> Vec<String> {
    let findings = creation.verdicts.iter().flat_map(|verdict| {
        let id = verdict.policy.id();
        verdict
            .findings
            .iter()
            .filter(|finding| finding.refused)
            .map(move |finding| format!("{}: {id} is refused: {}", finding.field, finding.message))
    });
    let omitted = match creation.omitted {
        Omitted::Nothing => None,
        Omitted::Metadata | Omitted::Everything => Some(
            "its annotations would be larger than Kubernetes allows, so that labels and annotations are left out; shorten them".to_owned(),
        ),
    };
    findings.chain(omitted).collect()
}
