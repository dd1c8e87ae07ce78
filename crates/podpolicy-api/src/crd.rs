//! The CustomResourceDefinitions of both kinds, as the API server gets them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

use crate::{ClusterPodPolicy, PodPolicy};

/// Both definitions, PodPolicy first.
pub fn custom_resource_definitions() -> [CustomResourceDefinition; 2] {
    [PodPolicy::crd(), ClusterPodPolicy::crd()].map(|mut definition| {
        for version in &mut definition.spec.versions {
            version.additional_printer_columns = Some(columns());
            if let Some(schema) = version.schema.as_mut().and_then(|validation| validation.open_api_v3_schema.as_mut()) {
                for_people(schema);
            }
        }
        definition
    })
}

/// What `kubectl get` shows of both kinds: by default, and by `--output wide` beside that.
fn columns() -> Vec<CustomResourceColumnDefinition> {
    [
        ("Ready", "string", r#".status.conditions[?(@.type=="Ready")].status"#, false, "Whether the policy is in force as declared"),
        ("Reason", "string", r#".status.conditions[?(@.type=="Ready")].reason"#, false, "Why it is ready or not"),
        ("Matched", "integer", ".status.pods.matched", false, "Pods that the policy selects"),
        ("Compliant", "integer", ".status.pods.compliant", false, "Pods with nothing left to do"),
        ("Outdated", "integer", ".status.pods.outdated", false, "Pods that must be replaced to get the policy's create-time settings"),
        ("Refused", "integer", ".status.pods.refused", true, "Pods that have all but the fields that are refused"),
        (
            "Conflicted",
            "string",
            r#".status.conditions[?(@.type=="Conflicted")].status"#,
            true,
            "Whether another policy sets another value for some field of some pod",
        ),
        ("Enforcement", "string", ".spec.enforcement", true, "Enforce or Audit"),
        ("Priority", "integer", ".spec.priority", true, "Which policy wins: the higher"),
        ("Rollout", "string", ".status.rollout.phase", true, "How far the rollout to pods that already run has come"),
        ("Age", "date", ".metadata.creationTimestamp", false, "Time since the policy was created"),
    ]
    .map(|(name, type_, json_path, is_wide, description)| CustomResourceColumnDefinition {
        name: name.to_owned(),
        type_: type_.to_owned(),
        json_path: json_path.to_owned(),
        priority: is_wide.then_some(1),
        description: Some(description.to_owned()),
        ..CustomResourceColumnDefinition::default()
    })
    .into()
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
