//! A policy as the API server stores it.

use serde_json::{Map, Value};

use super::keywords::Schema;

/// The value without the nulls of known fields and of maps, which say nothing, and with the defaults of the fields that are not there. An
/// unknown field stays, and so does a null in a list: both are mistakes.
pub(super) fn stored(schema: &Schema<'_>, value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(stored_fields(schema, fields)),
        Value::Array(items) => match &schema.items {
            Some(schema) => items.iter().map(|item| stored(schema, item)).collect(),
            None => value.clone(),
        },
        scalar => scalar.clone(),
    }
}

fn stored_fields(schema: &Schema<'_>, fields: &Map<String, Value>) -> Map<String, Value> {
    let mut kept = Map::new();
    for (name, value) in fields {
        let known = schema.properties.get(name.as_str()).or(schema.additional_properties.as_ref());
        let value = match known {
            Some(_) if value.is_null() => continue,
            Some(schema) => stored(schema, value),
            None => value.clone(),
        };
        kept.insert(name.clone(), value);
    }
    for (&name, property) in &schema.properties {
        if let Some(default) = property.default.as_ref().filter(|_| !kept.contains_key(name)) {
            kept.insert(name.to_owned(), default.clone());
        }
    }
    kept
}
