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
                unwrap_descriptions(schema);
            }
        }
        definition
    })
}

/// Doc comments are wrapped for the source; `kubectl explain` wraps by itself and would break each line twice.
fn unwrap_descriptions(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        *description = description.replace('\n', " ");
    }
    for property in schema.properties.iter_mut().flatten().map(|(_, property)| property) {
        unwrap_descriptions(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        unwrap_descriptions(items);
    }
}
