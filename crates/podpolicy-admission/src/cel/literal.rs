//! CEL literals. Whatever comes from a user gets into an expression through here and nowhere else: no text can end its literal.

use std::fmt::Write as _;

use serde_json::Value as Json;

/// The text as a CEL string literal of printable ASCII.
pub(super) fn text(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => literal.extend(['\\', character]),
            ' '..='~' => literal.push(character),
            '\0'..='\u{ffff}' => _ = write!(literal, "\\u{:04x}", u32::from(character)),
            _ => _ = write!(literal, "\\U{:08x}", u32::from(character)),
        }
    }
    literal.push('"');
    literal
}

/// The value as a CEL expression. Lists and maps in CEL have elements of one type: `dyn` lets them differ.
pub(super) fn value(json: &Json) -> String {
    match json {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => number.to_string(),
        Json::String(value) => text(value),
        Json::Array(items) => list(items.iter().map(|item| format!("dyn({})", value(item)))),
        Json::Object(entries) => {
            format!(
                "{{{}}}",
                entries.iter().map(|(key, item)| format!("{}: dyn({})", text(key), value(item))).collect::<Vec<_>>().join(", ")
            )
        }
    }
}

/// A CEL list of expressions.
pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn quotes_backslashes_and_what_is_not_ascii_are_escaped() {
        assert_eq!(text("a\"b\\c\n\u{e9}\u{1f600}\0"), r#""a\"b\\c\u000a\u00e9\U0001f600\u0000""#);
        assert_eq!(
            value(&json!({ "path": "/", "port": 80, "list": ["\""] })),
            r#"{"list": dyn([dyn("\"")]), "path": dyn("/"), "port": dyn(80)}"#
        );
    }

    /// What CEL reads in the literal, by the rules of its grammar for the escapes that are written here.
    fn read(literal: &str) -> Option<String> {
        let mut rest = literal.strip_prefix('"')?.chars();
        let mut read = String::new();
        loop {
            match rest.next()? {
                // The literal ends here, and nothing may follow.
                '"' => return rest.next().is_none().then_some(read),
                '\\' => match rest.next()? {
                    escaped @ ('"' | '\\') => read.push(escaped),
                    kind @ ('u' | 'U') => {
                        let digits: String = rest.by_ref().take(if kind == 'u' { 4 } else { 8 }).collect();
                        read.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                    }
                    _ => return None,
                },
                character @ ' '..='~' => read.push(character),
                _ => return None,
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_leaves_its_literal(hostile in hostile()) {
            prop_assert_eq!(read(&text(&hostile)), Some(hostile));
        }
    }

    /// Any characters at all, and what would end a literal, an expression or a line if it were let through.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            any::<char>().prop_map(String::from),
            prop::sample::select(vec![
                "\"", "\\", "'", "\\u0022", "\"\"\"", "\n", "\r", "\u{2028}", "${", "}}", "//", "\" + \"", "\\\"", "`", "\0"
            ])
            .prop_map(str::to_owned),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }
}
