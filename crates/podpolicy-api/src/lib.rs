//! The vocabulary of PodPolicy: the two kinds, their status, and the words that conditions and findings use.
//!
//! Everything a user writes or reads has its type here, and the doc comment of a field is its manual
//! (`kubectl explain` prints it). This crate does no I/O and takes no decision: what a policy does to a pod is
//! `podpolicy-engine`'s business.

mod bounds;
mod crd;
mod lifecycle;
pub mod names;
mod policy;
mod probe;
mod rollout;
mod schema;
mod selector;
mod status;

pub use crd::custom_resource_definitions;
pub use lifecycle::{Lifecycle, LifecycleHandler, SleepAction, StopSignal};
pub use policy::{ClusterPodPolicy, ClusterPodPolicySpec, ContainerRule, Enforcement, PodPolicy, PodPolicySpec, PolicyRules, Precedence};
pub use probe::{ExecAction, GrpcAction, GrpcMode, HttpGetAction, HttpHeader, HttpProtocol, Port, Probe, Scheme, TcpSocketAction};
pub use rollout::{FailureAction, MaxUnavailable, Rollout, Strategy};
pub use schema::json_schema;
pub use selector::{LabelSelector, LabelSelectorRequirement, Operator};
pub use status::{
    AdmissionBackend, AdmissionStatus, ConditionReason, ConditionType, ExecChecked, Finding, FindingReason, PodCounts, PodPolicyStatus,
    RolloutFailure, RolloutPhase, RolloutStatus,
};

/// The annotation on a workload's pod template by which `strategy: Restart` starts the workload's own rolling update.
pub const RESTART_ANNOTATION: &str = "podpolicy.dev/restarted-for";

/// The API group of both kinds.
pub const GROUP: &str = "podpolicy.dev";

/// The annotation on a pod that records what policies wrote to it, and the values they replaced.
pub const APPLIED_ANNOTATION: &str = "podpolicy.dev/applied";
