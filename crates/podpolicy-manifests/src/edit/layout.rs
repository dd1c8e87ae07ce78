//! How a document is laid out, so that what is added looks like its surroundings.

use std::ops::Range;

use serde_json::Value as Json;

use super::write;
use crate::{
    Document,
    problem::Flaw,
    yaml::{Kind, Style},
};

/// How a document is laid out.
pub(super) struct Layout {
    /// Whether it is JSON.
    pub(super) json: bool,
    /// Whether no blanks follow colons and commas.
    compact: bool,
    /// How much further mappings in mappings are indented.
    step: usize,
    /// How much further lists in mappings are indented.
    list_step: usize,
}

impl Layout {
    /// Looks at the first of each in the document.
    pub(super) fn of(text: &str, document: &Document) -> Self {
        let mut layout = Self { json: false, compact: false, step: 2, list_step: 0 };
        let (mut step, mut list_step) = (None, None);
        let mut is_compact = None;
        if document.kind(document.root()) == (Kind::Mapping { flow: true }) {
            layout.json = document.entries(document.root()).all(|(key, _)| document.kind(key) == Kind::Scalar(Style::DoubleQuoted));
        }
        for id in document.ids() {
            let Kind::Mapping { flow } = document.kind(id) else { continue };
            for (key, value) in document.entries(id) {
                let kind = document.kind(value);
                let (key, value) = (document.node(key), document.node(value));
                if flow {
                    is_compact =
                        is_compact.or(Some(text[key.end()..].starts_with(':') && !text[key.end() + 1..].starts_with([' ', '\r', '\n'])));
                    continue;
                }
                let further = |start| column(text, start).checked_sub(column(text, key.head()));
                match kind {
                    Kind::Mapping { flow: false } => step = step.or_else(|| further(value.start()).filter(|&step| step > 0)),
                    Kind::Sequence { flow: false } => list_step = list_step.or_else(|| further(list_start(text, value.start()))),
                    Kind::Scalar(..) | Kind::Sequence { .. } | Kind::Mapping { .. } | Kind::Alias(_) => {}
                }
            }
            if step.is_some() && list_step.is_some() {
                break;
            }
        }
        layout.compact = layout.json && is_compact == Some(true);
        layout.step = step.unwrap_or(layout.step);
        layout.list_step = list_step.unwrap_or(layout.list_step);
        layout
    }

    /// The column at which a byte stands, in characters, from 0.
    #[allow(clippy::unused_self, reason = "reads as a question about the layout")]
    pub(super) fn column(&self, text: &str, offset: usize) -> usize {
        column(text, offset)
    }

