//! What the API server would say of a policy by its definition: unknown and missing fields, types, bounds, and the rules in CEL. All is
//! read from the definition; nothing is written here a second time, but for the grammar of names, which definitions do not say.

mod alike;
#[cfg(test)]
mod derived;
mod keywords;
mod name;
mod rules;
mod stored;
mod structure;
mod sure;
mod wrong;

use std::{
    collections::BTreeMap,
    sync::{LazyLock, OnceLock},
};

use podpolicy_api::GROUP;
use serde_json::{Value, value::RawValue};

pub(crate) use self::wrong::Wrong;
use self::{keywords::Schema, structure::Walk};

/// The schemas of whole objects, by kind and version. A test keeps the file as it should be: deriving them takes longer than all else that happens
/// to a small file.
const DERIVED: &str = include_str!("derived.json");

/// A version of a kind; its schema is read when it is first met.
struct Version {
    written: &'static RawValue,
    schema: OnceLock<Schema<'static>>,
}

static KINDS: LazyLock<BTreeMap<&str, BTreeMap<&str, Version>>> = LazyLock::new(|| {
    let kinds: BTreeMap<_, BTreeMap<_, _>> = serde_json::from_str(DERIVED).expect("a test reads the same file");
    let version = |(name, written)| (name, Version { written, schema: OnceLock::new() });
    kinds.into_iter().map(|(kind, versions)| (kind, versions.into_iter().map(version).collect())).collect()
});

/// Checks a policy, and returns it as the API server would store it: without nulls, and with defaults. Otherwise all its mistakes.
pub(crate) fn check(kind: &str, api_version: &str, policy: &Value) -> Result<Value, Vec<Wrong>> {
    let schema = schema(kind, api_version).map_err(|wrong| vec![wrong])?;
    let policy = stored::stored(schema, policy);
    let mut wrong = Walk::over(schema, &policy);
    wrong.extend(name::check(&policy));
    if wrong.is_empty() { Ok(policy) } else { Err(wrong) }
}

fn schema(kind: &str, api_version: &str) -> Result<&'static Schema<'static>, Wrong> {
    let Some(versions) = KINDS.get(kind) else {
        let known: Vec<_> = KINDS.keys().copied().collect();
        let meant = alike::meant(kind, &known);
        return Err(Wrong::field("kind", format!("{GROUP} has no kind {kind}; {meant}known are {}", known.join(", "))));
    };
    let version = api_version.split_once('/').and_then(|(_, version)| versions.get(version)).ok_or_else(|| {
        let known: Vec<_> = versions.keys().map(|version| format!("{GROUP}/{version}")).collect();
        let meant = alike::meant(api_version, &known.iter().map(String::as_str).collect::<Vec<_>>());
        Wrong::field("apiVersion", format!("{api_version} is not known; {meant}known are {}", known.join(", ")))
    })?;
    Ok(version.schema.get_or_init(|| serde_json::from_str(version.written.get()).expect("a test reads the same file")))
}

#[cfg(test)]
mod tests {
    use podpolicy_api::custom_resource_definitions;

    use super::*;

    /// What `structure.rs`, `stored.rs` and `rules.rs` look at, and what says nothing about values here.
    const KNOWN: [&str; 17] = [
        "additionalProperties",
        "default",
        "description",
        "enum",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minimum",
        "nullable",
        "properties",
        "required",
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-validations",
    ];

    #[test]
    fn specs_have_no_keyword_that_is_not_checked() {
        for definition in custom_resource_definitions() {
            for version in definition.spec.versions {
                let schema = version.schema.unwrap().open_api_v3_schema.unwrap();
                every_keyword_is_known(&serde_json::to_value(&schema.properties.unwrap()["spec"]).unwrap(), "spec");
            }
        }
    }

    fn every_keyword_is_known(schema: &Value, path: &str) {
        for (keyword, value) in schema.as_object().unwrap() {
            match (keyword.as_str(), value) {
                // Every integer is one of 64 bits, and no list is a set or a map. How objects are merged says nothing of values.
                ("format", value) => assert_eq!(value, "int64", "{path}"),
                ("x-kubernetes-list-type" | "x-kubernetes-map-type", value) => assert_eq!(value, "atomic", "{path}"),
                ("properties", Value::Object(properties)) => {
                    properties.iter().for_each(|(name, schema)| every_keyword_is_known(schema, &format!("{path}.{name}")));
                }
                ("items" | "additionalProperties", schema) => every_keyword_is_known(schema, &format!("{path}[]")),
                ("x-kubernetes-validations", Value::Array(rules)) => {
                    for rule in rules {
                        let known = ["fieldPath", "message", "messageExpression", "rule"];
                        assert!(rule.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{path}: {rule}");
                        assert!(!rule["rule"].as_str().unwrap().contains("oldSelf"), "{path}: files have no older state: {rule}");
                    }
                }
                (keyword, _) => assert!(KNOWN.contains(&keyword), "{path}: {keyword}"),
            }
        }
    }
}
