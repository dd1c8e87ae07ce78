//! A label selector with Kubernetes' own shape and meaning, bounded so that the API server can refuse a bad one.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Selects objects by their labels, as selectors of Services and Deployments do. All `matchLabels` and all
/// `matchExpressions` must hold. An empty selector (`{}`) selects everything in scope.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LabelSelector {
    /// Labels that must be there with exactly these values. At most 64. Example: `app.kubernetes.io/component: web`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::bounds::labels")]
    pub match_labels: BTreeMap<String, String>,

    /// Conditions on labels, all of which must hold. At most 64. Example: `{key: tier, operator: NotIn, values: [batch]}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One condition on one label.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values) || self.values.size() == 0")
        .message("values are required for the operators In and NotIn, and not allowed for Exists and DoesNotExist")
        .field_path(".values"),
)]
pub struct LabelSelectorRequirement {
    /// The label key that the condition is on. Example: `tier`.
    #[schemars(schema_with = "crate::bounds::label_key")]
    pub key: String,

    /// How the label is compared: `In` and `NotIn` the `values`, `Exists` or `DoesNotExist`. A pod without the label
    /// satisfies `NotIn`, as everywhere in Kubernetes.
    pub operator: Operator,

    /// The values for `In` and `NotIn`, one at least and 64 at most; not allowed for the other operators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::bounds::label_values")]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Operator {
    /// The label is there and its value is one of `values`.
    In,
    /// The label is absent, or its value is none of `values`.
    NotIn,
    /// The label is there, whatever its value.
    Exists,
    /// The label is absent.
    DoesNotExist,
}
