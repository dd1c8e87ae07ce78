//! A text as documents, and a document as a tree of nodes that know which bytes they are. JSON is YAML in flow style.

mod parse;
mod value;

pub(crate) use value::{is_merge, is_text, key};

use serde_json::Value as Json;

use crate::Problem;

/// A text and the documents in it.
#[derive(Debug)]
pub struct Manifest {
    text: String,
    documents: Vec<Document>,
}

/// One document of a text.
#[derive(Debug)]
pub struct Document {
    nodes: Vec<Node>,
    root: NodeId,
}

/// One step on the way from a document to a value in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// A key of a mapping.
    Key(String),
    /// A place in a list, from 0.
    Index(usize),
}

/// A node's place in its document.
pub(crate) type NodeId = u32;

/// A node: the bytes from `start` to `end` without its anchor and tag; `head` is where those begin. The start of a block scalar is that of its
/// first line, the end of a block collection that of the line after it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) head: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Whether an alias elsewhere shows the same node.
    pub(crate) is_shared: bool,
    /// Whether a tag says that the scalar is a string.
    pub(crate) is_string: bool,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// The text where it differs from the bytes.
    Scalar(Style, Option<Box<str>>),
    Sequence {
        flow: bool,
        items: Vec<NodeId>,
    },
    Mapping {
        flow: bool,
        entries: Vec<(NodeId, NodeId)>,
    },
    Alias(NodeId),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    Block,
}

impl Manifest {
    /// Reads a text. Fails where it is not YAML, and where it is larger or deeper than any manifest.
    pub fn parse(text: String) -> Result<Self, Problem> {
        let documents = parse::parse(&text)?;
        Ok(Self { text, documents })
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The documents; those without content are left out.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// The value of a document, as kubectl reads it: `yes`, `on` and the like are booleans, as in YAML 1.1.
    pub fn value(&self, document: &Document) -> Result<Json, Problem> {
        value::value(&self.text, document)
    }

    /// The byte at which the deepest value on the path begins that is there.
    pub fn offset(&self, document: &Document, path: &[Step]) -> usize {
        let mut at = document.root;
        let mut offset = document.node(at).head;
        for step in path {
            let next = match (&document.node(document.resolve(at)).kind, step) {
                (Kind::Mapping { entries, .. }, Step::Key(wanted)) => {
                    entries.iter().find(|(name, _)| key(&self.text, document, *name).is_ok_and(|name| name == *wanted)).copied()
                }
                (Kind::Sequence { items, .. }, Step::Index(index)) => items.get(*index).map(|&item| (item, item)),
                _ => None,
            };
            let Some((name, value)) = next else { break };
            offset = document.node(name).head;
            at = value;
        }
        offset as usize
    }
}

impl Document {
    pub(crate) fn root(&self) -> NodeId {
        self.root
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// The node itself, or the one that an alias shows.
    pub(crate) fn resolve(&self, id: NodeId) -> NodeId {
        match self.node(id).kind {
            Kind::Alias(target) => target,
            Kind::Scalar(..) | Kind::Sequence { .. } | Kind::Mapping { .. } => id,
        }
    }
}

impl Node {
    pub(crate) fn start(&self) -> usize {
        self.start as usize
    }

    pub(crate) fn end(&self) -> usize {
        self.end as usize
    }

    pub(crate) fn head(&self) -> usize {
        self.head as usize
    }

    /// The text of a scalar; that of other nodes is empty.
    pub(crate) fn scalar<'a>(&'a self, text: &'a str) -> &'a str {
        match &self.kind {
            Kind::Scalar(_, Some(read)) => read,
            Kind::Scalar(_, None) => &text[self.start()..self.end()],
            Kind::Sequence { .. } | Kind::Mapping { .. } | Kind::Alias(_) => "",
        }
    }
}
