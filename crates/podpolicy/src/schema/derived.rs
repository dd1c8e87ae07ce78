//! Makes `derived.json` from the definitions. `UPDATE=1` writes it.

use std::{env, fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use podpolicy_api::custom_resource_definitions;

use super::{BTreeMap, DERIVED};

/// The schemas, by kind and version.
type Kinds = BTreeMap<String, BTreeMap<String, JSONSchemaProps>>;

#[test]
fn file_has_the_schemas_that_are_derived() {
    let kinds: Kinds = custom_resource_definitions().into_iter().map(|kind| (kind.spec.names.kind.clone(), versions(kind))).collect();
    let wanted = serde_json::to_string(&kinds).unwrap() + "\n";
    if env::var_os("UPDATE").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/schema/derived.json"), &wanted).unwrap();
        return;
    }
    assert!(wanted == DERIVED, "crates/podpolicy/src/schema/derived.json is out of date: run `just generate`");
}

fn versions(kind: CustomResourceDefinition) -> BTreeMap<String, JSONSchemaProps> {
    let schemas = kind.spec.versions.into_iter().filter_map(|version| Some((version.name, version.schema?.open_api_v3_schema?)));
    schemas.map(|(version, schema)| (version, whole(schema))).collect()
}

/// Adds what every object has and definitions leave out. The status is the operator's: the API server ignores that of files.
fn whole(mut schema: JSONSchemaProps) -> JSONSchemaProps {
    let metadata = metadata(&schema);
    let properties = schema.properties.get_or_insert_default();
    for (name, property) in [("apiVersion", text()), ("kind", text()), ("metadata", metadata), ("status", JSONSchemaProps::default())] {
        properties.insert(name.to_owned(), property);
    }
    without_descriptions(&mut schema);
    schema
}

/// A policy's own labels and annotations have the grammar of those that it sets; only their number is free.
fn metadata(schema: &JSONSchemaProps) -> JSONSchemaProps {
    let spec = schema.properties.as_ref().and_then(|properties| properties.get("spec")?.properties.as_ref());
    let of_spec = ["labels", "annotations"].into_iter().filter_map(|name| Some((name, spec?.get(name)?.clone())));
    let of_spec = of_spec.map(|(name, schema)| (name, JSONSchemaProps { max_properties: None, ..schema }));
    let properties = of_spec.chain([("name", text()), ("namespace", text())]).map(|(name, schema)| (name.to_owned(), schema));
    JSONSchemaProps {
        type_: Some("object".to_owned()),
        properties: Some(properties.collect()),
        x_kubernetes_preserve_unknown_fields: Some(true),
        ..JSONSchemaProps::default()
    }
}

fn text() -> JSONSchemaProps {
    JSONSchemaProps { type_: Some("string".to_owned()), ..JSONSchemaProps::default() }
}

/// Leaves out what is for people alone.
fn without_descriptions(schema: &mut JSONSchemaProps) {
    schema.description = None;
    schema.properties.iter_mut().flatten().for_each(|(_, property)| without_descriptions(property));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        without_descriptions(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        without_descriptions(values);
    }
}
