//! The tree of a document. A folder of manifests has many nodes, so they are small, and have no allocation of their own.

use std::ops::Range;

use super::is_text;

/// One document of a text.
#[derive(Debug)]
pub struct Document {
    nodes: Vec<Node>,
    /// The texts of scalars that are not written as they are read.
    texts: Vec<Box<str>>,
    has_references: bool,
    flaw: Option<(u32, Box<str>)>,
}

/// A node's place in its document.
pub(crate) type NodeId = u32;

/// No node.
const NONE: u32 = u32::MAX;

/// A node: the bytes from `start` to `end` without its anchor and tag; `head` is where those begin. The start of a block scalar is that of its
/// first line, the end of a block collection that of the line after it.
#[derive(Debug)]
pub(crate) struct Node {
    head: u32,
    start: u32,
    end: u32,
    /// The next one in the same collection.
    next: u32,
    /// The first one in a collection; the place of a scalar's text in `texts`; what an alias shows.
    inner: u32,
    /// Whether an alias elsewhere shows the same node.
    is_shared: bool,
    /// Whether a tag says that the scalar is a string.
    is_string: bool,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shape {
    Scalar(Style),
    Sequence { flow: bool },
    Mapping { flow: bool },
    Alias,
}

/// What a node is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Scalar(Style),
    Sequence { flow: bool },
    Mapping { flow: bool },
    Alias(NodeId),
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    Block,
}

impl Document {
    /// The first node.
    #[allow(clippy::unused_self, reason = "it is the document's")]
    pub(crate) fn root(&self) -> NodeId {
        0
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        0..narrow(self.nodes.len())
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// Whether any node shows another one, or merges in what is written elsewhere.
    pub(crate) fn has_references(&self) -> bool {
        self.has_references
    }

    /// What makes it no manifest, and where.
    pub(crate) fn flaw(&self) -> Option<(usize, &str)> {
        self.flaw.as_ref().map(|(offset, message)| (*offset as usize, &**message))
    }

    pub(crate) fn kind(&self, id: NodeId) -> Kind {
        let node = self.node(id);
        match node.shape {
            Shape::Scalar(style) => Kind::Scalar(style),
            Shape::Sequence { flow } => Kind::Sequence { flow },
            Shape::Mapping { flow } => Kind::Mapping { flow },
            Shape::Alias => Kind::Alias(node.inner),
        }
    }

    /// The node itself, or the one that an alias shows.
    pub(crate) fn resolve(&self, id: NodeId) -> NodeId {
        match self.kind(id) {
            Kind::Alias(target) => target,
            Kind::Scalar(_) | Kind::Sequence { .. } | Kind::Mapping { .. } => id,
        }
    }

    /// The items of a sequence; other nodes have none.
    pub(crate) fn items(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let first = match self.node(id).shape {
            Shape::Sequence { .. } => self.node(id).inner,
            Shape::Scalar(_) | Shape::Mapping { .. } | Shape::Alias => NONE,
        };
        self.siblings(first)
    }

    /// The keys of a mapping with their values; other nodes have none.
    pub(crate) fn entries(&self, id: NodeId) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        let first = match self.node(id).shape {
            Shape::Mapping { .. } => self.node(id).inner,
            Shape::Scalar(_) | Shape::Sequence { .. } | Shape::Alias => NONE,
        };
        let mut nodes = self.siblings(first);
        std::iter::from_fn(move || Some((nodes.next()?, nodes.next()?)))
    }

    /// A node and all that is in it: they follow each other.
    pub(crate) fn within(&self, id: NodeId) -> Range<NodeId> {
        let mut last = id;
        while let Some(inner) = match self.node(last).shape {
            Shape::Sequence { .. } | Shape::Mapping { .. } => self.siblings(self.node(last).inner).last(),
            Shape::Scalar(_) | Shape::Alias => None,
        } {
            last = inner;
        }
        id..last + 1
    }

    /// The first node in there that an alias elsewhere shows.
    pub(crate) fn shared_within(&self, id: NodeId) -> Option<NodeId> {
        if !self.has_references {
            return None;
        }
        let inside = self.within(id);
        let elsewhere = self.ids().filter(|other| !inside.contains(other));
        let shown = elsewhere.filter_map(|other| match self.kind(other) {
            Kind::Alias(target) => Some(target),
            Kind::Scalar(_) | Kind::Sequence { .. } | Kind::Mapping { .. } => None,
        });
        shown.filter(|target| inside.contains(target)).min()
    }

