//! A policy as the API server stores it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool};
use serde_json::{Map, Value};

/// The value without the nulls of known fields and of maps, which say nothing, and with the defaults of the fields that are not there. An
/// unknown field stays, and so does a null in a list: both are mistakes.
pub(super) fn stored(schema: &JSONSchemaProps, value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(stored_fields(schema, fields)),
        Value::Array(items) => match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(schema)) => items.iter().map(|item| stored(schema, item)).collect(),
            _ => value.clone(),
        },
        scalar => scalar.clone(),
    }
}

fn stored_fields(schema: &JSONSchemaProps, fields: &Map<String, Value>) -> Map<String, Value> {
    let mut kept = Map::new();
    for (name, value) in fields {
        let value = match (schema.properties.as_ref().and_then(|known| known.get(name)), &schema.additional_properties) {
            (Some(_), _) | (None, Some(_)) if value.is_null() => continue,
            (Some(schema), _) => stored(schema, value),
            (None, Some(JSONSchemaPropsOrBool::Schema(schema))) => stored(schema, value),
            (None, _) => value.clone(),
        };
        kept.insert(name.clone(), value);
    }
    for (name, property) in schema.properties.iter().flatten() {
        if let Some(default) = property.default.as_ref().filter(|_| !kept.contains_key(name)) {
            kept.insert(name.clone(), default.0.clone());
        }
    }
    kept
}
