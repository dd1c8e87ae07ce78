//! Changes of a text: the bytes to replace so that a document means another value, and all other bytes stay.
//!
//! It goes down the tree of the document only where something changes. What it makes is read again before it is handed out: a text that does not mean
//! what is wanted never gets out.

mod block;
mod check;
mod flow;
mod layout;
mod open_end;
mod tail;
mod write;

pub use open_end::terminated;

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

use serde_json::Value as Json;

use crate::{
    Document, Manifest, Problem,
    change::Change,
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

/// What to replace so that the document means what the change makes of it.
pub(crate) fn edit(manifest: &Manifest, document: &Document, change: &Change) -> Result<Vec<Splice>, Flaw> {
    let head = |document: &Document| document.node(document.root()).head();
    let number = manifest.documents().partition_point(|other| head(other) < head(document));
    let surroundings = layout::surroundings(manifest.text(), manifest.documents(), number);
    // To the parser it ends a line, and so perhaps the document; what is added after the last line would be in the next one.
    layout::check_line_endings(manifest.text(), surroundings.clone())?;
    let layout = Layout::of(manifest.text(), document);
    // What an alias shows is not read with the few bytes around it.
    let claims = (!document.has_references()).then(Vec::new);
    let mut editor = Editor { manifest, text: manifest.text(), document, layout, splices: Vec::new(), claims };
    editor.node(None, document.root(), change)?;
    let Editor { mut splices, claims, .. } = editor;
    splices.sort_by_key(|splice| (splice.range.start, splice.range.end));
    let is_proven = claims.is_some_and(|claims| claims.iter().all(|claim| claim.holds(manifest, document, &splices)));
    // Reading the whole document once more takes as long as reading it the first time.
    if !is_proven || cfg!(debug_assertions) {
        check::check(manifest, document, surroundings, change, &splices)?;
    }
    Ok(splices)
}

/// The text in which a document means another value; all bytes stay that say the same in both.
pub fn rewritten(manifest: &Manifest, document: &Document, new: &Json) -> Result<String, Problem> {
    let Some(change) = Change::between(&manifest.value(document)?, new) else { return Ok(manifest.text().to_owned()) };
    let splices = edit(manifest, document, &change).map_err(|flaw| manifest.problem(flaw))?;
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

const SHARED: &str = "a policy changes what has an anchor here, and an alias elsewhere shows the same: write one of the two out";

struct Editor<'a> {
    manifest: &'a Manifest,
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
    /// Makes a node mean what the change makes of it.
    fn node(&mut self, place: Option<Place>, id: NodeId, change: &'a Change) -> Result<(), Flaw> {
        let document = self.document;
        let node = document.node(id);
        if node.is_shared() {
            return Err(self.problem(id, SHARED));
        }
        let is_flow = matches!(document.kind(id), Kind::Mapping { flow: true } | Kind::Sequence { flow: true });
        if is_flow && place.is_none_or(|place| !place.flow) {
            self.claim(Claim::Flow { id, change });
        }
        match (document.kind(id), change) {
            (Kind::Mapping { flow }, Change::Keys(keys)) => self.mapping(id, flow, keys),
            (Kind::Sequence { flow }, Change::Items(items)) => {
                let place = Place { key: None, flow, column: self.layout.column(self.text, node.start()) };
                let mut changed = document.items(id).enumerate().filter_map(|(index, item)| Some((item, items.get(&index)?)));
                changed.try_for_each(|(item, change)| self.node(Some(place), item, change))
            }
            (Kind::Scalar(style), Change::To(new)) if style != Style::Block && !node.is_absent() && !new.is_object() && !new.is_array() => {
                let text = write::scalar(new, style, self.layout.json);
                if place.is_some_and(|place| !place.flow) {
                    self.claim(Claim::Text { text: text.clone(), value: new.clone() });
                }
                self.splices.push(Splice { range: node.start()..node.end(), text });
                Ok(())
            }
            (_, Change::To(new)) => self.value(place, id, new),
            (_, Change::Keys(_) | Change::Items(_)) => self.value(place, id, &change.of(self.manifest.node_value(document, id)?)),
        }
    }

    /// Writes a value anew, whatever is there.
    fn value(&mut self, place: Option<Place>, id: NodeId, new: &Json) -> Result<(), Flaw> {
        let Some(place) = place else { return Err(self.problem(id, "the document is no mapping")) };
        self.is_nowhere_else(id)?;
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

    fn mapping(&mut self, id: NodeId, flow: bool, keys: &'a BTreeMap<String, Option<Change>>) -> Result<(), Flaw> {
        let document = self.document;
        if flow && !self.text[document.node(id).start()..].starts_with('{') {
            return Err(self.problem(id, "a policy adds to this, which has no braces: write {name: value}"));
        }
        let entries: Vec<_> = document.entries(id).collect();
        let column = entries.first().map_or(0, |&(first, _)| self.layout.column(self.text, document.node(first).head()));
        let (mut said, mut removed) = (Vec::with_capacity(keys.len()), Vec::new());
        for (index, &(name, value)) in entries.iter().enumerate() {
            if said.len() == keys.len() {
                break;
            }
            if is_merge(self.text, document, name) {
                continue;
            }
            let Some((spelled, change)) = keys.get_key_value(&*key(self.text, document, name)?) else { continue };
            said.push(spelled);
            if layout::is_marked(self.text, document.node(name).head()) {
                return Err(self.problem(name, block::MARKED));
            }
            if let Some(change) = change {
                self.node(Some(Place { key: Some(name), flow, column }), value, change)?;
                continue;
            }
            self.is_nowhere_else(name)?;
            self.is_nowhere_else(value)?;
            if flow {
                removed.push(index);
            } else {
                self.remove_from_block(name, value)?;
            }
        }
        let mut added = Vec::new();
        let unsaid = keys.iter().filter(|(key, _)| !said.contains(key));
        // What is merged in is said by no entry. It is not changed there, where others see it, but said anew here.
        let merged =
            if document.has_references() && said.len() < keys.len() { self.manifest.node_value(document, id)? } else { Json::Null };
        for (key, change) in unsaid {
            let Some(change) = change else {
                return Err(self.problem(id, format!("a policy removes {key}, which << merges in here: write the mapping out")));
            };
            added.push((key, change.of(merged.get(key).cloned().unwrap_or_default())));
        }
        if flow && removed.len() == entries.len() {
            self.add_to_flow(id, &[], &added);
            return Ok(());
        }
        self.remove_from_flow(&entries, &removed);
        self.fill(id, flow, &entries, &added)
    }

    /// Adds entries to a mapping.
    fn fill(&mut self, id: NodeId, flow: bool, entries: &[(NodeId, NodeId)], added: &[(&String, Cow<'_, Json>)]) -> Result<(), Flaw> {
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

    /// Where an entry ends, without the rest of its last line: with its value, or with its colon where it has none.
    fn entry_end(&self, (key, value): (NodeId, NodeId)) -> usize {
        let key_end = self.document.node(key).end();
        let end = self.content_end(value).max(key_end);
        let colon = layout::colon_after(self.text, key_end).filter(|_| self.document.node(value).is_absent());
        colon.map_or(end, |colon| colon.max(end))
    }

    /// Fails where something in the node, which is about to go, is shown by an alias outside of it.
    fn is_nowhere_else(&self, id: NodeId) -> Result<(), Flaw> {
        self.document.shared_within(id).map_or(Ok(()), |shared| Err(self.problem(shared, SHARED)))
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
