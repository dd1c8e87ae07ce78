//! The end of a mapping in block style. What is added after it could be taken for a part of a block scalar there, and of nothing else: all other
//! values end with their line, or where the indentation gets less. So a block scalar has to be read again.

use serde_json::{Map, Value as Json};

use super::layout;
use crate::{
    Document,
    yaml::{self, Kind, NodeId, Style},
};

/// The key above an end that is further in than what is added.
const ABOVE: &str = "above";

/// The end of a mapping as a document of its own; empty where nothing can be taken for a part of it.
#[derive(Default)]
pub(super) struct Tail {
    pub(super) text: String,
    /// What that says.
    pub(super) meaning: Map<String, Json>,
}

/// The end of the mapping that has this last entry, its keys at the column, up to the byte where something is added. None where it cannot be
/// read by itself.
pub(super) fn tail(text: &str, document: &Document, last: (NodeId, NodeId), column: usize, at: usize) -> Option<Tail> {
    let (mut name, mut value) = last;
    let mut is_item = false;
    loop {
        match document.kind(value) {
            Kind::Mapping { flow: false } => {
                (name, value) = document.entries(value).last()?;
                is_item = false;
            }
            Kind::Sequence { flow: false } => {
                value = document.items(value).last()?;
                name = value;
                is_item = true;
            }
            Kind::Scalar(Style::Block) => break,
            Kind::Scalar(_) | Kind::Mapping { flow: true } | Kind::Sequence { flow: true } | Kind::Alias(_) => return Some(Tail::default()),
        }
    }
    let mut start = document.node(name).head();
    let meaning = yaml::value(text, document, value).ok()?;
    let meaning = if is_item {
        let before = layout::line_before(text, start);
        // An item begins with its dash, in a line of its own.
        let blanks = before.trim_end().strip_suffix('-').filter(|blanks| blanks.chars().all(|char| char == ' '))?.len();
        start = start - before.len() + blanks;
        Json::Array(vec![meaning])
    } else {
        Json::Object(Map::from_iter([(yaml::key(text, document, name).ok()?.into_owned(), meaning)]))
    };
    let own = layout::column(text, start);
    let mut tail = Tail::default();
    match meaning {
        Json::Object(entry) if own == column => tail.meaning = entry,
        meaning => {
            layout::push_blanks(&mut tail.text, column);
            tail.text.push_str(ABOVE);
            tail.text.push_str(":\n");
            tail.meaning.insert(ABOVE.to_owned(), meaning);
        }
    }
    layout::push_blanks(&mut tail.text, own);
    tail.text.push_str(text.get(start..at)?);
    if !tail.text.ends_with('\n') {
        tail.text.push('\n');
    }
    Some(tail)
}
