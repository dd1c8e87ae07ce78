//! Changes of a text as a unified diff. What changes is known, so nothing is compared: it takes no longer than reading the text.

use std::{
    fmt::{self, Write as _},
    ops::Range,
};

use crate::edit::{self, Splice};

/// Lines that go, and lines that come in their place.
struct Change<'a> {
    /// Where the old lines are.
    bytes: Range<usize>,
    old: &'a str,
    new: String,
}

/// The hunks of a unified diff, each with this many lines around what changes. The splices are in order.
pub(crate) fn unified(text: &str, splices: &[Splice], context: usize) -> String {
    let changes = changes(text, splices);
    let added: usize = splices.iter().map(|splice| splice.text.len()).sum();
    let mut diff = String::with_capacity(4 * added);
    let mut hunk = Hunk::default();
    let mut place = Place::default();
    let mut rest = changes.as_slice();
    while let Some(first) = rest.first() {
        // Changes whose surroundings meet are told of together.
        let apart = rest.windows(2).position(|pair| text[pair[0].bytes.end..pair[1].bytes.start].lines().nth(2 * context).is_some());
        let (together, later) = rest.split_at(apart.map_or(rest.len(), |at| at + 1));
        rest = later;
        let before = lines_before(text, first.bytes.start, context);
        let end = together.last().map_or(first.bytes.end, |last| last.bytes.end);
        let after: Vec<_> = text[end..].split_inclusive('\n').take(context).collect();
        place.advance(text, first.bytes.start - before.iter().map(|line| line.len()).sum::<usize>());
        hunk.clear();
        for line in &before {
            hunk.line(' ', line);
        }
        let mut at = first.bytes.start;
        for Change { bytes, old, new } in together {
            text[at..bytes.start].split_inclusive('\n').for_each(|line| hunk.line(' ', line));
            old.split_inclusive('\n').for_each(|line| hunk.line('-', line));
            new.split_inclusive('\n').for_each(|line| hunk.line('+', line));
            at = bytes.end;
        }
        for line in &after {
            hunk.line(' ', line);
        }
        let (old, new) = (Lines(place.line, hunk.old), Lines(place.line + place.added - place.removed, hunk.new));
        _ = writeln!(diff, "@@ -{old} +{new} @@");
        diff.push_str(&hunk.text);
        place.added += hunk.new;
        place.removed += hunk.old;
    }
    diff
}

/// How far the old text was read.
#[derive(Default)]
struct Place {
    byte: usize,
    line: usize,
    added: usize,
    removed: usize,
}

impl Place {
    fn advance(&mut self, text: &str, byte: usize) {
        self.line += memchr::memchr_iter(b'\n', &text.as_bytes()[self.byte..byte]).count();
        self.byte = byte;
    }
}

#[derive(Default)]
struct Hunk {
    text: String,
    old: usize,
    new: usize,
}

impl Hunk {
    fn clear(&mut self) {
        self.text.clear();
        (self.old, self.new) = (0, 0);
    }

    fn line(&mut self, mark: char, line: &str) {
        self.old += usize::from(mark != '+');
        self.new += usize::from(mark != '-');
        self.text.push(mark);
        self.text.push_str(line);
        if !line.ends_with('\n') {
            self.text.push_str("\n\\ No newline at end of file\n");
        }
    }
}

/// The first line, from 0, and the number of lines, as they are written in a hunk's head.
struct Lines(usize, usize);

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(first, count) = *self;
        match count {
            0 => write!(f, "{first},0"),
            1 => write!(f, "{}", first + 1),
            _ => write!(f, "{},{count}", first + 1),
        }
    }
}

fn lines_before(text: &str, byte: usize, count: usize) -> Vec<&str> {
    let mut lines: Vec<_> = text[..byte].split_inclusive('\n').rev().take(count).collect();
    lines.reverse();
    lines
}

/// The splices as changes of whole lines.
fn changes<'a>(text: &'a str, splices: &[Splice]) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    let mut rest = splices;
    while let Some(first) = rest.first() {
        let mut bytes = lines_of(text, first);
        let mut count = 1;
        while let Some(next) = rest.get(count).map(|next| lines_of(text, next)).filter(|next| next.start < bytes.end) {
            bytes.end = bytes.end.max(next.end);
            count += 1;
        }
        let (here, later) = rest.split_at(count);
        rest = later;
        changes.extend(change(text, bytes, here));
    }
    changes
}

/// The lines that a splice touches; none where it adds lines between others.
fn lines_of(text: &str, Splice { range, text: new }: &Splice) -> Range<usize> {
    let is_line_start = |at: usize| at == 0 || text[..at].ends_with('\n');
    let start = text[..range.start].rfind('\n').map_or(0, |at| at + 1);
    let ends_line = if new.is_empty() { is_line_start(range.start) } else { new.ends_with('\n') };
    let end = if is_line_start(range.end) && ends_line {
        range.end
    } else {
        text[range.end..].find('\n').map_or(text.len(), |at| range.end + at + 1)
    };
    start..end
}

fn change<'a>(text: &'a str, bytes: Range<usize>, splices: &[Splice]) -> Option<Change<'a>> {
    let mut new = edit::apply_within(text, bytes.clone(), splices);
    let same =
        |lines: &mut dyn Iterator<Item = (&str, &str)>| lines.take_while(|(old, new)| old == new).map(|(old, _)| old.len()).sum::<usize>();
    let old = &text[bytes.clone()];
    let after = same(&mut old.split_inclusive('\n').rev().zip(new.split_inclusive('\n').rev()));
    let old = &old[..old.len() - after];
    new.truncate(new.len() - after);
    let before = same(&mut old.split_inclusive('\n').zip(new.split_inclusive('\n')));
    new.drain(..before);
    let change = Change { bytes: bytes.start + before..bytes.end - after, old: &old[before..], new };
    (!change.old.is_empty() || !change.new.is_empty()).then_some(change)
}
