//! Looking into a document without making values of it. Only for documents without aliases and merges: they are not followed.

use serde_json::Value as Json;

use super::{Document, Kind, Manifest, NodeId};
use crate::problem::Flaw;

/// The nodes of a document that refers to nothing.
#[derive(Clone, Copy)]
pub(crate) struct Nodes<'a> {
    pub(crate) manifest: &'a Manifest,
    pub(crate) document: &'a Document,
}

impl<'a> Nodes<'a> {
    /// The value of a key.
    pub(crate) fn get(self, id: NodeId, key: &str) -> Option<NodeId> {
        let text = self.manifest.text();
        self.document.entries(id).find(|&(name, _)| self.document.scalar(text, name) == key).map(|(_, value)| value)
    }

    /// The text of a key's value where that is a string.
    pub(crate) fn text(self, id: NodeId, key: &str) -> Option<&'a str> {
        let value = self.get(id, key)?;
        self.document.is_text(self.manifest.text(), value).then(|| self.document.scalar(self.manifest.text(), value))
    }

    pub(crate) fn is_list(self, id: NodeId) -> bool {
        matches!(self.document.kind(id), Kind::Sequence { .. })
    }

    pub(crate) fn value(self, id: NodeId) -> Result<Json, Flaw> {
        self.manifest.node_value(self.document, id)
    }

    /// The list of objects that an object of the kind is, if it is one.
    pub(crate) fn items_of_list(self, id: NodeId, kind: &str) -> Option<NodeId> {
        self.get(id, "items").filter(|&items| kind.ends_with("List") && self.is_list(items))
    }

    /// The pod or pod template of an object, and its spec; `place` is where objects of that kind have theirs.
    pub(crate) fn template(self, id: NodeId, place: &[&str]) -> Option<(NodeId, NodeId)> {
        let template = place.iter().try_fold(id, |at, key| self.get(at, key))?;
        let spec = self.get(template, "spec")?;
        self.get(spec, "containers").is_some_and(|containers| self.is_list(containers)).then_some((template, spec))
    }
}
