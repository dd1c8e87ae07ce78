//! Events of the parser to trees.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag};

use super::{Document, NodeId, Style, value};
use crate::Problem;

/// The largest text that is read, in bytes.
const LARGEST: usize = 256 * 1024 * 1024;

/// The deepest nesting that is read.
const DEEPEST: usize = 128;

/// The most nodes that aliases may stand for in one document.
const MOST_EXPANDED: usize = 100_000;

/// The deepest nesting once aliases stand for what they show.
const DEEPEST_EXPANDED: usize = 256;

/// How many nodes a short document has.
const SHORT: usize = 64;

/// Reads all documents of a text.
pub(super) fn parse(text: &str) -> Result<Vec<Document>, Problem> {
    if text.len() > LARGEST {
        return Err(Problem::at(text, 0, format!("larger than {} MiB: split it into several files", LARGEST >> 20)));
    }
    if text.as_bytes().contains(&0) {
        let at = text.find('\0').unwrap_or_default();
        return Err(Problem::at(text, at, "a NUL byte: the file is binary; exclude it"));
    }
    let options = granit_parser::options! { emit_anchor_events: true, emit_comments: false, flow_nesting_limit: DEEPEST, block_nesting_limit: DEEPEST };
    let mut documents = Vec::new();
    // Documents of one file are often alike.
    let room = |documents: &[Document]| documents.last().map_or(SHORT, Document::len);
    let mut builder = Builder::of(text, 0);
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| unreadable(text, &error))?;
        match event {
            Event::DocumentStart(..) => builder = Builder::of(text, room(&documents)),
            Event::DocumentEnd => documents.extend(std::mem::replace(&mut builder, Builder::of(text, 0)).tree.grown()),
            Event::Scalar(content, style, anchor, tag) => builder.scalar(&content, style, anchor, tag.as_deref(), &span),
            Event::SequenceStart(style, anchor, _) => {
                let id = builder.tree.add_sequence(style == StructureStyle::Flow, bytes(&span));
                builder.open(id, false, anchor);
            }
            Event::MappingStart(style, anchor, _) => {
                let id = builder.tree.add_mapping(style == StructureStyle::Flow, bytes(&span));
                builder.open(id, true, anchor);
            }
            Event::SequenceEnd | Event::MappingEnd => builder.close(span.byte_range().unwrap_or_default().end),
            Event::Anchor(..) => builder.anchor_seen(&span),
            Event::Alias(anchor) => {
                builder.alias(anchor, &span).map_err(|message| Problem::at(text, bytes(&span)[1], message))?;
            }
            _ => {}
        }
    }
    Ok(documents)
}

fn unreadable(text: &str, error: &granit_parser::ScanError) -> Problem {
    let offset = error.marker().byte_offset().unwrap_or_default();
    let line = text.lines().nth(error.marker().line().saturating_sub(1)).unwrap_or_default();
    let hint = if line.contains("{{") || text.contains("{{-") || text.contains("{{ .") {
        value::HELM
    } else if text.lines().any(|line| line.starts_with("<<<<<<< ")) {
        "; a merge conflict is left in it: resolve that first"
    } else {
        ""
    };
    Problem::at(text, offset, format!("not YAML: {}{hint}", error.info()))
}

/// Where a node's tag, its content and its end are.
fn bytes(span: &Span) -> [usize; 3] {
    let range = span.byte_range().unwrap_or_default();
    let head = span.tag_span().and_then(|tag| tag.byte_range()).map_or(range.start, |tag| tag.start.min(range.start));
    [head, range.start, range.end]
}

/// Builds the tree of one document.
struct Builder<'a> {
    text: &'a str,
    /// Whether something stands in the last line, which has no end.
    ends_open: bool,
    tree: Document,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    last: Option<NodeId>,
    /// How many nodes there would be, were each alias written out.
    expanded: usize,
}

/// A collection whose end is still to come.
struct Open {
    id: NodeId,
    is_mapping: bool,
    anchor: usize,
    last: Option<NodeId>,
    /// How many levels are in it, itself included.
    height: usize,
    /// What was counted before it.
    expanded_before: usize,
}

