//! Changes of a text: the bytes to replace so that a document means another value, and all other bytes stay.
//!
//! It compares the tree of the document with the value that is wanted, and goes down only where they differ. What it makes is read again
//! before it is handed out: a text that does not mean what is wanted never gets out.

mod block;
mod check;
mod flow;
mod layout;
mod open_end;
mod tail;
mod write;

pub use open_end::terminated;

use std::ops::Range;

use serde_json::{Map, Value as Json};

use crate::{
    Document, Manifest, Problem,
    edit::{check::Claim, layout::Layout},
    problem::Flaw,
    yaml::{Kind, NodeId, Style, is_merge, key},
};

/// Bytes to replace, and what by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Splice {
    pub(crate) range: Range<usize>,
    pub(crate) text: String,
}

impl Splice {
    fn insert(at: usize, text: String) -> Self {
        Self { range: at..at, text }
    }
}

/// What to replace so that the document means `new` instead of `old`. Both can be a part of what the document says: what neither has stays.
pub(crate) fn edit(manifest: &Manifest, document: &Document, old: &Json, new: &Json) -> Result<Vec<Splice>, Flaw> {
    let head = |document: &Document| document.node(document.root()).head();
    let number = manifest.documents().partition_point(|other| head(other) < head(document));
    let surroundings = layout::surroundings(manifest.text(), manifest.documents(), number);
    // To the parser it ends a line, and so perhaps the document; what is added after the last line would be in the next one.
    layout::check_line_endings(manifest.text(), surroundings.clone())?;
    if old == new {
        return Ok(Vec::new());
    }
    let layout = Layout::of(manifest.text(), document);
    let mut editor = Editor { text: manifest.text(), document, layout, splices: Vec::new(), claims: Some(Vec::new()) };
    editor.node(None, document.root(), old, new)?;
    let Editor { mut splices, claims, .. } = editor;
    splices.sort_by_key(|splice| (splice.range.start, splice.range.end));
    let is_proven = claims.is_some_and(|claims| claims.iter().all(|claim| claim.holds(manifest, document, &splices)));
    // Reading the whole document once more takes as long as reading it the first time.
    if !is_proven || cfg!(debug_assertions) {
        check::check(manifest, document, surroundings, (old, new), &splices)?;
    }
    Ok(splices)
}

/// The text in which a document means another value; all bytes stay that say the same in both.
pub fn rewritten(manifest: &Manifest, document: &Document, new: &Json) -> Result<String, Problem> {
    let old = manifest.value(document)?;
    let splices = edit(manifest, document, &old, new).map_err(|flaw| manifest.problem(flaw))?;
    Ok(apply(manifest.text(), &splices))
}

/// The text with the bytes replaced; the splices are in order.
pub(crate) fn apply(text: &str, splices: &[Splice]) -> String {
    apply_within(text, 0..text.len(), splices)
}

/// Some bytes of the text with those replaced that the splices replace; they are in order, and all are in there.
pub(crate) fn apply_within(text: &str, bytes: Range<usize>, splices: &[Splice]) -> String {
    let added: usize = splices.iter().map(|splice| splice.text.len()).sum();
    let mut edited = String::with_capacity(bytes.len() + added);
    let mut at = bytes.start;
    for Splice { range, text: new } in splices {
        edited.push_str(&text[at..range.start]);
        edited.push_str(new);
        at = range.end;
    }
    edited.push_str(&text[at..bytes.end]);
    edited
}

struct Editor<'a> {
    text: &'a str,
    document: &'a Document,
    layout: Layout,
    splices: Vec<Splice>,
    /// What has to be true of the edited text; none where only reading all of it can tell.
    claims: Option<Vec<Claim<'a>>>,
}

/// The collection that a value is in.
#[derive(Clone, Copy)]
struct Place {
    /// The key, for values of mappings.
    key: Option<NodeId>,
    flow: bool,
    /// The column of the collection's entries.
    column: usize,
}

impl<'a> Editor<'a> {
    /// Makes a node mean another value, which differs from what it means.
    fn node(&mut self, place: Option<Place>, id: NodeId, old: &'a Json, new: &'a Json) -> Result<(), Flaw> {
        let document = self.document;
        let node = document.node(id);
        if node.is_shared() {
            return Err(self
                .problem(id, "a policy changes what has an anchor here, and an alias elsewhere shows the same: write one of the two out"));
        }
        let is_flow = matches!(document.kind(id), Kind::Mapping { flow: true } | Kind::Sequence { flow: true });
        if is_flow && place.is_none_or(|place| !place.flow) {
            self.claim(Claim::Flow { id, old, new });
        }
        match (document.kind(id), old, new) {
            (Kind::Mapping { flow }, Json::Object(old), Json::Object(new)) => {
                let entries: Vec<_> = document.entries(id).collect();
                self.mapping(id, flow, &entries, old, new)
            }
            (Kind::Sequence { flow }, Json::Array(old), Json::Array(new)) if old.len() == new.len() => {
                let place = Place { key: None, flow, column: self.layout.column(self.text, node.start()) };
                let mut changed = document.items(id).zip(old.iter().zip(new)).filter(|(_, (old, new))| old != new);
                changed.try_for_each(|(item, (old, new))| self.node(Some(place), item, old, new))
            }
            (Kind::Scalar(style), _, _) if style != Style::Block && !node.is_absent() && !new.is_object() && !new.is_array() => {
                let text = write::scalar(new, style, self.layout.json);
                if place.is_some_and(|place| !place.flow) {
                    self.claim(Claim::Text { text: text.clone(), value: new.clone() });
                }
                self.splices.push(Splice { range: node.start()..node.end(), text });
                Ok(())
            }
            _ => self.value(place, id, new),
        }
    }

