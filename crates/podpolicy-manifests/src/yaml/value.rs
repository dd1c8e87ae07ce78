//! Nodes to values, as kubectl reads them (sigs.k8s.io/yaml, which is YAML 1.1 where it differs from 1.2): `yes`, `no`, `on`, `off`, `y` and
//! `n` are booleans, `017` is octal, `<<` merges, and keys that are no strings become strings.

use std::borrow::Cow;

use serde_json::{Map, Number, Value as Json};

use super::{Document, Kind, NodeId, Style};
use crate::problem::Flaw;

pub(super) const BEYOND_JSON: &str = "no number that JSON knows; put it in quotes";

/// What to do about templates that are no manifests yet.
pub(super) const HELM: &str = "; it looks like a Helm template: render the chart first (helm template), or exclude the file";

/// How many keys are compared pair by pair.
const FEW: usize = 12;

/// The value of a node. Documents with flaws are not for it: what aliases stand for has no bound there.
pub(crate) fn value(text: &str, document: &Document, id: NodeId) -> Result<Json, Flaw> {
    Reader { text, document }.value(id)
}

/// Fails where a key is no scalar, or is there twice, with the place of the mistake.
pub(super) fn check_keys(text: &str, document: &Document, mapping: NodeId) -> Result<(), (usize, String)> {
    let at = |id: NodeId| document.node(id).head();
    let mut keys: Vec<(Cow<'_, str>, NodeId)> = Vec::with_capacity(FEW);
    for (name, _) in document.entries(mapping) {
        if is_merge(text, document, name) {
            continue;
        }
        if document.node(name).is_absent() {
            return Err((at(name), "a colon without a key before it; a manifest has none".to_owned()));
        }
        let Some(key) = plain_key(text, document, name) else {
            let is_template = text[..at(name)].ends_with('{') && text[at(name)..].starts_with('{');
            let hint = if is_template { HELM } else { "; a manifest has none" };
            return Err((at(name), format!("a key that is no scalar{hint}")));
        };
        if keys.len() < FEW && keys.iter().any(|(other, _)| *other == key) {
            return Err((at(name), format!("{key} is there twice; remove one")));
        }
        keys.push((key, name));
    }
    if keys.len() > FEW {
        keys.sort();
        if let Some([_, (key, name)]) = keys.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err((at(*name), format!("{key} is there twice; remove one")));
        }
    }
    Ok(())
}

struct Reader<'a> {
    text: &'a str,
    document: &'a Document,
}

impl Reader<'_> {
    fn value(&self, id: NodeId) -> Result<Json, Flaw> {
        match self.document.kind(id) {
            Kind::Scalar(style) => self.scalar(id, style),
            Kind::Sequence { .. } => self.document.items(id).map(|item| self.value(item)).collect(),
            Kind::Mapping { .. } => self.mapping(id).map(Json::Object),
            Kind::Alias(target) => self.value(target),
        }
    }

    fn scalar(&self, id: NodeId, style: Style) -> Result<Json, Flaw> {
        let text = self.document.scalar(self.text, id);
        if style != Style::Plain || self.document.node(id).is_string() {
            return Ok(Json::from(text));
        }
        resolve(text).ok_or_else(|| self.problem(id, BEYOND_JSON))
    }

    fn mapping(&self, id: NodeId) -> Result<Map<String, Json>, Flaw> {
        let mut map = Map::new();
        let mut merged = Map::new();
        for (name, content) in self.document.entries(id) {
            if is_merge(self.text, self.document, name) {
                self.merge(content, &mut merged)?;
            } else {
                map.insert(key(self.text, self.document, name)?.into_owned(), self.value(content)?);
            }
        }
        for (key, value) in merged {
            map.entry(key).or_insert(value);
        }
        Ok(map)
    }

    fn merge(&self, id: NodeId, merged: &mut Map<String, Json>) -> Result<(), Flaw> {
        let list = self.document.resolve(id);
        let sources = match self.document.kind(list) {
            Kind::Sequence { .. } => self.document.items(list).collect(),
            Kind::Scalar(..) | Kind::Mapping { .. } | Kind::Alias(_) => vec![id],
        };
        for source in sources {
            match self.value(source)? {
                Json::Object(map) => {
                    for (key, value) in map {
                        merged.entry(key).or_insert(value);
                    }
                }
                _ => return Err(self.problem(source, "<< takes a mapping, or a list of mappings")),
            }
        }
        Ok(())
    }

    fn problem(&self, id: NodeId, message: impl Into<String>) -> Flaw {
        Flaw::at(self.document.node(id).head(), message)
    }
}

