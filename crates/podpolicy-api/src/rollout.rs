//! How pods that already run get the settings that Kubernetes allows only at creation.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// How pods that already run get probes, hooks and the grace period, which Kubernetes lets nobody change on a live pod.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.progressDeadlineSeconds > self.minReadySeconds")
        .message("must be greater than minReadySeconds (defaults: 600 and 10), or no pod could be ready in time")
        .field_path(".progressDeadlineSeconds"),
)]
pub struct Rollout {
    /// `OnCreate`: pods get the settings as they are replaced anyway. `Evict`: pods are evicted one by one, within
    /// `maxUnavailable` and every PodDisruptionBudget. `Restart`: the workload's own rolling update replaces them.
    /// Default: `OnCreate`.
    #[serde(default)]
    pub strategy: Strategy,

    /// How many pods of one workload may be unavailable at once: a number from 1, or a percentage from `1%` to `100%`.
    /// Default: 1.
    #[serde(default)]
    pub max_unavailable: MaxUnavailable,

    /// Seconds that a replaced pod must stay ready before the next one is replaced. Default: 10.
    #[serde(default = "default_min_ready_seconds")]
    #[schemars(range(min = 0))]
    pub min_ready_seconds: i32,

    /// Seconds that a replaced pod may take to become ready before the rollout counts as failed. Must be greater than
    /// `minReadySeconds`. Default: 600.
    #[serde(default = "default_progress_deadline_seconds")]
    #[schemars(range(min = 1))]
    pub progress_deadline_seconds: i32,

    /// What happens when a replaced pod fails: `Pause` stops the rollout; `Revert` also exempts the workload from the policy
    /// and restores its pods. Default: `Pause`.
    #[serde(default)]
    pub on_failure: FailureAction,

    /// True stops the rollout where it stands, until it is false again. A rolling update of a workload that has begun under `Restart` goes on:
    /// `kubectl rollout pause` stops it. Default: false.
    #[serde(default)]
    pub paused: bool,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            max_unavailable: MaxUnavailable::default(),
            min_ready_seconds: default_min_ready_seconds(),
            progress_deadline_seconds: default_progress_deadline_seconds(),
            on_failure: FailureAction::default(),
            paused: false,
        }
    }
}

/// How pods that already run are replaced.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Strategy {
    /// Not by PodPolicy: pods get the settings as they are replaced anyway.
    #[default]
    OnCreate,
    /// Through the Eviction API, pod by pod.
    Evict,
    /// Through the workload's own rolling update.
    Restart,
}

/// What a failed rollout does.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum FailureAction {
    /// Stops, and says why.
    #[default]
    Pause,
    /// Stops, exempts the workload and restores its pods.
    Revert,
}

/// A number of pods, or a percentage of a workload's pods.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum MaxUnavailable {
    /// A number of pods.
    Count(i32),
    /// A percentage such as `25%`.
    Percentage(String),
}

impl Default for MaxUnavailable {
    fn default() -> Self {
        Self::Count(1)
    }
}

impl JsonSchema for MaxUnavailable {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MaxUnavailable".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 253,
            "x-kubernetes-validations": [{
                "rule": "type(self) in [int] ? int(self) >= 1 && int(self) <= 2147483647 : string(self).matches('^(100|[1-9][0-9]?)%$')",
                "message": "a number of pods from 1, without quotes, or a percentage from 1% to 100%",
            }],
        })
    }
}

fn default_min_ready_seconds() -> i32 {
    10
}

fn default_progress_deadline_seconds() -> i32 {
    600
}