    fn siblings(&self, first: u32) -> impl Iterator<Item = NodeId> + '_ {
        let some = |id: u32| (id != NONE).then_some(id);
        std::iter::successors(some(first), move |&id| some(self.node(id).next))
    }

    /// Whether the node is a string.
    pub(crate) fn is_text(&self, text: &str, id: NodeId) -> bool {
        match self.kind(id) {
            Kind::Scalar(Style::Plain) => self.node(id).is_string || is_text(self.scalar(text, id)),
            Kind::Scalar(Style::SingleQuoted | Style::DoubleQuoted | Style::Block) => true,
            Kind::Sequence { .. } | Kind::Mapping { .. } | Kind::Alias(_) => false,
        }
    }

    /// The text of a scalar; that of other nodes is empty.
    pub(crate) fn scalar<'a>(&'a self, text: &'a str, id: NodeId) -> &'a str {
        let node = self.node(id);
        match node.shape {
            Shape::Scalar(_) if node.inner == NONE => &text[node.start()..node.end()],
            Shape::Scalar(_) => &self.texts[node.inner as usize],
            Shape::Sequence { .. } | Shape::Mapping { .. } | Shape::Alias => "",
        }
    }
}

impl Node {
    pub(crate) fn head(&self) -> usize {
        self.head as usize
    }

    pub(crate) fn start(&self) -> usize {
        self.start as usize
    }

    pub(crate) fn end(&self) -> usize {
        self.end as usize
    }

    /// Whether nothing is written there. Of an empty block scalar, its header is.
    pub(crate) fn is_absent(&self) -> bool {
        self.start == self.end && self.shape == Shape::Scalar(Style::Plain)
    }

    /// Whether an alias elsewhere shows the same node.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Whether a tag says that the scalar is a string.
    pub(crate) fn is_string(&self) -> bool {
        self.is_string
    }
}

/// How a document grows, node by node, the root first.
impl Document {
    /// About as many nodes are expected as there is room for.
    pub(super) fn empty(room: usize) -> Self {
        Self { nodes: Vec::with_capacity(room), texts: Vec::new(), has_references: false, flaw: None }
    }

    /// Adds a node that is in nothing yet.
    fn add(&mut self, shape: Shape, inner: u32, [head, start, end]: [usize; 3]) -> NodeId {
        let id = narrow(self.nodes.len());
        let (head, start, end) = (narrow(head), narrow(start), narrow(end));
        self.nodes.push(Node { head, start, end, next: NONE, inner, is_shared: false, is_string: false, shape });
        id
    }

    /// The document shows or merges what is written elsewhere.
    pub(super) fn refers(&mut self) {
        self.has_references = true;
    }

    /// Adds a scalar, with its text where that is not what is written.
    pub(super) fn add_scalar(&mut self, style: Style, read: Option<&str>, is_string: bool, bytes: [usize; 3]) -> NodeId {
        let inner = read.map_or(NONE, |read| {
            self.texts.push(read.into());
            narrow(self.texts.len() - 1)
        });
        let id = self.add(Shape::Scalar(style), inner, bytes);
        self.nodes[id as usize].is_string = is_string;
        id
    }

    pub(super) fn add_sequence(&mut self, flow: bool, bytes: [usize; 3]) -> NodeId {
        self.add(Shape::Sequence { flow }, NONE, bytes)
    }

    pub(super) fn add_mapping(&mut self, flow: bool, bytes: [usize; 3]) -> NodeId {
        self.add(Shape::Mapping { flow }, NONE, bytes)
    }

    pub(super) fn add_alias(&mut self, target: NodeId, bytes: [usize; 3]) -> NodeId {
        self.nodes[target as usize].is_shared = true;
        self.has_references = true;
        self.add(Shape::Alias, target, bytes)
    }

    /// Puts a node into a collection, after the last one there.
    pub(super) fn attach(&mut self, collection: NodeId, last: Option<NodeId>, id: NodeId) {
        match last {
            Some(last) => self.nodes[last as usize].next = id,
            None => self.nodes[collection as usize].inner = id,
        }
    }

    pub(super) fn close(&mut self, id: NodeId, end: usize) {
        self.nodes[id as usize].end = narrow(end);
    }

    /// An anchor stands there, before the node.
    pub(super) fn begins(&mut self, id: NodeId, head: usize) {
        let node = &mut self.nodes[id as usize];
        node.head = node.head.min(narrow(head));
    }

    /// Remembers the first thing that makes the document no manifest.
    pub(super) fn flawed(&mut self, offset: usize, message: String) {
        self.flaw.get_or_insert_with(|| (narrow(offset), message.into()));
    }

    /// How many nodes there are so far.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The whole document; none where nothing is written in it.
    pub(super) fn grown(mut self) -> Option<Self> {
        self.nodes.shrink_to_fit();
        let root = self.nodes.first()?;
        (!root.is_absent()).then_some(self)
    }
}

fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).expect("texts are smaller than u32::MAX")
}