/// Whether the key merges another mapping in.
pub(crate) fn is_merge(text: &str, document: &Document, key: NodeId) -> bool {
    document.kind(key) == Kind::Scalar(Style::Plain) && document.scalar(text, key) == "<<"
}

/// A key of a mapping, as a string.
pub(crate) fn key<'a>(text: &'a str, document: &'a Document, id: NodeId) -> Result<Cow<'a, str>, Flaw> {
    plain_key(text, document, id).ok_or_else(|| Flaw::at(document.node(id).head(), "a key that is no scalar; a manifest has none"))
}

/// A key of a mapping, as a string; none where it is no scalar.
pub(super) fn plain_key<'a>(text: &'a str, document: &'a Document, id: NodeId) -> Option<Cow<'a, str>> {
    let id = document.resolve(id);
    let Kind::Scalar(style) = document.kind(id) else { return None };
    let written = document.scalar(text, id);
    if style != Style::Plain || document.node(id).is_string() {
        return Some(Cow::Borrowed(written));
    }
    Some(match read(written) {
        Plain::Value(other) => Cow::Owned(other.to_string()),
        Plain::Text | Plain::BeyondJson => Cow::Borrowed(written),
    })
}

/// Whether a plain scalar is a number that JSON has no word for.
pub(super) fn is_beyond_json(plain: &str) -> bool {
    plain.starts_with(['.', '+', '-']) && matches!(read(plain), Plain::BeyondJson)
}

/// Whether a plain scalar is a string.
pub(crate) fn is_text(plain: &str) -> bool {
    matches!(read(plain), Plain::Text)
}

/// What a plain scalar stands for; none for infinity and what is not a number.
fn resolve(plain: &str) -> Option<Json> {
    match read(plain) {
        Plain::Text => Some(Json::from(plain)),
        Plain::Value(value) => Some(value),
        Plain::BeyondJson => None,
    }
}

/// What a plain scalar stands for.
enum Plain {
    /// A string.
    Text,
    /// Something else.
    Value(Json),
    /// A number that JSON has no word for.
    BeyondJson,
}

fn read(plain: &str) -> Plain {
    match plain {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Value(Json::Null),
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => return Plain::Value(Json::Bool(true)),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => return Plain::Value(Json::Bool(false)),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" => {
            return Plain::BeyondJson;
        }
        _ => {}
    }
    let may_be_number = plain.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.'));
    if may_be_number { number(plain).map_or(Plain::Text, Plain::Value) } else { Plain::Text }
}

fn number(plain: &str) -> Option<Json> {
    let digits = plain.replace('_', "");
    let (sign, magnitude) = match digits.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let lower = magnitude.to_ascii_lowercase();
    let (digits, radix) = match (lower.get(..2), lower.as_bytes()) {
        (Some("0x"), _) => (&lower[2..], 16),
        (Some("0o"), _) => (&lower[2..], 8),
        (Some("0b"), _) => (&lower[2..], 2),
        (_, [b'0', _, ..]) => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    if digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        let signed = format!("{sign}{digits}");
        if let Ok(number) = i64::from_str_radix(&signed, radix) {
            return Some(Json::from(number));
        }
        if let Ok(number) = u64::from_str_radix(&signed, radix) {
            return Some(Json::from(number));
        }
    }
    is_float(magnitude).then(|| format!("{sign}{magnitude}").parse().ok().and_then(Number::from_f64).map(Json::Number)).flatten()
}

/// Digits, at most one point with digits after it, and at most one exponent.
fn is_float(magnitude: &str) -> bool {
    let (mantissa, exponent) = match magnitude.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (magnitude, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    all_digits(whole)
        && all_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && all_digits(exponent))
}