/// What an anchor names, and how much that is.
#[derive(Clone, Copy)]
struct Anchored {
    id: NodeId,
    nodes: usize,
    height: usize,
}

impl<'a> Builder<'a> {
    fn of(text: &'a str, room: usize) -> Self {
        let ends_open = text.rsplit('\n').next().is_some_and(|last| !last.trim_start_matches(' ').is_empty());
        Self { text, ends_open, tree: Document::empty(room), open: Vec::new(), anchors: HashMap::new(), last: None, expanded: 0 }
    }

    fn scalar(&mut self, content: &str, style: ScalarStyle, anchor: usize, tag: Option<&Tag>, span: &Span) {
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted => Style::SingleQuoted,
            ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
        };
        // What the text ends with before its line does has no line ending.
        let ends_open = style == Style::Block && self.ends_open && bytes(span)[2] >= self.text.len();
        let content = if ends_open { content.strip_suffix('\n').unwrap_or(content) } else { content };
        // An absent value is read as a tilde that is not there.
        let content = if style == Style::Plain && span.is_empty() { "" } else { content };
        let is_source = span.slice(self.text) == Some(content);
        if style == Style::Plain && content == "<<" {
            self.tree.refers();
        }
        let is_string = tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
        if style == Style::Plain && !is_string && value::is_beyond_json(content) {
            self.tree.flawed(bytes(span)[1], value::BEYOND_JSON.to_owned());
        }
        let id = self.tree.add_scalar(style, (!is_source).then_some(content), is_string, bytes(span));
        self.attach(Anchored { id, nodes: 1, height: 1 }, anchor);
    }

    fn open(&mut self, id: NodeId, is_mapping: bool, anchor: usize) {
        // Its own height and number of nodes are known at its end.
        self.attach(Anchored { id, nodes: 1, height: 1 }, 0);
        self.open.push(Open { id, is_mapping, anchor, last: None, height: 1, expanded_before: self.expanded - 1 });
    }

    fn close(&mut self, end: usize) {
        let Some(Open { id, is_mapping, anchor, last: _, height, expanded_before }) = self.open.pop() else { return };
        self.tree.close(id, end);
        if let Some(parent) = self.open.last_mut() {
            parent.height = parent.height.max(height + 1);
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { id, nodes: self.expanded - expanded_before, height });
        }
        if is_mapping && let Err(problem) = value::check_keys(self.text, &self.tree, id) {
            self.tree.flawed(problem.0, problem.1);
        }
    }

    fn anchor_seen(&mut self, span: &Span) {
        if let Some(id) = self.last {
            self.tree.begins(id, bytes(span)[1]);
        }
    }

    fn alias(&mut self, anchor: usize, span: &Span) -> Result<(), &'static str> {
        if self.open.iter().any(|open| open.anchor == anchor) {
            return Err("an alias inside of what it stands for: it has no end");
        }
        let target = *self.anchors.get(&anchor).ok_or("an alias without an anchor")?;
        let id = self.tree.add_alias(target.id, bytes(span));
        self.attach(Anchored { id, ..target }, 0);
        if self.expanded > self.tree.len() + MOST_EXPANDED || self.open.len() + target.height > DEEPEST_EXPANDED {
            self.tree.flawed(bytes(span)[0], "aliases stand for more here than any manifest needs; write it out".to_owned());
        }
        Ok(())
    }

    /// Puts a node where it belongs, and remembers what names it.
    fn attach(&mut self, node: Anchored, anchor: usize) {
        let Anchored { id, nodes, height } = node;
        self.last = Some(id);
        self.expanded = self.expanded.saturating_add(nodes);
        if anchor != 0 {
            self.anchors.insert(anchor, node);
        }
        if let Some(open) = self.open.last_mut() {
            self.tree.attach(open.id, open.last, id);
            open.last = Some(id);
            open.height = open.height.max(height + 1);
        }
    }
}
