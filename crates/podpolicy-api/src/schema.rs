//! A JSON Schema of both kinds, for editors and for whoever checks files without an API server.
//!
//! It is the schema of the definitions, with what OpenAPI says in words of its own said in those of JSON Schema, and with fields refused that
//! the API server would drop. The rules in CEL are not in it.

use serde_json::{Map, Value, json};

use crate::{GROUP, custom_resource_definitions};

/// The schema: of a file, or of each document in it, that holds a policy of either kind.
pub fn json_schema() -> Value {
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "PodPolicy and ClusterPodPolicy",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": { "enum": [] },
            "kind": { "enum": [] },
            "metadata": metadata(),
            "status": { "type": "object", "description": "Written by the operator." },
        },
        "allOf": [],
    });
    for definition in custom_resource_definitions() {
        let kind = definition.spec.names.kind.as_str();
        push(&mut schema["properties"]["kind"]["enum"], kind.into());
        for version in definition.spec.versions {
            let api_version = Value::from(format!("{GROUP}/{}", version.name));
            let rules = version.schema.and_then(|validation| validation.open_api_v3_schema);
            let Ok(mut rules) = serde_json::to_value(rules) else { continue };
            let known = &mut schema["properties"]["apiVersion"]["enum"];
            if !known.as_array().is_some_and(|known| known.contains(&api_version)) {
                push(known, api_version.clone());
            }
            let mut spec = rules["properties"]["spec"].take();
            for_json(&mut spec);
            let known = json!({ "apiVersion": true, "kind": true, "metadata": true, "status": true, "spec": spec });
            push(
                &mut schema["allOf"],
                json!({
                    "if": { "properties": { "kind": { "const": kind }, "apiVersion": { "const": api_version } } },
                    "then": { "description": rules["description"], "properties": known, "additionalProperties": false },
                }),
            );
        }
    }
    schema
}

fn push(list: &mut Value, item: Value) {
    if let Value::Array(items) = list {
        items.push(item);
    }
}

/// What people write of an object's metadata.
fn metadata() -> Value {
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": 253 },
            "namespace": { "type": "string", "description": "The namespace whose pods a PodPolicy acts on. A ClusterPodPolicy has none." },
            "labels": texts,
            "annotations": texts,
        },
    })
}

/// Says in JSON Schema what the schema says in OpenAPI.
fn for_json(schema: &mut Value) {
    let Value::Object(rules) = schema else { return };
    if rules.remove("x-kubernetes-int-or-string").is_some() {
        rules.insert("type".to_owned(), json!(["integer", "string"]));
    }
    if rules.remove("nullable") == Some(true.into()) {
        allow_null(rules);
    }
    rules.retain(|key, _| !key.starts_with("x-kubernetes-"));
    if let Some(Value::Object(properties)) = rules.get_mut("properties") {
        properties.values_mut().for_each(for_json);
        rules.entry("additionalProperties").or_insert(false.into());
    }
    for inner in ["items", "additionalProperties", "not"] {
        rules.get_mut(inner).into_iter().for_each(for_json);
    }
    for inner in ["allOf", "anyOf", "oneOf"] {
        rules.get_mut(inner).and_then(Value::as_array_mut).into_iter().flatten().for_each(for_json);
    }
}

fn allow_null(rules: &mut Map<String, Value>) {
    if let Some(Value::String(kind)) = rules.get("type") {
        let both = json!([kind, "null"]);
        rules.insert("type".to_owned(), both);
    }
    if let Some(Value::Array(values)) = rules.get_mut("enum") {
        values.push(Value::Null);
    }
}
