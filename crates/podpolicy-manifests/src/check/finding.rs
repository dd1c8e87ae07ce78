//! Something that was found, and where.

use std::cmp::Ordering;

use crate::{Lines, Position, Rule};

/// Something that a rule found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// The words in the text that it is about.
    pub place: Place,
    /// The object, such as `Deployment shop/web`; empty where it is about a file.
    pub object: String,
    /// The field, such as `containers[web].livenessProbe`; empty where it is about all of the object.
    pub field: String,
    /// What is the case.
    pub message: String,
}

/// A piece of one line.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// Where it begins.
    pub start: Position,
    /// Where it ends: the position after its last character.
    pub end: Position,
}

impl Finding {
    /// Which of two findings in a text comes first: that of the earlier place.
    pub fn order(&self, other: &Self) -> Ordering {
        (self.place, self.rule.id, &self.field).cmp(&(other.place, other.rule.id, &other.field))
    }
}

impl Place {
    /// The word at a position.
    pub fn at(lines: &Lines<'_>, start: Position) -> Self {
        let line = lines.line(start.line);
        let rest = line.char_indices().nth(start.column.saturating_sub(1)).map_or("", |(at, _)| &line[at..]);
        let length = rest[..word(rest)].chars().count();
        Self { start, end: Position { column: start.column + length, ..start } }
    }
}

/// How many bytes the key or scalar takes that the text begins with; at least one character, and never more than the line.
fn word(text: &str) -> usize {
    let line = text.split(['\n', '\r']).next().unwrap_or_default();
    let first = line.chars().next();
    let length = match first {
        Some(quote @ ('"' | '\'')) => line[1..].find(quote).map_or(line.len(), |at| at + 2),
        Some(_) => line
            .char_indices()
            .find(|(at, character)| match character {
                ' ' | '\t' | ',' | '{' | '}' | '[' | ']' => true,
                ':' => line[at + 1..].chars().next().is_none_or(char::is_whitespace),
                _ => false,
            })
            .map_or(line.len(), |(at, _)| at),
        None => 0,
    };
    length.max(first.map_or(0, char::len_utf8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_a_word_of_one_line() {
        for (text, wanted) in [
            ("image: a:1", "image"),
            ("a:1", "a:1"),
            ("\"a b\": 1", "\"a b\""),
            ("'open\nend'", "'open"),
            ("{name: web}", "{"),
            ("ключ: 1", "ключ"),
            ("web, app", "web"),
            ("web\r\n", "web"),
            ("", ""),
        ] {
            assert_eq!(&text[..word(text)], wanted, "{text}");
        }
    }

    #[test]
    fn place_counts_characters() {
        let lines = Lines::new("a: 1\nключ: {b: 2}\n");
        let place = Place::at(&lines, lines.position(5));
        assert_eq!((place.start.to_string(), place.end.to_string()), ("2:1".to_owned(), "2:5".to_owned()));
    }
}
