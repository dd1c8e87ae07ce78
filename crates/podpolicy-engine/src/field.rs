//! The fields of a pod that policies set, their paths as users read them, and their values.

use std::fmt;

use podpolicy_api::{LifecycleHandler, Probe, StopSignal};
use serde::Serialize;

use crate::probe::{defaulted_hook, stored};

/// One field of a pod. `Display` gives its path, such as `containers[web].livenessProbe`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Field {
    /// A label, by key.
    Label(String),
    /// An annotation, by key.
    Annotation(String),
    /// The pod's grace period.
    GracePeriod,
    /// A container as a whole; only findings speak of it.
    Container(String),
    /// A probe of a container.
    Probe {
        /// The container's name.
        container: String,
        /// Which probe.
        kind: ProbeKind,
    },
    /// A lifecycle hook of a container.
    Hook {
        /// The container's name.
        container: String,
        /// Which hook.
        kind: HookKind,
    },
    /// The signal that asks a container to stop.
    StopSignal {
        /// The container's name.
        container: String,
    },
}

/// The name of the field in a container's lifecycle that says its stop signal.
pub const STOP_SIGNAL: &str = "stopSignal";

/// The three probes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ProbeKind {
    /// `livenessProbe`.
    Liveness,
    /// `readinessProbe`.
    Readiness,
    /// `startupProbe`.
    Startup,
}

/// The two hooks.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HookKind {
    /// `lifecycle.postStart`.
    PostStart,
    /// `lifecycle.preStop`.
    PreStop,
}

impl ProbeKind {
    /// All probes.
    pub const ALL: [Self; 3] = [Self::Liveness, Self::Readiness, Self::Startup];

    /// The field's name in a container.
    pub fn field_name(self) -> &'static str {
        match self {
            Self::Liveness => "livenessProbe",
            Self::Readiness => "readinessProbe",
            Self::Startup => "startupProbe",
        }
    }
}

impl HookKind {
    /// Both hooks.
    pub const ALL: [Self; 2] = [Self::PostStart, Self::PreStop];

    /// The field's name in a container's lifecycle.
    pub fn field_name(self) -> &'static str {
        match self {
            Self::PostStart => "postStart",
            Self::PreStop => "preStop",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(key) => write!(f, "labels[{key}]"),
            Self::Annotation(key) => write!(f, "annotations[{key}]"),
            Self::GracePeriod => f.write_str("terminationGracePeriodSeconds"),
            Self::Container(name) => write!(f, "containers[{name}]"),
            Self::Probe { container, kind } => write!(f, "containers[{container}].{}", kind.field_name()),
            Self::Hook { container, kind } => write!(f, "containers[{container}].lifecycle.{}", kind.field_name()),
            Self::StopSignal { container } => write!(f, "containers[{container}].lifecycle.{STOP_SIGNAL}"),
        }
    }
}

/// The value of a field.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A label or annotation.
    Text(String),
    /// A grace period, in seconds.
    Seconds(i64),
    /// A stop signal.
    Signal(StopSignal),
    /// A hook.
    Hook(Box<LifecycleHandler>),
    /// A probe.
    Probe(Box<Probe>),
}

impl Value {
    /// The value as the API server sends it back once it is stored.
    pub(crate) fn stored(self) -> Self {
        match self {
            Self::Probe(probe) => Self::Probe(Box::new(stored(*probe))),
            Self::Hook(hook) => Self::Hook(Box::new(defaulted_hook(*hook))),
            Self::Text(_) | Self::Seconds(_) | Self::Signal(_) => self,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Seconds(seconds) => write!(f, "{seconds}"),
            Self::Signal(signal) => f.write_str(signal.name()),
            Self::Hook(hook) => write_json(f, hook),
            Self::Probe(probe) => write_json(f, probe),
        }
    }
}

fn write_json(f: &mut fmt::Formatter<'_>, value: &impl Serialize) -> fmt::Result {
    f.write_str(&serde_json::to_string(value).map_err(|_| fmt::Error)?)
}
