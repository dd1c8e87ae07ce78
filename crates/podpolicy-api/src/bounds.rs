//! Schemas of the maps and lists whose bounds `schemars` attributes cannot express.
//!
//! The grammar rules are Kubernetes' own (labels and annotations: "Syntax and character set" in the Kubernetes
//! documentation). Nothing here looks at a value; the API server does.

use schemars::{Schema, SchemaGenerator, json_schema};

/// An optional DNS subdomain and a slash, then a name of at most 63 characters.
const QUALIFIED_NAME: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";
const KEY_MESSAGE: &str = "a key is a name of at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, with an optional DNS subdomain of at most 253 characters and a '/' before it";
const LABEL_VALUE_MESSAGE: &str =
    "a label value is empty, or at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit";

/// Label keys to label values.
pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "type": "string", "maxLength": 63 },
        "x-kubernetes-validations": [
            { "rule": key_rule(), "message": format!("labels: {KEY_MESSAGE}") },
            { "rule": format!("self.all(key, self[key].matches('{LABEL_VALUE}'))"), "message": format!("labels: {LABEL_VALUE_MESSAGE}") },
        ],
    })
}

/// Annotation keys to values of any content.
pub(crate) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "type": "string", "maxLength": 262_144 },
        "x-kubernetes-validations": [
            { "rule": key_rule(), "message": format!("annotations: {KEY_MESSAGE}") },
        ],
    })
}

/// The `matchLabels` of a selector.
pub(crate) fn match_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "type": "string", "maxLength": 63 },
        "x-kubernetes-validations": [
            { "rule": key_rule(), "message": format!("matchLabels: {KEY_MESSAGE}") },
            { "rule": format!("self.all(key, self[key].matches('{LABEL_VALUE}'))"), "message": format!("matchLabels: {LABEL_VALUE_MESSAGE}") },
        ],
    })
}

/// The key of a `matchExpressions` entry.
pub(crate) fn label_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 317,
        "x-kubernetes-validations": [
            { "rule": format!("self.matches('{QUALIFIED_NAME}') && self.split('/')[0].size() <= 253"), "message": format!("key: {KEY_MESSAGE}") },
        ],
    })
}

/// The values of a `matchExpressions` entry.
pub(crate) fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": { "type": "string", "maxLength": 63 },
        "x-kubernetes-list-type": "atomic",
        "x-kubernetes-validations": [
            { "rule": format!("self.all(value, value.matches('{LABEL_VALUE}'))"), "message": format!("values: {LABEL_VALUE_MESSAGE}") },
        ],
    })
}

/// Globs over container names.
pub(crate) fn container_globs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 32,
        "items": { "type": "string", "minLength": 1, "maxLength": 63 },
        "default": ["*"],
        "x-kubernetes-list-type": "atomic",
        "x-kubernetes-validations": [
            { "rule": "self.all(name, name.matches('^[-a-z0-9*?]+$'))", "message": "names: a glob over container names has lower-case letters, digits, '-', '*' (any text) and '?' (one character)" },
        ],
    })
}

fn key_rule() -> String {
    format!("self.all(key, key.matches('{QUALIFIED_NAME}') && key.split('/')[0].size() <= 253)")
}
