//! Whether an edited text means what is wanted: nothing gets out that does not.

use std::{cell::RefCell, collections::HashMap, ops::Range};

use serde_json::Value as Json;

use super::{Splice, apply_within};
use crate::{Document, Manifest, change::Change, problem::Flaw, yaml::NodeId};

/// What has to be true of an edited text. Each change makes one of a few bytes, which is read by itself: what stands around them cannot change what
/// they mean, nor they what that means.
pub(super) enum Claim<'a> {
    /// A text that is read alone means a value.
    Text { text: String, value: Json },
    /// What is between braces or brackets means what it did, but for the change.
    Flow { id: NodeId, change: &'a Change },
}

impl Claim<'_> {
    pub(super) fn holds(&self, manifest: &Manifest, document: &Document, splices: &[Splice]) -> bool {
        match self {
            Self::Text { text, value } => means(text, value),
            Self::Flow { id, change } => {
                let node = document.node(*id);
                let Ok(mut wanted) = manifest.node_value(document, *id) else { return false };
                change.apply(&mut wanted);
                let first = splices.partition_point(|splice| splice.range.start < node.start());
                let inside = &splices[first..];
                let inside = &inside[..inside.partition_point(|splice| splice.range.end <= node.end() && splice.range.start < node.end())];
                means(&apply_within(manifest.text(), node.start()..node.end(), inside), &wanted)
            }
        }
    }
}

/// The longest text whose meaning is remembered, and how many such texts are.
const REMEMBERED: (usize, usize) = (4096, 512);

thread_local! {
    /// What short texts mean: a policy adds the same lines to many documents.
    static MEANINGS: RefCell<HashMap<String, Json>> = RefCell::default();
}

/// Whether a text is one document that means the value.
fn means(text: &str, value: &Json) -> bool {
    let known = MEANINGS.with_borrow(|meanings| meanings.get(text).map(|meaning| meaning == value));
    known.unwrap_or_else(|| {
        let Some(meaning) = meaning(text) else { return false };
        let holds = meaning == *value;
        MEANINGS.with_borrow_mut(|meanings| {
            if text.len() <= REMEMBERED.0 && meanings.len() < REMEMBERED.1 {
                meanings.insert(text.to_owned(), meaning);
            }
        });
        holds
    })
}

fn meaning(text: &str) -> Option<Json> {
    let manifest = Manifest::parse(text.to_owned()).ok()?;
    let [document] = manifest.documents() else { return None };
    manifest.value(document).ok()
}

/// Reads the document once more as it would be, with what stands around it.
pub(super) fn check(
    manifest: &Manifest,
    document: &Document,
    surroundings: Range<usize>,
    change: &Change,
    splices: &[Splice],
) -> Result<(), Flaw> {
    let text = manifest.text();
    let here = document.node(document.root()).head();
    let failed = |why: &str| {
        let message = format!(
            "the document cannot be edited without changing something else ({why}); please report it, and write the change by hand"
        );
        Flaw::at(here, message)
    };
    if splices.windows(2).any(|pair| pair[0].range.end > pair[1].range.start) {
        return Err(failed("two changes meet"));
    }
    let edited = Manifest::parse(apply_within(text, surroundings, splices)).map_err(|problem| failed(&problem.message))?;
    let [reread] = edited.documents() else { return Err(failed("it would be several documents")) };
    let value = edited.value(reread).map_err(|problem| failed(&problem.message))?;
    let mut wanted = manifest.whole(document)?;
    change.apply(&mut wanted);
    if value == wanted { Ok(()) } else { Err(failed("it would mean something else")) }
}
