//! Scalars as text. A string that a parser could take for something else, of YAML 1.1 or 1.2, is put in quotes.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::yaml::{Style, is_text};

/// A scalar, in the style of the one that it replaces where that can hold it.
pub(super) fn scalar(value: &Json, style: Style, json: bool) -> String {
    match value {
        Json::String(value) => text(value, style, json),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => value.to_string(),
    }
}

/// A string.
pub(super) fn text(value: &str, style: Style, json: bool) -> String {
    match style {
        _ if json => double_quoted(value),
        Style::Plain if is_plain(value) => value.to_owned(),
        Style::SingleQuoted if value.chars().all(is_printable) => format!("'{}'", value.replace('\'', "''")),
        Style::Plain | Style::SingleQuoted | Style::DoubleQuoted | Style::Block => double_quoted(value),
    }
}

/// Whether the string needs no quotes, in block and in flow style.
fn is_plain(value: &str) -> bool {
    let is_harmless = |char: char| char.is_ascii_alphanumeric() || matches!(char, '/' | '_' | '.' | '@' | '-');
    // Options of commands, such as -c, need no quotes either.
    let begins_well = value.trim_start_matches('-').starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    begins_well && value.chars().all(is_harmless) && is_text(value)
}

fn is_printable(char: char) -> bool {
    !char.is_control() && !matches!(char, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn double_quoted(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for char in value.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            char if is_printable(char) => quoted.push(char),
            char => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(char));
            }
        }
    }
    quoted.push('"');
    quoted
}
