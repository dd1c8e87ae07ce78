//! Nodes to values, as kubectl reads them (sigs.k8s.io/yaml, which is YAML 1.1 where it differs from 1.2): `yes`, `no`, `on`, `off`, `y` and
//! `n` are booleans, `017` is octal, `<<` merges, and keys that are no strings become strings.

use serde_json::{Map, Number, Value as Json};

use super::{Document, Kind, Node, NodeId, Style};
use crate::Problem;

/// The most nodes that aliases may stand for in one document.
const MOST_EXPANDED: usize = 100_000;

/// The deepest nesting once aliases stand for what they show.
const DEEPEST: usize = 256;

/// The value of a document.
pub(super) fn value(text: &str, document: &Document) -> Result<Json, Problem> {
    Reader { text, document, budget: document.nodes().len() + MOST_EXPANDED }.value(document.root(), 0)
}

struct Reader<'a> {
    text: &'a str,
    document: &'a Document,
    budget: usize,
}

impl Reader<'_> {
    fn value(&mut self, id: NodeId, depth: usize) -> Result<Json, Problem> {
        let node = self.document.node(id);
        if self.budget == 0 || depth > DEEPEST {
            return Err(self.problem(node, "aliases stand for more here than any manifest needs; write it out"));
        }
        self.budget -= 1;
        match &node.kind {
            Kind::Scalar(style, _) => self.scalar(node, *style),
            Kind::Sequence { items, .. } => items.iter().map(|&item| self.value(item, depth + 1)).collect(),
            Kind::Mapping { entries, .. } => self.mapping(entries, depth).map(Json::Object),
            Kind::Alias(target) => self.value(*target, depth + 1),
        }
    }

    fn scalar(&self, node: &Node, style: Style) -> Result<Json, Problem> {
        let text = node.scalar(self.text);
        if style != Style::Plain || node.is_string {
            return Ok(Json::from(text));
        }
        resolve(text).ok_or_else(|| self.problem(node, "no number that JSON knows; put it in quotes"))
    }

    fn mapping(&mut self, entries: &[(NodeId, NodeId)], depth: usize) -> Result<Map<String, Json>, Problem> {
        let mut map = Map::new();
        let mut merged = Map::new();
        for &(name, content) in entries {
            if is_merge(self.text, self.document.node(name)) {
                self.merge(content, depth, &mut merged)?;
                continue;
            }
            let key = key(self.text, self.document, name)?;
            let value = self.value(content, depth + 1)?;
            if map.contains_key(&key) {
                return Err(self.problem(self.document.node(name), format!("{key} is there twice; remove one")));
            }
            map.insert(key, value);
        }
        for (key, value) in merged {
            map.entry(key).or_insert(value);
        }
        Ok(map)
    }

    fn merge(&mut self, id: NodeId, depth: usize, merged: &mut Map<String, Json>) -> Result<(), Problem> {
        let document = self.document;
        let sources = match &document.node(document.resolve(id)).kind {
            Kind::Sequence { items, .. } => items.clone(),
            Kind::Scalar(..) | Kind::Mapping { .. } | Kind::Alias(_) => vec![id],
        };
        for source in sources {
            match self.value(source, depth + 1)? {
                Json::Object(map) => {
                    for (key, value) in map {
                        merged.entry(key).or_insert(value);
                    }
                }
                _ => return Err(self.problem(document.node(source), "<< takes a mapping, or a list of mappings")),
            }
        }
        Ok(())
    }

    fn problem(&self, node: &Node, message: impl Into<String>) -> Problem {
        Problem::at(self.text, node.head(), message)
    }
}

/// Whether the key merges another mapping in.
pub(crate) fn is_merge(text: &str, key: &Node) -> bool {
    matches!(key.kind, Kind::Scalar(Style::Plain, _)) && key.scalar(text) == "<<"
}

/// A key of a mapping, as a string.
pub(crate) fn key(text: &str, document: &Document, id: NodeId) -> Result<String, Problem> {
    let node = document.node(document.resolve(id));
    match &node.kind {
        Kind::Scalar(Style::Plain, _) if !node.is_string => Ok(match resolve(node.scalar(text)) {
            Some(Json::String(key)) => key,
            Some(other) => other.to_string(),
            None => node.scalar(text).to_owned(),
        }),
        Kind::Scalar(..) => Ok(node.scalar(text).to_owned()),
        Kind::Sequence { .. } | Kind::Mapping { .. } | Kind::Alias(_) => {
            Err(Problem::at(text, document.node(id).head(), "a key that is no scalar; a manifest has none"))
        }
    }
}

/// Whether a plain scalar is a string.
pub(crate) fn is_text(plain: &str) -> bool {
    matches!(resolve(plain), Some(Json::String(_)))
}

/// What a plain scalar stands for; none for infinity and what is not a number.
fn resolve(plain: &str) -> Option<Json> {
    match plain {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Json::Null),
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => return Some(Json::Bool(true)),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => return Some(Json::Bool(false)),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" => return None,
        _ => {}
    }
    let may_be_number = plain.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.'));
    Some(may_be_number.then(|| number(plain)).flatten().unwrap_or_else(|| Json::from(plain)))
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
