//! The names of a policy and of its namespace.

use serde_json::Value;

use super::Wrong;

/// The longest name of an object.
const LONGEST: usize = 253;
/// The longest name of a namespace, which is a single DNS label.
const LONGEST_LABEL: usize = 63;

/// What is wrong with the names; what is no text has been told.
pub(super) fn check(policy: &Value) -> Vec<Wrong> {
    let metadata = &policy["metadata"];
    let name = match &metadata["name"] {
        Value::Null if metadata.is_object() || metadata.is_null() => Some(Wrong::field("metadata.name", "a name is required")),
        Value::String(name) if name.is_empty() => Some(Wrong::field("metadata.name", "a name is required")),
        Value::String(name) if name.len() > LONGEST || !name.split('.').all(is_label) => Some(Wrong::field(
            "metadata.name",
            format!(
                "{name:?} is no name: at most {LONGEST} lower-case letters, digits, '-' and '.', with a letter or digit at both ends and beside each '.'"
            ),
        )),
        _ => None,
    };
    let namespace = match &metadata["namespace"] {
        Value::String(name) if !name.is_empty() && (name.len() > LONGEST_LABEL || !is_label(name)) => Some(Wrong::field(
            "metadata.namespace",
            format!(
                "{name:?} is no name of a namespace: at most {LONGEST_LABEL} lower-case letters, digits and '-', with a letter or digit at both ends"
            ),
        )),
        _ => None,
    };
    name.into_iter().chain(namespace).collect()
}

fn is_label(text: &str) -> bool {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    ends.is_some_and(|(first, last)| is_alphanumeric(first) && is_alphanumeric(last))
        && bytes.iter().all(|byte| is_alphanumeric(byte) || *byte == b'-')
}
