//! What is wrong with a text, and where.

use std::fmt;

/// A mistake at a place in a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Where it is.
    pub position: Position,
    /// What is wrong and what to do.
    pub message: String,
}

/// A mistake at a byte of a text. Where that is in lines is found out once it is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Flaw {
    pub(crate) offset: usize,
    pub(crate) message: String,
}

impl Flaw {
    pub(crate) fn at(offset: usize, message: impl Into<String>) -> Self {
        Self { offset, message: message.into() }
    }
}

/// A place in a text. `Display` gives `line:column`.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Problem {
    pub(crate) fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        Self { position: Position::of(text, offset), message: message.into() }
    }
}

impl Position {
    /// The position of a byte of the text.
    pub fn of(text: &str, offset: usize) -> Self {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let line = before.split(|&byte| byte == b'\n').count();
        Self { line, column: column(&before[line_start..]) }
    }

    /// The same, where it is known at which bytes lines begin, beside the first one.
    pub(crate) fn among(text: &str, line_starts: &[usize], offset: usize) -> Self {
        let line = line_starts.partition_point(|&start| start <= offset);
        let start = line.checked_sub(1).map_or(0, |line| line_starts[line]);
        Self { line: line + 1, column: column(&text.as_bytes()[start..offset.min(text.len())]) }
    }
}

/// The column after these bytes of a line. Bytes that continue a character in UTF-8 count for nothing, nor does a byte order mark.
fn column(before: &[u8]) -> usize {
    before.strip_prefix(BYTE_ORDER_MARK).unwrap_or(before).iter().filter(|&&byte| byte & 0xC0 != 0x80).count() + 1
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A text by lines, for those who ask for many positions in it.
#[derive(Debug)]
pub struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// The lines of a text.
    pub fn new(text: &'a str) -> Self {
        let after = text.bytes().zip(1..).filter_map(|(byte, next)| (byte == b'\n').then_some(next));
        Self { text, starts: std::iter::once(0).chain(after).collect() }
    }

    /// The position of a byte of the text.
    pub fn position(&self, offset: usize) -> Position {
        Position::among(self.text, &self.starts[1..], offset)
    }

    /// The line of that number, without its end; the empty one where there is none.
    pub fn line(&self, number: usize) -> &'a str {
        let Some(&start) = number.checked_sub(1).and_then(|index| self.starts.get(index)) else { return "" };
        let end = self.starts.get(number).copied().unwrap_or(self.text.len());
        self.text[start..end].trim_end_matches(['\n', '\r']).trim_start_matches('\u{feff}')
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.position, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_know_the_positions_that_the_text_has() {
        let text = "\u{feff}a: 1\r\nключ: b\n\nend";
        let lines = Lines::new(text);
        for (offset, _) in text.char_indices().chain([(text.len(), ' ')]) {
            assert_eq!(lines.position(offset), Position::of(text, offset), "{offset}");
        }
        assert_eq!((0..7).map(|number| lines.line(number)).collect::<Vec<_>>(), ["", "a: 1", "ключ: b", "", "end", "", ""]);
    }
}
