//! Entries of mappings in flow style, JSON included.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::{Editor, Splice, layout};
use crate::yaml::NodeId;

impl Editor<'_> {
    /// Adds entries after the last one: on lines of their own where that one has its own.
    pub(super) fn add_to_flow(&mut self, id: NodeId, entries: &[(NodeId, NodeId)], added: &[(&String, Cow<'_, Json>)]) {
        let node = self.document.node(id);
        let Some(&(last, value)) = entries.last() else {
            let written: Vec<_> = added.iter().map(|(key, value)| self.layout.flow_entry(key, value)).collect();
            let text = written.join(self.layout.comma());
            let inside = node.start() + 1..node.end() - 1;
            // Comments stay.
            let is_empty = self.document.entries(id).next().is_none();
            let range = if is_empty && self.text[inside.clone()].contains('#') { inside.end..inside.end } else { inside };
            self.splices.push(Splice { range, text });
            return;
        };
        let end = self.entry_end((last, value));
        let last = self.document.node(last);
        // A comma could be taken for a part of a tag.
        let gap = if self.document.node(value).is_absent() && !self.text[..end].ends_with(':') { " " } else { "" };
        let before = layout::line_before(self.text, last.head());
        if !before.chars().all(|char| matches!(char, ' ' | '\t')) {
            let mut text = gap.to_owned();
            for (key, value) in added {
                text.push_str(self.layout.comma());
                text.push_str(&self.layout.flow_entry(key, value));
            }
            self.splices.push(Splice::insert(end, text));
            return;
        }
        let ending = self.layout.line_ending(self.text, end);
        let outer = layout::indentation(self.text, node.start());
        let step = before.strip_prefix(outer).filter(|step| !step.is_empty()).unwrap_or("  ");
        let mut lines = Vec::new();
        for (key, value) in added {
            lines.push(format!("{ending}{before}{}", self.layout.pretty_entry(key, value, before, step, ending)));
        }
        // A comma that is there already, or a comment, ends the line of the last entry.
        let line_end = self.text[end..].find(['\r', '\n']).map_or(self.text.len(), |at| end + at);
        let rest = &self.text[end..line_end];
        let has_comma = rest.trim_start().starts_with(',');
        if rest.trim_start().trim_start_matches(',').trim_start().starts_with('#') || (has_comma && rest.trim() == ",") {
            if !has_comma {
                self.splices.push(Splice::insert(end, format!("{gap},")));
            }
            let trailing = if has_comma { "," } else { "" };
            self.splices.push(Splice::insert(line_end, lines.join(",") + trailing));
        } else {
            self.splices.push(Splice::insert(end, format!("{gap},{}", lines.join(","))));
        }
    }

    /// Removes entries with the commas that part them from their neighbours. Some entry stays.
    pub(super) fn remove_from_flow(&mut self, entries: &[(NodeId, NodeId)], removed: &[usize]) {
        let ends = |entry| self.entry_end(entry);
        let start = |(key, _): (NodeId, NodeId)| self.document.node(key).head();
        let has_kept_before = |index: usize| (0..index).any(|before| !removed.contains(&before));
        let ranges = removed.iter().map(|&index| match (index.checked_sub(1), entries.get(index + 1)) {
            (Some(before), _) if has_kept_before(index) => ends(entries[before])..ends(entries[index]),
            (_, Some(&next)) => start(entries[index])..start(next),
            (_, None) => start(entries[index])..ends(entries[index]),
        });
        let splices: Vec<_> = ranges.map(|range| Splice { range, text: String::new() }).collect();
        self.splices.extend(splices);
    }
}
