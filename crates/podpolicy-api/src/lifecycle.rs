//! Lifecycle hooks and stop signals with the field names and meaning of core/v1.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{ExecAction, HttpGetAction};

/// What runs in a container right after its start and right before its end, and the signal that ends it, as in core/v1.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.postStart) || has(self.preStop) || has(self.stopSignal)")
        .message("an empty lifecycle says nothing: give it postStart, preStop or stopSignal"),
)]
pub struct Lifecycle {
    /// Runs right after the container is created, at the same time as its command. When it fails, the container is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_start: Option<LifecycleHandler>,

    /// Runs before the container is told to stop, inside the grace period: what it takes is not left for the process.
    /// Example: `preStop: {sleep: {seconds: 5}}`, which lets load balancers forget the pod first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<LifecycleHandler>,

    /// The signal that asks the container to stop, in place of the one that its image names. Kubernetes takes it only in pods
    /// with `spec.os.name`, and in Windows pods only SIGTERM and SIGKILL; other pods do not get it (finding
    /// StopSignalNotAllowed). Needs Kubernetes 1.33 or later with the feature gate ContainerStopSignals, which is off by
    /// default; elsewhere it is left out (finding NotSupported). Example: `SIGQUIT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<StopSignal>,
}

/// The name of a signal, such as `SIGQUIT`. Any text can be read; the definitions allow the names that Kubernetes knows.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct StopSignal(Box<str>);

impl StopSignal {
    /// The signals that Kubernetes knows on Linux.
    pub const ON_LINUX: [&str; 65] = [
        "SIGABRT",
        "SIGALRM",
        "SIGBUS",
        "SIGCHLD",
        "SIGCLD",
        "SIGCONT",
        "SIGFPE",
        "SIGHUP",
        "SIGILL",
        "SIGINT",
        "SIGIO",
        "SIGIOT",
        "SIGKILL",
        "SIGPIPE",
        "SIGPOLL",
        "SIGPROF",
        "SIGPWR",
        "SIGQUIT",
        "SIGSEGV",
        "SIGSTKFLT",
        "SIGSTOP",
        "SIGSYS",
        "SIGTERM",
        "SIGTRAP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGUSR1",
        "SIGUSR2",
        "SIGVTALRM",
        "SIGWINCH",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGRTMIN",
        "SIGRTMIN+1",
        "SIGRTMIN+2",
        "SIGRTMIN+3",
        "SIGRTMIN+4",
        "SIGRTMIN+5",
        "SIGRTMIN+6",
        "SIGRTMIN+7",
        "SIGRTMIN+8",
        "SIGRTMIN+9",
        "SIGRTMIN+10",
        "SIGRTMIN+11",
        "SIGRTMIN+12",
        "SIGRTMIN+13",
        "SIGRTMIN+14",
        "SIGRTMIN+15",
        "SIGRTMAX-14",
        "SIGRTMAX-13",
        "SIGRTMAX-12",
        "SIGRTMAX-11",
        "SIGRTMAX-10",
        "SIGRTMAX-9",
        "SIGRTMAX-8",
        "SIGRTMAX-7",
        "SIGRTMAX-6",
        "SIGRTMAX-5",
        "SIGRTMAX-4",
        "SIGRTMAX-3",
        "SIGRTMAX-2",
        "SIGRTMAX-1",
        "SIGRTMAX",
    ];

    /// The signals that Kubernetes knows on Windows.
    pub const ON_WINDOWS: [&str; 2] = ["SIGKILL", "SIGTERM"];

    /// The signal's name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl JsonSchema for StopSignal {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StopSignal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": Self::ON_LINUX.as_slice() })
    }
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
