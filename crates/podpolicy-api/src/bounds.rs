//! Schemas of the maps and lists whose bounds `schemars` attributes cannot express.
//!
//! The grammar rules are Kubernetes' own (labels and annotations: "Syntax and character set" in the Kubernetes
//! documentation). Nothing here looks at a value; the API server does. Rules stand on the single key or value wherever they
//! can, so that its message names the one that is wrong.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// An optional DNS subdomain and a slash, then a name of at most 63 characters.
const LABEL_KEY: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// The same, but Kubernetes does not mind upper case in the subdomain of an annotation.
const ANNOTATION_KEY: &str = r"^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";
const LABEL_KEY_MESSAGE: &str = "a key is a name of at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, with an optional DNS subdomain in lower case of at most 253 characters and a '/' before it";
const ANNOTATION_KEY_MESSAGE: &str = "a key is a name of at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, with an optional DNS subdomain of at most 253 characters and a '/' before it";
const LABEL_VALUE_MESSAGE: &str =
    "a label value is empty, or at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit";

/// Label keys to label values.
pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": label_value(),
        "x-kubernetes-validations": [every_key(LABEL_KEY, LABEL_KEY_MESSAGE)],
    })
}

/// Annotation keys to values of any content.
pub(crate) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "type": "string", "maxLength": 262_144 },
        "x-kubernetes-validations": [every_key(ANNOTATION_KEY, ANNOTATION_KEY_MESSAGE)],
    })
}

/// The key of a `matchExpressions` entry.
pub(crate) fn label_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 317,
        "x-kubernetes-validations": [{ "rule": is_key("self", LABEL_KEY), "message": LABEL_KEY_MESSAGE }],
    })
}

/// The values of a `matchExpressions` entry.
pub(crate) fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": label_value(),
        "x-kubernetes-list-type": "atomic",
    })
}

/// Globs over container names.
pub(crate) fn container_globs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 32,
        "items": {
            "type": "string",
            "maxLength": 63,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^[-a-z0-9*?]+$')",
                "message": "a glob over container names has lower-case letters, digits, '-', '*' (any text) and '?' (one character), one at least",
            }],
        },
        "x-kubernetes-list-type": "atomic",
    })
}

/// The name of an HTTP header, as probes may send it.
pub(crate) fn header_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 256,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^[-A-Za-z0-9]+$')",
            "message": "a header's name has letters, digits and '-', one at least",
        }],
    })
}

fn label_value() -> Value {
    json!({
        "type": "string",
        "maxLength": 63,
        "x-kubernetes-validations": [{ "rule": format!("self.matches('{LABEL_VALUE}')"), "message": LABEL_VALUE_MESSAGE }],
    })
}

/// A map has no place for a rule on a key, so the message has to name it.
fn every_key(grammar: &str, message: &str) -> Value {
    let is_key = is_key("key", grammar);
    json!({
        "rule": format!("self.all(key, {is_key})"),
        "messageExpression": format!("'key \"' + self.filter(key, !({is_key}))[0] + \"\\\": {message}\""),
        "message": message,
    })
}

fn is_key(variable: &str, grammar: &str) -> String {
    format!("{variable}.matches('{grammar}') && {variable}.split('/')[0].size() <= 253")
}
