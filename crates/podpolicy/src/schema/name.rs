//! The names of a policy and of its namespace.

use podpolicy_api::names::{LONGEST_LABEL, LONGEST_SUBDOMAIN, is_dns_label, is_dns_subdomain};
use serde_json::Value;

use super::Wrong;

/// What is wrong with the names; what is no text has been told.
pub(super) fn check(policy: &Value) -> Vec<Wrong> {
    let metadata = &policy["metadata"];
    let name = match &metadata["name"] {
        Value::Null if metadata.is_object() || metadata.is_null() => Some(Wrong::field("metadata.name", "a name is required")),
        Value::String(name) if name.is_empty() => Some(Wrong::field("metadata.name", "a name is required")),
        Value::String(name) if !is_dns_subdomain(name) => Some(Wrong::field(
            "metadata.name",
            format!(
                "{name:?} is no name: at most {LONGEST_SUBDOMAIN} lower-case letters, digits, '-' and '.', with a letter or digit at both ends and beside each '.'"
            ),
        )),
        _ => None,
    };
    let namespace = match &metadata["namespace"] {
        Value::String(name) if !name.is_empty() && !is_dns_label(name) => Some(Wrong::field(
            "metadata.namespace",
            format!(
                "{name:?} is no name of a namespace: at most {LONGEST_LABEL} lower-case letters, digits and '-', with a letter or digit at both ends"
            ),
        )),
        _ => None,
    };
    name.into_iter().chain(namespace).collect()
}
