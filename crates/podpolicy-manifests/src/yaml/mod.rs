//! A text as documents, and a document as a tree of nodes that know which bytes they are. JSON is YAML in flow style.

mod nodes;
mod parse;
mod tree;
mod value;

pub(crate) use nodes::Nodes;
pub use tree::Document;
pub(crate) use tree::{Kind, NodeId, Style};
pub(crate) use value::{is_merge, is_text, key, value};

use std::sync::OnceLock;

use serde_json::Value as Json;

use crate::{Position, Problem, problem::Flaw};

/// A text and the documents in it.
#[derive(Debug)]
pub struct Manifest {
    text: String,
    documents: Vec<Document>,
    /// Where lines begin, beside the first one, once somebody asks for a place.
    line_starts: OnceLock<Vec<usize>>,
}

/// One step on the way from a document to a value in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// A key of a mapping.
    Key(String),
    /// A place in a list, from 0.
    Index(usize),
}

impl Step {
    /// The way along these keys.
    pub fn keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        keys.into_iter().map(|key| Self::Key(key.to_owned())).collect()
    }
}

impl Manifest {
    /// Reads a text. Fails where it is not YAML, and where it is larger or deeper than any manifest.
    pub fn parse(text: String) -> Result<Self, Problem> {
        let documents = parse::parse(&text)?;
        Ok(Self { text, documents, line_starts: OnceLock::new() })
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text alone, once nothing more is asked of the documents.
    pub fn into_text(self) -> String {
        self.text
    }

    /// The documents; those without content are left out.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// The value of a document, as kubectl reads it: `yes`, `on` and the like are booleans, as in YAML 1.1.
    pub fn value(&self, document: &Document) -> Result<Json, Problem> {
        self.whole(document).map_err(|flaw| self.problem(flaw))
    }

    pub(crate) fn whole(&self, document: &Document) -> Result<Json, Flaw> {
        Self::sound(document)?;
        value::value(&self.text, document, document.root())
    }

    /// A mistake with its place.
    pub(crate) fn problem(&self, Flaw { offset, message }: Flaw) -> Problem {
        let starts = self.line_starts.get_or_init(|| self.text.match_indices('\n').map(|(at, _)| at + 1).collect());
        Problem { position: Position::among(&self.text, starts, offset), message }
    }

    /// Fails where the document is YAML, but no manifest.
    pub(crate) fn sound(document: &Document) -> Result<(), Flaw> {
        document.flaw().map_or(Ok(()), |(offset, message)| Err(Flaw::at(offset, message)))
    }

    /// The value of one node.
    pub(crate) fn node_value(&self, document: &Document, id: NodeId) -> Result<Json, Flaw> {
        value::value(&self.text, document, id)
    }

    /// The value of a key in a mapping, without those that are merged in.
    pub(crate) fn entry(&self, document: &Document, mapping: NodeId, wanted: &str) -> Option<(NodeId, NodeId)> {
        let is_wanted = |name: NodeId| key(&self.text, document, name).is_ok_and(|name| name == wanted);
        document.entries(document.resolve(mapping)).find(|&(name, _)| is_wanted(name))
    }

    /// Whether a document is a Kubernetes object, as far as a look at its first keys tells.
    pub fn is_object(&self, document: &Document) -> bool {
        ["apiVersion", "kind"].iter().all(|key| self.entry(document, document.root(), key).is_some())
    }

    /// The bytes of a document, from its first node to the end of its last one.
    pub fn document_text(&self, document: &Document) -> &str {
        let root = document.node(document.root());
        &self.text[root.head()..root.end()]
    }

    /// The byte at which the deepest value on the path begins that is there.
    pub fn offset(&self, document: &Document, path: &[Step]) -> usize {
        let mut at = document.root();
        let mut offset = document.node(at).head();
        for step in path {
            let next = match step {
                Step::Key(wanted) => self.entry(document, at, wanted),
                Step::Index(index) => document.items(document.resolve(at)).nth(*index).map(|item| (item, item)),
            };
            let Some((name, value)) = next else { break };
            offset = document.node(name).head();
            at = value;
        }
        offset
    }
}