    /// How the line ends that a byte is in; the line before where that one has no end.
    #[allow(clippy::unused_self, reason = "reads as a question about the layout")]
    pub(super) fn line_ending(&self, text: &str, offset: usize) -> &'static str {
        let end = text[offset..].find('\n').map(|at| offset + at).or_else(|| text[..offset].rfind('\n'));
        if end.is_some_and(|at| text[..at].ends_with('\r')) { "\r\n" } else { "\n" }
    }

    pub(super) fn comma(&self) -> &'static str {
        if self.compact { "," } else { ", " }
    }

    /// A value in flow style.
    pub(super) fn flow(&self, value: &Json) -> String {
        match value {
            Json::Object(map) => {
                let entries: Vec<_> = map.iter().map(|(key, value)| self.flow_entry(key, value)).collect();
                format!("{{{}}}", entries.join(self.comma()))
            }
            Json::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| self.flow(item)).collect();
                format!("[{}]", items.join(self.comma()))
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => write::scalar(value, Style::Plain, self.json),
        }
    }

    /// An entry of a mapping in flow style.
    pub(super) fn flow_entry(&self, key: &str, value: &Json) -> String {
        let colon = if self.compact { ":" } else { ": " };
        format!("{}{colon}{}", write::text(key, Style::Plain, self.json), self.flow(value))
    }

    /// An entry of a mapping in flow style whose entries have lines of their own. Outside of JSON it takes one line.
    pub(super) fn pretty_entry(&self, key: &str, value: &Json, indentation: &str, step: &str, ending: &str) -> String {
        if !self.json {
            return self.flow_entry(key, value);
        }
        format!("{}: {}", write::text(key, Style::Plain, true), self.pretty(value, indentation, step, ending))
    }

    fn pretty(&self, value: &Json, indentation: &str, step: &str, ending: &str) -> String {
        let deeper = format!("{indentation}{step}");
        let lines: Vec<_> = match value {
            Json::Object(map) => map.iter().map(|(key, value)| self.pretty_entry(key, value, &deeper, step, ending)).collect(),
            Json::Array(items) => items.iter().map(|item| self.pretty(item, &deeper, step, ending)).collect(),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => Vec::new(),
        };
        if lines.is_empty() {
            return self.flow(value);
        }
        let (open, close) = if value.is_object() { ('{', '}') } else { ('[', ']') };
        let lines = lines.join(&format!(",{ending}{deeper}"));
        format!("{open}{ending}{deeper}{lines}{ending}{indentation}{close}")
    }

    /// An entry of a mapping in block style, with its line ending.
    pub(super) fn entry(&self, lines: &mut String, key: &str, value: &Json, column: usize, ending: &str) {
        push_blanks(lines, column);
        self.entry_here(lines, key, value, column, ending);
    }

    fn entry_here(&self, lines: &mut String, key: &str, value: &Json, column: usize, ending: &str) {
        lines.push_str(&write::text(key, Style::Plain, false));
        lines.push(':');
        if is_lines(value) {
            lines.push_str(ending);
            self.children(lines, value, column, ending);
        } else {
            lines.push(' ');
            lines.push_str(&self.flow(value));
            lines.push_str(ending);
        }
    }

    /// The lines of a mapping or list below a key at the column.
    pub(super) fn children(&self, lines: &mut String, value: &Json, column: usize, ending: &str) {
        match value {
            Json::Object(map) => map.iter().for_each(|(key, value)| self.entry(lines, key, value, column + self.step, ending)),
            Json::Array(items) => {
                let column = column + self.list_step;
                for item in items {
                    push_blanks(lines, column);
                    lines.push_str("- ");
                    lines.push_str(&self.item(item, column + 2, ending));
                    lines.push_str(ending);
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
    }

    /// A value after the dash of a list, at the column, without its last line ending.
    pub(super) fn item(&self, value: &Json, column: usize, ending: &str) -> String {
        let Json::Object(map) = value else { return self.flow(value) };
        let mut lines = String::new();
        for (index, (key, value)) in map.iter().enumerate() {
            push_blanks(&mut lines, if index == 0 { 0 } else { column });
            self.entry_here(&mut lines, key, value, column, ending);
        }
        if map.is_empty() {
            return self.flow(value);
        }
        lines.truncate(lines.len() - ending.len());
        lines
    }
}

fn is_lines(value: &Json) -> bool {
    value.as_object().is_some_and(|map| !map.is_empty()) || value.as_array().is_some_and(|list| !list.is_empty())
}

pub(super) fn push_blanks(lines: &mut String, number: usize) {
    lines.extend(std::iter::repeat_n(' ', number));
}

/// The start of a list in block style is that of its first item; the dash stands before it.
fn list_start(text: &str, start: usize) -> usize {
    if text[start..].starts_with('-') { start } else { text[..start].rfind('-').unwrap_or(start) }
}

/// The column at which a byte stands, in characters, from 0.
pub(super) fn column(text: &str, offset: usize) -> usize {
    line_before(text, offset).trim_start_matches('\u{feff}').chars().count()
}

/// What stands before a byte in its line.
pub(super) fn line_before(text: &str, offset: usize) -> &str {
    let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    &text[start..offset]
}

/// Fails where a line ends as nobody ends lines any more.
pub(super) fn check_line_endings(text: &str, range: Range<usize>) -> Result<(), Flaw> {
    let bytes = &text.as_bytes()[range.clone()];
    match memchr::memchr_iter(b'\r', bytes).find(|&at| bytes.get(at + 1) != Some(&b'\n')) {
        Some(at) => {
            let message = "a carriage return without a line feed: save the file with line endings of Unix or Windows";
            Err(Flaw::at(range.start + at, message))
        }
        None => Ok(()),
    }
}

/// Whether a question mark before the key says that it is one.
pub(super) fn is_marked(text: &str, key: usize) -> bool {
    line_before(text, key).trim_end().ends_with('?')
}

/// The blanks at the beginning of the line that a byte is in.
pub(super) fn indentation(text: &str, offset: usize) -> &str {
    let line = line_before(text, offset);
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

/// The start of the line after the one that a byte is in; the end of the text where there is none.
pub(super) fn line_end(text: &str, offset: usize) -> usize {
    text[offset..].find('\n').map_or(text.len(), |at| offset + at + 1)
}

/// The start of the line after comments that are indented as far as a mapping's keys, and so belong to it.
pub(super) fn after_comments(text: &str, mut line: usize, column: usize) -> usize {
    while column > 0 && line < text.len() {
        let rest = &text[line..];
        let blanks = rest.len() - rest.trim_start_matches(' ').len();
        if blanks < column || !rest[blanks..].starts_with('#') {
            break;
        }
        line = line_end(text, line);
    }
    line
}

/// What a block scalar begins with, such as `|2-`, and the byte at which that stands. `start` is that of its first line.
pub(super) fn block_scalar_header(text: &str, start: usize) -> Option<(usize, &str)> {
    let end = text[..start].trim_end_matches([' ', '\r', '\n']).len();
    let line = line_before(text, end);
    // It is the last thing in its line, but for a comment.
    let header = line.split(" #").next().unwrap_or(line).trim_end();
    let at = header.rfind(['|', '>'])?;
    Some((end - line.len() + at, &header[at..]))
}

/// The end of the last line of a block scalar, without its line ending. Blank lines after it belong to it only where it keeps them.
pub(super) fn block_scalar_end(text: &str, start: usize, end: usize) -> usize {
    let header_end = text[..start].trim_end_matches([' ', '\r', '\n']).len();
    let indicators = block_scalar_header(text, start).map_or("", |(_, indicators)| indicators);
    // The parser may end it in the indentation of the line after it.
    let end = end - indentation_before(text, end);
    if indicators.contains('+') {
        let kept = text[..end].strip_suffix('\n').map_or(&text[..end], |kept| kept.strip_suffix('\r').unwrap_or(kept));
        return kept.len().max(header_end);
    }
    let blanks = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let is_blank = |line: &str| line.trim_end_matches(['\r', '\n']).chars().all(|char| char == ' ');
    let body = &text[header_end..end];
    // More blanks than that are text.
    let is_indented_by_number = indicators.contains(|char: char| char.is_ascii_digit());
    let indentation = if is_indented_by_number { 0 } else { body.lines().find(|line| !is_blank(line)).map_or(0, blanks) };
    let mut content = body;
    while let Some(line) = content.split_inclusive('\n').next_back().filter(|line| is_blank(line) && blanks(line) <= indentation) {
        content = &content[..content.len() - line.len()];
    }
    header_end + content.trim_end_matches(['\r', '\n']).len()
}

/// How many blanks stand before a byte, where nothing else does in its line, and the line goes on.
fn indentation_before(text: &str, offset: usize) -> usize {
    let before = line_before(text, offset);
    let is_indentation = before.chars().all(|char| char == ' ') && offset < text.len();
    if is_indentation { before.len() } else { 0 }
}

/// The byte after the colon that follows a key.
pub(super) fn colon_after(text: &str, key_end: usize) -> Option<usize> {
    let blanks = text[key_end..].len() - text[key_end..].trim_start_matches([' ', '\t']).len();
    text[key_end + blanks..].starts_with(':').then_some(key_end + blanks + 1)
}

/// Where anchors and tags end that stand in the line of a colon, and nothing after them.
pub(super) fn after_properties(text: &str, colon: usize) -> usize {
    let mut at = colon;
    loop {
        let rest = &text[at..];
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        if !rest[blanks..].starts_with(['&', '!']) {
            return at;
        }
        at += blanks + rest[blanks..].find([' ', '\t', '\r', '\n', ',', '}', ']']).unwrap_or(rest.len() - blanks);
    }
}

/// Where the content of a value begins: after blanks, comments, anchors and tags.
pub(super) fn content_start(text: &str, from: usize) -> usize {
    let mut at = from;
    loop {
        let rest = &text[at..];
        let skipped = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        if skipped > 0 {
            at += skipped;
        } else if rest.starts_with('#') {
            at = line_end(text, at);
        } else if rest.starts_with(['&', '!']) {
            at += rest.find([' ', '\t', '\r', '\n']).unwrap_or(rest.len());
        } else {
            return at;
        }
    }
}

/// The bytes of a document and of what stands around it, up to its neighbours.
pub(super) fn surroundings(text: &str, documents: &[Document], number: usize) -> Range<usize> {
    // Where a document begins: after the end of the one before it where that is marked, so that directives are in; or else with its own marker. Inside
    // of a document no line begins like that.
    let beginning = |number: usize| {
        let document = documents.get(number)?;
        let before = documents.get(number.checked_sub(1)?)?;
        let (end, head) = (before.node(before.root()).end(), document.node(document.root()).head());
        let start = end - line_before(text, end).len();
        let (mut at, mut after_end, mut marker) = (start, None, None);
        for line in text[start..head].split_inclusive('\n') {
            if line.starts_with("---") {
                marker = Some(at);
            }
            at += line.len();
            if line.starts_with("...") {
                after_end = Some(at);
            }
        }
        after_end.or(marker)
    };
    let start = beginning(number).unwrap_or_default();
    start..beginning(number + 1).unwrap_or(text.len()).max(start)
}
