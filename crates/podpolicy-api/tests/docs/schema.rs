//! The definitions as a list of fields, and what each description must say.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use podpolicy_api::custom_resource_definitions;

#[test]
fn every_field_is_documented() {
    let fields = fields();
    assert!(fields.len() > 200, "only {} fields: the walk is broken", fields.len());
    for (path, schema) in &fields {
        assert!(schema.description.as_deref().is_some_and(|text| text.trim().ends_with(['.', '`'])), "{path} has no description");
    }
}

#[test]
fn seconds_say_so() {
    let fields = fields();
    let seconds = fields.iter().filter(|(path, _)| path.ends_with("econds"));
    let mut count = 0;
    for (path, schema) in seconds {
        assert!(description(schema).to_lowercase().contains("seconds"), "{path} names no unit: {}", description(schema));
        count += 1;
    }
    assert!(count >= 20, "only {count} fields in seconds");
}

#[test]
fn defaults_are_named() {
    for (path, schema) in fields() {
        let Some(default) = &schema.default else { continue };
        let value = default.0.to_string();
        let forms = [format!("Default: {value}"), format!("Default: `{value}`"), format!("Default: `{}`", value.trim_matches('"'))];
        assert!(forms.iter().any(|form| description(&schema).contains(form)), "{path}: not {value} in {}", description(&schema));
    }
}

/// A null means that a field is unset. Where a schema allows it as a value, the API server keeps it, and the types must know it.
#[test]
fn null_is_no_value_of_a_field_with_a_default_or_an_enum() {
    for (path, schema) in fields() {
        let nullable = schema.nullable == Some(true);
        assert!(!nullable || (schema.default.is_none() && schema.enum_.is_none()), "{path} is nullable");
    }
}

/// The API server's message for a number beyond the format int32 says no limit.
#[test]
fn integers_of_a_spec_have_a_maximum() {
    for (path, schema) in fields() {
        if path.contains(".spec.") && schema.type_.as_deref() == Some("integer") {
            assert!(schema.maximum.is_some() && schema.minimum.is_some() && schema.format.as_deref() != Some("int32"), "{path}");
        }
    }
}

/// The schema of the kind that a definition is of.
pub(crate) fn of(definition: &CustomResourceDefinition) -> &JSONSchemaProps {
    let validation = definition.spec.versions[0].schema.as_ref().unwrap();
    validation.open_api_v3_schema.as_ref().unwrap()
}

/// What a list or a map holds.
pub(crate) fn element(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match (&schema.items, &schema.additional_properties) {
        (Some(JSONSchemaPropsOrArray::Schema(items)), _) => Some(items),
        (_, Some(JSONSchemaPropsOrBool::Schema(values))) => Some(values),
        _ => None,
    }
}

pub(crate) fn description(schema: &JSONSchemaProps) -> &str {
    schema.description.as_deref().unwrap_or_default()
}

/// Every field of both kinds, as `PodPolicy.spec.selector`.
fn fields() -> Vec<(String, JSONSchemaProps)> {
    let mut fields = Vec::new();
    for definition in custom_resource_definitions() {
        walk(&definition.spec.names.kind, of(&definition), &mut fields);
    }
    fields
}

fn walk(path: &str, schema: &JSONSchemaProps, fields: &mut Vec<(String, JSONSchemaProps)>) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        walk(&path, property, fields);
        fields.push((path, property.clone()));
    }
    if let Some(element) = element(schema) {
        walk(path, element, fields);
    }
}
