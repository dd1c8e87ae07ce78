//! The CustomResourceDefinitions of both kinds, as the API server gets them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

use crate::{ClusterPodPolicy, PodPolicy};

/// Both definitions, PodPolicy first.
pub fn custom_resource_definitions() -> [CustomResourceDefinition; 2] {
    [PodPolicy::crd(), ClusterPodPolicy::crd()].map(|mut definition| {
        for version in &mut definition.spec.versions {
            if let Some(schema) = version.schema.as_mut().and_then(|validation| validation.open_api_v3_schema.as_mut()) {
                for_people(schema);
            }
        }
        definition
    })
}

/// What derived schemas lack for those who read explanations and messages.
fn for_people(schema: &mut JSONSchemaProps) {
    unwrap_description(schema);
    bound_integer(schema);
    let_null_mean_unset(schema);
    for property in schema.properties.iter_mut().flatten().map(|(_, property)| property) {
        for_people(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        for_people(items);
    }
}

/// Doc comments are wrapped for the source; `kubectl explain` wraps by itself and would break each line twice.
fn unwrap_description(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        *description = description.replace('\n', " ");
    }
}

/// The API server refuses what is larger than the format int32 with a message that says no limit, and no path; what is above
/// a maximum with one that says both.
fn bound_integer(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref() == Some("int32") {
        schema.format = None;
        schema.maximum.get_or_insert(f64::from(i32::MAX));
    }
}

/// The API server drops a null, and sets the default where there is one, unless the schema allows null as a value. kube allows
/// it where the types know no null (a default), or where the API server refuses it all the same (an enum).
fn let_null_mean_unset(schema: &mut JSONSchemaProps) {
    if schema.default.is_some() || schema.enum_.is_some() {
        schema.nullable = None;
    }
}
