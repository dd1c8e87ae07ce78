//! Lifecycle hooks with the field names and meaning of core/v1.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ExecAction, HttpGetAction};

/// What runs in a container right after its start and right before its end, as in core/v1.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.postStart) || has(self.preStop)").message("an empty lifecycle says nothing: give it postStart or preStop"),
)]
pub struct Lifecycle {
    /// Runs right after the container is created, at the same time as its command. When it fails, the container is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_start: Option<LifecycleHandler>,

    /// Runs before the container is told to stop, inside the grace period: what it takes is not left for the process.
    /// Example: `preStop: {sleep: {seconds: 5}}`, which lets load balancers forget the pod first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<LifecycleHandler>,
}

/// One hook: exactly one of `exec`, `httpGet` and `sleep`.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.exec), has(self.httpGet), has(self.sleep)].filter(given, given).size() == 1")
        .message("a hook has exactly one of exec, httpGet and sleep"),
)]
pub struct LifecycleHandler {
    /// Runs a command in the container. Applied only where the author of the policy may `create pods/exec`; refused
    /// otherwise (finding ExecNotAllowed). Example: `exec: {command: [nginx, -s, quit]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,

    /// Sends an HTTP GET to the container. Example: `httpGet: {path: /drain, port: http}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGetAction>,

    /// Waits. As `preStop` it must be shorter than the grace period that the pod ends up with, as `postStart` no longer, or it is left out (finding
    /// GraceTooShort). Needs Kubernetes 1.30 or later. Example: `sleep: {seconds: 5}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep: Option<SleepAction>,
}

/// A wait.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SleepAction {
    /// How many seconds to wait. At least 1.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub seconds: i64,
}
