//! What the API server would check of a policy by the schema of its definition: unknown and missing fields, types, bounds. The rules in
//! CEL are not tried.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool};
use podpolicy_api::custom_resource_definitions;
use serde_json::Value;

/// Checks the spec of a policy. The error begins with the path of the field.
pub(crate) fn check(kind: &str, api_version: &str, policy: &Value) -> Result<()> {
    let definitions = custom_resource_definitions();
    let definition = definitions.iter().find(|definition| definition.spec.names.kind == kind);
    let versions = definition.iter().flat_map(|definition| &definition.spec.versions);
    let version = versions.clone().find(|version| api_version.split_once('/').is_some_and(|(_, wanted)| wanted == version.name));
    let Some(version) = version else {
        let known = versions.map(|version| version.name.as_str()).collect::<Vec<_>>().join(", ");
        bail!("apiVersion: {api_version} is not known; the versions are {known}");
    };
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let spec = schema.and_then(|schema| schema.properties.as_ref()?.get("spec"));
    let Some(spec) = spec else { return Ok(()) };
    match policy.get("spec") {
        Some(value) => check_value(spec, value, "spec"),
        None => bail!("spec: required"),
    }
}

fn check_value(schema: &JSONSchemaProps, value: &Value, path: &str) -> Result<()> {
    // An absent field and one that is null are the same.
    if value.is_null() {
        return Ok(());
    }
    if schema.x_kubernetes_int_or_string == Some(true) {
        return if value.is_string() || value.is_i64() { Ok(()) } else { bail!("{path}: an integer or a string is wanted, not {value}") };
    }
    if let Some(allowed) = schema.enum_.as_ref().filter(|allowed| !allowed.iter().any(|allowed| allowed.0 == *value)) {
        let allowed: Vec<_> = allowed.iter().filter_map(|allowed| allowed.0.as_str()).collect();
        bail!("{path}: one of {} is wanted, not {value}", allowed.join(", "));
    }
    match (schema.type_.as_deref(), value) {
        (Some("object"), Value::Object(fields)) => check_object(schema, fields, path),
        (Some("array"), Value::Array(items)) => check_items(schema, items, path),
        (Some("integer"), Value::Number(number)) if number.is_i64() => check_bounds(schema, number.as_i64().unwrap_or_default(), path),
        (Some("boolean"), Value::Bool(_)) | (Some("string"), Value::String(_)) | (None, _) => Ok(()),
        (Some(wanted), _) => {
            let article = if wanted.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
            bail!("{path}: {article} {wanted} is wanted, not {value}")
        }
    }
}

fn check_object(schema: &JSONSchemaProps, fields: &serde_json::Map<String, Value>, path: &str) -> Result<()> {
    if let Some(missing) = schema.required.iter().flatten().find(|name| fields.get(*name).is_none_or(Value::is_null)) {
        bail!("{path}.{missing}: required");
    }
    for (name, value) in fields {
        match (schema.properties.as_ref().and_then(|known| known.get(name)), &schema.additional_properties) {
            (Some(property), _) => check_value(property, value, &format!("{path}.{name}"))?,
            (None, Some(JSONSchemaPropsOrBool::Schema(values))) => check_value(values, value, &format!("{path}[{name}]"))?,
            (None, _) => {
                let mut known = String::new();
                for name in schema.properties.iter().flat_map(|known| known.keys()) {
                    let _ = write!(known, "{}{name}", if known.is_empty() { "" } else { ", " });
                }
                bail!("{path}.{name}: unknown field; known are {known}");
            }
        }
    }
    Ok(())
}

fn check_items(schema: &JSONSchemaProps, items: &[Value], path: &str) -> Result<()> {
    if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
        for (index, item) in items.iter().enumerate() {
            check_value(schema, item, &format!("{path}[{index}]"))?;
        }
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "bounds are small, and larger numbers stay larger")]
fn check_bounds(schema: &JSONSchemaProps, number: i64, path: &str) -> Result<()> {
    match (schema.minimum, schema.maximum) {
        (Some(minimum), _) if (number as f64) < minimum => bail!("{path}: at least {minimum} is wanted, not {number}"),
        (_, Some(maximum)) if (number as f64) > maximum => bail!("{path}: at most {maximum} is wanted, not {number}"),
        _ => Ok(()),
    }
}
