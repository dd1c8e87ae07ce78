//! Events of the parser to trees.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag};

use super::{Document, Kind, Node, NodeId, Style};
use crate::Problem;

/// The largest text that is read, in bytes.
const LARGEST: usize = 256 * 1024 * 1024;

/// The deepest nesting that is read.
const DEEPEST: usize = 128;

/// Reads all documents of a text.
pub(super) fn parse(text: &str) -> Result<Vec<Document>, Problem> {
    if text.len() > LARGEST {
        return Err(Problem::at(text, 0, format!("larger than {} MiB: split it into several files", LARGEST >> 20)));
    }
    if let Some(at) = text.bytes().position(|byte| byte == 0) {
        return Err(Problem::at(text, at, "a NUL byte: the file is binary; exclude it"));
    }
    let options = granit_parser::options! { emit_anchor_events: true, emit_comments: false, flow_nesting_limit: DEEPEST, block_nesting_limit: DEEPEST };
    let mut documents = Vec::new();
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| unreadable(text, &error))?;
        let range = span.byte_range().unwrap_or_default();
        match event {
            Event::DocumentStart(..) => builder = Builder::default(),
            Event::DocumentEnd => documents.extend(std::mem::take(&mut builder).into_document()),
            Event::Scalar(content, style, anchor, tag) => builder.scalar(text, &content, style, anchor, tag.as_deref(), &span),
            Event::SequenceStart(style, anchor, _) => {
                let kind = Kind::Sequence { flow: style == StructureStyle::Flow, items: Vec::new() };
                builder.open(kind, anchor, &span);
            }
            Event::MappingStart(style, anchor, _) => {
                let kind = Kind::Mapping { flow: style == StructureStyle::Flow, entries: Vec::new() };
                builder.open(kind, anchor, &span);
            }
            Event::SequenceEnd | Event::MappingEnd => builder.close(range.end),
            Event::Anchor(..) => builder.anchor_seen(range.start),
            Event::Alias(anchor) => builder.alias(anchor, &span).map_err(|message| Problem::at(text, range.start, message))?,
            _ => {}
        }
    }
    Ok(documents)
}

fn unreadable(text: &str, error: &granit_parser::ScanError) -> Problem {
    let offset = error.marker().byte_offset().unwrap_or_default();
    let line = text.lines().nth(error.marker().line().saturating_sub(1)).unwrap_or_default();
    let hint = if line.contains("{{") || text.contains("{{-") || text.contains("{{ .") {
        "; it looks like a Helm template: render the chart first (helm template), or exclude the file"
    } else {
        ""
    };
    Problem::at(text, offset, format!("not YAML: {}{hint}", error.info()))
}

/// Builds the tree of one document.
#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    open: Vec<Open>,
    root: Option<NodeId>,
    anchors: HashMap<usize, NodeId>,
    last: Option<NodeId>,
}

/// A collection whose end is still to come.
struct Open {
    id: NodeId,
    key: Option<NodeId>,
}

impl Builder {
    fn scalar(&mut self, text: &str, content: &str, style: ScalarStyle, anchor: usize, tag: Option<&Tag>, span: &Span) {
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted => Style::SingleQuoted,
            ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
        };
        // An absent value is read as a tilde that is not there.
        let content = if style == Style::Plain && span.is_empty() { "" } else { content };
        let is_source = span.slice(text) == Some(content);
        let id = self.add(Kind::Scalar(style, (!is_source).then(|| content.into())), anchor, span);
        self.nodes[id as usize].is_string = tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
    }

    fn open(&mut self, kind: Kind, anchor: usize, span: &Span) {
        let id = self.add(kind, anchor, span);
        self.open.push(Open { id, key: None });
    }

    fn close(&mut self, end: usize) {
        if let Some(Open { id, .. }) = self.open.pop() {
            self.nodes[id as usize].end = narrow(end);
        }
    }

    fn anchor_seen(&mut self, start: usize) {
        if let Some(id) = self.last {
            let node = &mut self.nodes[id as usize];
            node.head = node.head.min(narrow(start));
        }
    }

    fn alias(&mut self, anchor: usize, span: &Span) -> Result<(), &'static str> {
        let target = *self.anchors.get(&anchor).ok_or("an alias without an anchor")?;
        if self.open.iter().any(|open| open.id == target) {
            return Err("an alias inside of what it stands for: it has no end");
        }
        self.nodes[target as usize].is_shared = true;
        self.add(Kind::Alias(target), 0, span);
        Ok(())
    }

    fn add(&mut self, kind: Kind, anchor: usize, span: &Span) -> NodeId {
        let id = narrow(self.nodes.len());
        let range = span.byte_range().unwrap_or_default();
        let head = span.tag_span().and_then(|tag| tag.byte_range()).map_or(range.start, |tag| tag.start.min(range.start));
        self.nodes.push(Node {
            head: narrow(head),
            start: narrow(range.start),
            end: narrow(range.end),
            is_shared: false,
            is_string: false,
            kind,
        });
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        self.last = Some(id);
        self.attach(id);
        id
    }

    fn attach(&mut self, id: NodeId) {
        let Some(parent) = self.open.last_mut() else {
            self.root.get_or_insert(id);
            return;
        };
        match &mut self.nodes[parent.id as usize].kind {
            Kind::Sequence { items, .. } => items.push(id),
            Kind::Mapping { entries, .. } => match parent.key.take() {
                Some(key) => entries.push((key, id)),
                None => parent.key = Some(id),
            },
            Kind::Scalar(..) | Kind::Alias(_) => {}
        }
    }

    fn into_document(self) -> Option<Document> {
        let root = self.root?;
        let is_empty = matches!(&self.nodes[root as usize], Node { kind: Kind::Scalar(Style::Plain, _), start, end, .. } if start == end);
        (!is_empty).then_some(Document { nodes: self.nodes, root })
    }
}

fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).expect("texts are smaller than LARGEST")
}