    /// Writes a value anew, whatever is there.
    fn value(&mut self, place: Option<Place>, id: NodeId, new: &Json) -> Result<(), Flaw> {
        let Some(place) = place else { return Err(self.problem(id, "the document is no mapping")) };
        let node = self.document.node(id);
        let properties = &self.text[node.head()..node.start()];
        if properties.contains("!!null") || properties.contains('!') && (new.is_object() || new.is_array()) {
            return Err(self.problem(id, "a tag says that this is something else than what a policy sets: remove the tag"));
        }
        let (from, to) = (node.start(), self.content_end(id));
        if place.flow {
            let text = self.layout.flow(new);
            // A key without a value can do without a colon, too.
            let splice = match place.key.filter(|_| node.is_absent()).map(|key| self.document.node(key).end()) {
                Some(end) => match layout::colon_after(self.text, end) {
                    Some(colon) => Splice::insert(layout::after_properties(self.text, colon), format!(" {text}")),
                    None => Splice::insert(end, format!(": {text}")),
                },
                None => Splice { range: from..to, text },
            };
            self.splices.push(splice);
            return Ok(());
        }
        self.claims = None;
        if let Some(key) = place.key {
            return self.block_value(key, id, place.column, new);
        }
        let text = self.layout.item(new, self.layout.column(self.text, node.head()), self.layout.line_ending(self.text, from));
        self.splices.push(Splice { range: from..to, text });
        Ok(())
    }

    fn mapping(
        &mut self,
        id: NodeId,
        flow: bool,
        entries: &[(NodeId, NodeId)],
        old: &'a Map<String, Json>,
        new: &'a Map<String, Json>,
    ) -> Result<(), Flaw> {
        if flow && !self.text[self.document.node(id).start()..].starts_with('{') {
            return Err(self.problem(id, "a policy adds to this, which has no braces: write {name: value}"));
        }
        let Some(&(first, _)) = entries.first() else { return self.fill(id, flow, entries, &new.iter().collect::<Vec<_>>()) };
        let column = self.layout.column(self.text, self.document.node(first).head());
        let mut removed = Vec::new();
        // What is merged in is said by no entry.
        let mut inherited: Vec<_> = if self.document.has_references() { old.keys().map(String::as_str).collect() } else { Vec::new() };
        for (index, &(name, value)) in entries.iter().enumerate() {
            if is_merge(self.text, self.document, name) {
                continue;
            }
            let spelled = key(self.text, self.document, name)?;
            inherited.retain(|key| *key != spelled);
            let (before, after) = (old.get(&*spelled), new.get(&*spelled));
            if before == after {
                continue;
            }
            if layout::is_marked(self.text, self.document.node(name).head()) {
                return Err(self.problem(name, block::MARKED));
            }
            match (before, after) {
                (Some(old), Some(new)) => self.node(Some(Place { key: Some(name), flow, column }), value, old, new)?,
                (Some(_), None) if flow => removed.push(index),
                (Some(_), None) => self.remove_from_block(name, value)?,
                (None, _) => {}
            }
        }
        if let Some(lost) = inherited.iter().find(|key| !new.contains_key(**key)) {
            return Err(self.problem(id, format!("a policy removes {lost}, which << merges in here: write the mapping out")));
        }
        // What is merged in is not changed there, where others see it, but said anew here.
        let added = new.iter().filter(|(key, value)| old.get(*key).is_none_or(|old| inherited.contains(&key.as_str()) && old != *value));
        let added: Vec<_> = added.collect();
        if flow && removed.len() == entries.len() {
            self.add_to_flow(id, &[], &added);
            return Ok(());
        }
        self.remove_from_flow(entries, &removed);
        self.fill(id, flow, entries, &added)
    }

    /// Adds entries to a mapping.
    fn fill(&mut self, id: NodeId, flow: bool, entries: &[(NodeId, NodeId)], added: &[(&String, &Json)]) -> Result<(), Flaw> {
        match (added.is_empty(), flow) {
            (true, _) => Ok(()),
            (false, true) => {
                self.add_to_flow(id, entries, added);
                Ok(())
            }
            (false, false) => self.add_to_block(entries, added),
        }
    }

    /// Where what a node says ends, without the rest of its last line. An absent value ends with the colon before it.
    fn content_end(&self, id: NodeId) -> usize {
        let node = self.document.node(id);
        let last = match self.document.kind(id) {
            Kind::Scalar(Style::Block) => return layout::block_scalar_end(self.text, node.start(), node.end()),
            // That of a key with a question mark stands before its colon, or where the parser has seen that none comes, which can be behind the
            // document.
            Kind::Scalar(_) if node.is_absent() && !self.text[node.end()..].starts_with(':') => {
                return self.text[..node.end()].trim_end().len();
            }
            Kind::Sequence { flow: false } => self.document.items(id).last(),
            Kind::Mapping { flow: false } => self.document.entries(id).last().map(|(_, value)| value),
            Kind::Scalar(_) | Kind::Sequence { flow: true } | Kind::Mapping { flow: true } | Kind::Alias(_) => None,
        };
        last.map_or(node.end(), |last| self.content_end(last))
    }

    /// Says what has to be true of the edited text.
    fn claim(&mut self, claim: Claim<'a>) {
        if let Some(claims) = &mut self.claims {
            claims.push(claim);
        }
    }

    fn problem(&self, id: NodeId, message: impl Into<String>) -> Flaw {
        Flaw::at(self.document.node(id).head(), message)
    }
}
