//! Entries of mappings in block style: they are lines.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::{
    Editor, Splice,
    check::Claim,
    layout, open_end,
    tail::{self, Tail},
    write,
};
use crate::{
    problem::Flaw,
    yaml::{Kind, NodeId, Style},
};

/// The keys of a pod, and of a pod template.
const METADATA: &str = "metadata";
const SPEC: &str = "spec";

pub(super) const MARKED: &str = "a key that is marked with a question mark: write it as key: value";

impl Editor<'_> {
    /// Adds lines: metadata before a spec, where people look for it, and all else after the last entry.
    pub(super) fn add_to_block(&mut self, entries: &[(NodeId, NodeId)], added: &[(&String, Cow<'_, Json>)]) -> Result<(), Flaw> {
        let (Some(&(first, _)), Some(&(last, value))) = (entries.first(), entries.last()) else { return Ok(()) };
        let head = self.document.node(first).head();
        if layout::line_before(self.text, head).contains('\t') {
            return Err(self.problem(first, "a tab before the key: indent with spaces"));
        }
        if layout::is_marked(self.text, head) {
            return Err(self.problem(first, MARKED));
        }
        let column = self.layout.column(self.text, head);
        let ending = self.layout.line_ending(self.text, head);
        let mut added = added.to_vec();
        if let Some(at) = self.place_of_metadata(entries, column)
            && let Some(index) = added.iter().position(|(key, _)| *key == METADATA)
        {
            let (key, value) = added.remove(index);
            let mut lines = String::new();
            self.layout.entry(&mut lines, key, &value, column, ending);
            self.claims = None;
            self.splices.push(Splice::insert(at, lines));
            if added.is_empty() {
                return Ok(());
            }
        }
        let end = self.entry_end((last, value));
        let at = layout::after_comments(self.text, layout::line_end(self.text, end), column);
        let mut lines = String::new();
        for (key, value) in &added {
            self.layout.entry(&mut lines, key, value, column, ending);
        }
        match tail::tail(self.text, self.document, (last, value), column, at) {
            Some(Tail { text, mut meaning }) => {
                meaning.extend(added.iter().map(|(key, value)| ((*key).clone(), value.clone().into_owned())));
                self.claim(Claim::Text { text: text + &lines, value: Json::Object(meaning) });
            }
            None => self.claims = None,
        }
        if at == self.text.len()
            && let Some(closing) = open_end::closing(self.text, self.document).filter(|closing| !self.splices.contains(closing))
        {
            self.claims = None;
            self.splices.push(closing);
        }
        self.splices.push(Splice::insert(at, self.fitted(at, lines, ending)));
        Ok(())
    }

    /// The start of the line before which metadata belongs: that of the spec, or of comments right above it.
    fn place_of_metadata(&self, entries: &[(NodeId, NodeId)], column: usize) -> Option<usize> {
        let start = |key: NodeId| self.document.node(key).head();
        let index = entries.iter().position(|&(key, _)| self.text[start(key)..self.document.node(key).end()] == *SPEC)?;
        let head = start(entries[index].0);
        let blanks = layout::line_before(self.text, head);
        // After a dash there is no line before it.
        if !blanks.chars().all(|char| char == ' ') {
            return None;
        }
        let mut at = head - blanks.len();
        let before = index.checked_sub(1).map(|before| entries[before]);
        // Comments above the first entry of a document are about the document.
        let first = match before {
            Some(entry) => layout::line_end(self.text, self.entry_end(entry)),
            None if column > 0 => 0,
            None => at,
        };
        while at > first {
            let line = layout::line_before(self.text, at - 1);
            let comment = line.trim_start_matches(' ');
            if !comment.starts_with('#') || line.len() - comment.len() < column {
                break;
            }
            at -= line.len() + 1;
        }
        Some(at)
    }

    /// Removes the lines of an entry.
    pub(super) fn remove_from_block(&mut self, key: NodeId, value: NodeId) -> Result<(), Flaw> {
        let head = self.document.node(key).head();
        let before = layout::line_before(self.text, head);
        if !before.trim_start_matches('\u{feff}').chars().all(|char| char == ' ') {
            return Err(
                self.problem(key, "a policy removes this, and something else stands before it in the line: give it a line of its own")
            );
        }
        let end = self.entry_end((key, value));
        self.claims = None;
        self.splices.push(Splice { range: head - before.len()..layout::line_end(self.text, end), text: String::new() });
        Ok(())
    }

    /// Writes the value of a key anew.
    pub(super) fn block_value(&mut self, key: NodeId, value: NodeId, column: usize, new: &Json) -> Result<(), Flaw> {
        let (name, node) = (self.document.node(key), self.document.node(value));
        let Some(colon) = layout::colon_after(self.text, name.end()) else {
            return Err(self.problem(key, MARKED));
        };
        let ending = self.layout.line_ending(self.text, name.head());
        let is_lines = new.as_object().is_some_and(|map| !map.is_empty()) || new.as_array().is_some_and(|list| !list.is_empty());
        // An anchor or a tag stays with the value, unless it is an alias that goes.
        let is_absent = node.is_absent();
        let from = if is_absent { layout::after_properties(self.text, colon) } else { layout::content_start(self.text, colon) };
        let to = if is_absent { from } else { self.content_end(value).max(from) };
        if !is_lines {
            let space = if is_absent { " " } else { "" };
            let mut text = format!("{space}{}", write::scalar(new, Style::Plain, self.layout.json));
            if self.document.kind(value) == Kind::Scalar(Style::Block)
                && let Some((_, comment)) = self.text[from..layout::line_end(self.text, from)].trim_end().split_once(" #")
            {
                text.push_str(" #");
                text.push_str(comment);
            }
            self.splices.push(Splice { range: from..to, text });
            return Ok(());
        }
        let mut lines = String::new();
        self.layout.children(&mut lines, new, column, ending);
        let at = layout::line_end(self.text, to);
        if self.text[colon..from].contains('\n') {
            // It has lines of its own already.
            if !self.text[..at].ends_with('\n') {
                lines.truncate(lines.len() - ending.len());
            }
            let start = from - layout::line_before(self.text, from).len();
            self.splices.push(Splice { range: start..at, text: lines });
            return Ok(());
        }
        // What is left of the line (a comment) stays before the new lines.
        let start_of_blanks = self.text[..from].trim_end_matches([' ', '\t']).len().max(colon);
        self.splices.push(Splice { range: start_of_blanks..to, text: String::new() });
        let lines = self.fitted(at, lines, ending);
        self.splices.push(Splice::insert(at, lines));
        Ok(())
    }

    /// The lines as they stand at a place, which can be the end of a text without a final line ending.
    fn fitted(&self, at: usize, mut lines: String, ending: &str) -> String {
        if self.text[..at].ends_with('\n') {
            return lines;
        }
        lines.truncate(lines.len() - ending.len());
        format!("{ending}{lines}")
    }
}
