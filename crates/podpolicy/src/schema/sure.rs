//! Rules that can be seen to hold without a look at CEL, whose parser alone takes longer to begin than all else that happens to a small file. It
//! never says that a rule is broken. In debug builds, so in tests, CEL is asked all the same.

use podpolicy_api::names::{is_label_value, is_port_name, is_qualified_name};
use serde_json::Value as Json;

/// Whether the rule holds for the value, as far as can be seen here.
pub(super) fn holds(rule: &str, value: &Json) -> bool {
    let is_chain = !rule.contains('?');
    names(rule, value)
        || handlers(rule, value)
        || operator(rule, value)
        || (is_chain && rule.split(" || ").any(|term| is_true(term, value)))
}

/// Rules on names. What Kubernetes takes for one, they do; these are the beginnings of their texts.
fn names(rule: &str, value: &Json) -> bool {
    match value {
        Json::Object(map) => rule.starts_with("self.all(key, key.matches(") && map.keys().all(|key| is_qualified_name(key)),
        Json::String(text) if rule.starts_with("self.matches('^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$')") => is_label_value(text),
        Json::String(text) if rule.starts_with("self.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?(") => is_qualified_name(text),
        Json::String(text) if rule == "self.matches('^[-a-z0-9*?]+$')" => {
            let is_of_glob = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-*?".contains(&byte);
            !text.is_empty() && text.bytes().all(is_of_glob)
        }
        Json::String(text) => rule.starts_with("type(self) in [int] ? int(self) >= 1 && int(self) <= 65535 :") && is_port_name(text),
        Json::Number(number) => {
            rule.starts_with("type(self) in [int] ? int(self) >= 1 && int(self) <= 65535 :")
                && number.as_i64().is_some_and(|number| (1..=65535).contains(&number))
        }
        Json::Null | Json::Bool(_) | Json::Array(_) => false,
    }
}

/// What an operator of a selector says of its values.
fn operator(rule: &str, value: &Json) -> bool {
    let has_values = value["values"].as_array().is_some_and(|values| !values.is_empty());
    let takes_values = matches!(value["operator"].as_str(), Some("In" | "NotIn"));
    rule.starts_with("self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 :") && takes_values && has_values
}

/// `[has(self.a), has(self.b)].filter(given, given).size() == 1`
fn handlers(rule: &str, value: &Json) -> bool {
    let Some((list, bound)) = rule.strip_prefix('[').and_then(|rule| rule.split_once("].filter(given, given).size() ")) else {
        return false;
    };
    let fields: Option<Vec<_>> = list.split(", ").map(|term| term.strip_prefix("has(self.")?.strip_suffix(')')).collect();
    let Some(fields) = fields.filter(|fields| value.is_object() && fields.iter().all(|field| is_field(field))) else { return false };
    let given = fields.iter().filter(|field| value.get(**field).is_some()).count();
    match bound {
        "== 1" => given == 1,
        "<= 1" => given <= 1,
        _ => false,
    }
}

/// A term that is `has(self.a.b)` or `!has(self.a.b)`, and true.
fn is_true(term: &str, value: &Json) -> bool {
    let (is_wanted, term) = term.strip_prefix('!').map_or((true, term), |term| (false, term));
    let Some(path) = term.strip_prefix("has(self.").and_then(|path| path.strip_suffix(')')) else { return false };
    let mut fields = path.split('.');
    let Some(last) = fields.next_back().filter(|_| path.split('.').all(is_field)) else { return false };
    // Of what is in nothing CEL says neither.
    let parent = fields.try_fold(value, |value, field| value.get(field)).and_then(Json::as_object);
    parent.is_some_and(|parent| parent.contains_key(last) == is_wanted)
}

fn is_field(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GLOB: &str = "self.matches('^[-a-z0-9*?]+$')";
    const VALUES: &str = "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values)";

    #[test]
    fn nothing_holds_for_sure_that_could_be_broken() {
        let (one, none) = ("[has(self.a), has(self.b)].filter(given, given).size() == 1", "has(self.a) || has(self.b)");
        for (rule, value, wanted) in [
            (one, json!({ "a": 1 }), true),
            (one, json!({ "a": 1, "b": 2 }), false),
            (one, json!({}), false),
            (none, json!({ "b": 1 }), true),
            (none, json!({}), false),
            ("!has(self.a) || !has(self.a.b) || self.a.b == 1", json!({}), true),
            ("!has(self.a) || !has(self.a.b) || self.a.b == 1", json!({ "a": {} }), true),
            ("!has(self.a) || !has(self.a.b) || self.a.b == 1", json!({ "a": { "b": 1 } }), false),
            ("!has(self.a.b)", json!({}), false),
            ("has(self.b) ? has(self.c) : has(self.d) || has(self.a)", json!({ "a": 1, "b": 1 }), false),
            ("has(self.a) && has(self.b) || has(self.c)", json!({ "a": 1 }), false),
            ("self.all(key, key.matches('x'))", json!({ "a/b": 1 }), true),
            ("self.all(key, key.matches('x'))", json!({ "a/b/c": 1 }), false),
            (GLOB, json!("web-*"), true),
            (GLOB, json!("Web"), false),
            (GLOB, json!(""), false),
            (VALUES, json!({ "operator": "In", "values": ["a"] }), true),
            (VALUES, json!({ "operator": "In", "values": [] }), false),
            (VALUES, json!({ "operator": "Exists" }), false),
        ] {
            assert_eq!(holds(rule, &value), wanted, "{rule} {value}");
        }
    }
}
