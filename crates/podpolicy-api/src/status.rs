//! What a policy reports: conditions, pod counts and findings. The reasons are closed sets; a message says what to do.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the controller found when it last looked, for the generation named in `observedGeneration`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodPolicyStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The state of the policy: `Accepted`, `Ready`, `Compliant` and `Conflicted` always, `Reconciling` and `Stalled` only while
    /// they are True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,

    /// How many pods the policy selects, and how they stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCounts>,

    /// What was kept, overridden or refused, at most 10, one for each reason and field, those with the most pods first. Where there are more,
    /// refusals are kept before all else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,

    /// How pods are given the policy's settings when they are created; absent where the operator does nothing then
    /// (`--admission none`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<AdmissionStatus>,

    /// Which guard checked that those who wrote the commands in the spec's probes and hooks may `create pods/exec`; absent as long as none
    /// has, and where the spec has no commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_checked: Option<ExecChecked>,

    /// The progress of the rollout to pods that already run; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
}

/// A guard that checked who wrote a spec. Kept so that the operator knows it after a restart.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecChecked {
    /// UIDs and generations of the guard's ValidatingAdmissionPolicy and its binding: whatever is written to the policy after this
    /// generation is checked as well, as long as they are the same. Example:
    /// `2c5fa3f0-0d5c-4f0e-8e8b-0f6f0a0f7c11:1,9d0a7c7e-61b4-4b55-a8a5-3f1a4f3ce0a2:1`.
    pub guard: String,
    /// The generation of the policy that it has checked. Example: 3.
    #[schemars(schema_with = "generation")]
    pub generation: i64,
}

/// Pods by their state. `matched` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodCounts {
    /// Pods that the policy selects.
    #[schemars(schema_with = "count")]
    pub matched: u32,
    /// Pods with nothing left to do: each field is applied, or kept by precedence.
    #[schemars(schema_with = "count")]
    pub compliant: u32,
    /// Pods whose create-time settings (probes, hooks, grace period) differ, fields refused or not: they must be replaced to get them.
    #[schemars(schema_with = "count")]
    pub outdated: u32,
    /// Pods on which all but the refused fields is done.
    #[schemars(schema_with = "count")]
    pub refused: u32,
    /// Pods for which a write is on its way or fails; for an Audit policy, pods that it would change.
    #[schemars(schema_with = "count")]
    pub pending: u32,
}

/// How pods are given a policy's settings when they are created.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionStatus {
    /// Who gives pods their settings: `Native`, the API server itself, which holds the policies as MutatingAdmissionPolicy objects; or
    /// `Webhook`, the operator, which the API server asks.
    pub backend: AdmissionBackend,
    /// The generation of the policy with whose settings pods are created now; 0 while no generation has got that far. When it equals
    /// `metadata.generation`, pods that are created from now on have the settings of the present spec. Example: 3.
    #[schemars(schema_with = "generation")]
    pub generation: i64,
    /// What is missing: why pods are not yet created with the settings of the present generation, or where the policy is left out, and
    /// what to do. Absent when nothing is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Who gives pods their settings when they are created.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum AdmissionBackend {
    /// The API server itself, by MutatingAdmissionPolicy objects.
    Native,
    /// The operator, as a webhook.
    Webhook,
}

/// Something that users should know about one field of some pods.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Why it was found.
    pub reason: FindingReason,
    /// The field, as a path. Examples: `labels[team]`, `containers[web].livenessProbe`.
    pub field: String,
    /// How many pods it is true of; 0 for what is true of pods that are yet to be created.
    #[schemars(schema_with = "count")]
    pub pods: u32,
    /// The name of one of these pods; for a ClusterPodPolicy, `namespace/name`. Empty when there is none.
    pub example: String,
    /// What happened on that pod, which other object is involved, and what to do.
    pub message: String,
}

/// Why a field of a pod is not, or not only, what the policy says.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum FindingReason {
    /// The workload declares the field itself and precedence is Workload: its value is kept.
    Kept,
    /// Another policy wins the field with another value.
    Overridden,
    /// A Service, NetworkPolicy, PodDisruptionBudget or workload selects on the label key.
    SelectorImpact,
    /// Nobody can tell whether something selects on the label key, because the operator may not list the objects that could.
    SelectorsUnknown,
    /// The key belongs to Kubernetes, to a controller or to PodPolicy itself.
    ProtectedKey,
    /// A probe or hook names a host other than the pod.
    HostNotAllowed,
    /// A probe or hook runs a command, and nothing vouches that the policy's author may run commands there.
    ExecNotAllowed,
    /// A probe or hook names a port that the container does not have.
    PortNotFound,
    /// A sleep in a hook does not fit into the grace period that the pod ends up with, or a policy's grace period is too short for
    /// a sleep that the workload declares.
    GraceTooShort,
    /// The pod's annotations would be larger than Kubernetes allows.
    AnnotationsTooLarge,
    /// The pod says no `spec.os.name`, without which Kubernetes takes no stop signal, or its operating system does not know the signal.
    StopSignalNotAllowed,
    /// The API server drops the field: its version does not have it, or its feature gate is off.
    NotSupported,
    /// No container of the pod that may have probes and hooks has a matching name.
    ContainerNotFound,
    /// The container is not always started again, by its own restartPolicy or the pod's, so it does not get the probe.
    RestartPolicy,
    /// A probe without a handler found no probe of the container's own to tune.
    NoProbeToTune,
    /// An Audit policy would change the field.
    WouldChange,
    /// The API server refused or failed the write.
    WriteFailed,
    /// The policy, or some of its pods, are left out of what pods are given when they are created.
    NotAtCreation,
}

impl FindingReason {
    /// Every one, in the order in which they are declared.
    pub const ALL: [Self; 18] = [
        Self::Kept,
        Self::Overridden,
        Self::SelectorImpact,
        Self::SelectorsUnknown,
        Self::ProtectedKey,
        Self::HostNotAllowed,
        Self::ExecNotAllowed,
        Self::PortNotFound,
        Self::GraceTooShort,
        Self::AnnotationsTooLarge,
        Self::StopSignalNotAllowed,
        Self::NotSupported,
        Self::ContainerNotFound,
        Self::RestartPolicy,
        Self::NoProbeToTune,
        Self::WouldChange,
        Self::WriteFailed,
        Self::NotAtCreation,
    ];
}

impl fmt::Display for FindingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The types of conditions that a policy has.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, Ord, PartialEq, PartialOrd)]
pub enum ConditionType {
    /// The spec can be honoured.
    Accepted,
    /// The policy is in force as declared. Outdated pods do not make it False while the rollout strategy is OnCreate.
    Ready,
    /// Every pod that the policy selects is compliant.
    Compliant,
    /// Another policy wins some field of some pod, or loses one to this policy.
    Conflicted,
    /// Work is under way (kstatus); absent otherwise.
    Reconciling,
    /// Nothing more will happen until somebody acts (kstatus); absent otherwise.
    Stalled,
}

impl PodPolicyStatus {
    /// The condition of this type, if there is one.
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        let kind = kind.to_string();
        self.conditions.iter().find(|condition| condition.type_ == kind)
    }
}

impl ConditionType {
    /// Every one, in the order in which they are declared.
    pub const ALL: [Self; 6] = [Self::Accepted, Self::Ready, Self::Compliant, Self::Conflicted, Self::Reconciling, Self::Stalled];
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The reasons that conditions have.
#[derive(Clone, Copy, Debug, Eq, Hash, JsonSchema, PartialEq)]
pub enum ConditionReason {
    /// Accepted: the spec is sound.
    Accepted,
    /// Accepted, Ready, Compliant, Stalled: something is wrong with the spec that the CRD's rules cannot see.
    Invalid,
    /// Ready, Reconciling: the controller has not yet looked at the pods.
    Pending,
    /// Ready: every selected pod carries what can be given to it now.
    InForce,
    /// Ready: the policy decides and reports, and writes nothing.
    Auditing,
    /// Ready, Compliant, Reconciling: writes to pods are under way. Ready, Reconciling: pods are not yet created with the settings of
    /// the present spec.
    Progressing,
    /// Ready, Reconciling: pods that already run are being replaced.
    RollingOut,
    /// Ready, Reconciling: the rollout to pods that already run waits for something outside of it, such as a PodDisruptionBudget.
    RolloutBlocked,
    /// Ready, Stalled: the rollout to pods that already run is paused.
    RolloutPaused,
    /// Ready, Stalled: the rollout to pods that already run has failed. Reconciling: what it has done to the workload is being taken back.
    RolloutFailed,
    /// Ready, Compliant, Stalled: fields of some pods were refused. Ready, Stalled: no pod is selected yet, and those that come will lack
    /// fields that no pod gets.
    Refused,
    /// Ready, Compliant, Reconciling: writes to pods, or of what gives pods their settings when they are created, fail and are tried
    /// again.
    WriteFailed,
    /// Ready, Stalled: the operator lacks a right that it needs.
    Forbidden,
    /// Ready, Stalled: pods cannot be given the settings when they are created.
    NotAtCreation,
    /// Compliant: every selected pod is compliant.
    AllCompliant,
    /// Compliant: the policy selects no pod.
    NoPods,
    /// Compliant: some pods must be replaced to get the create-time settings.
    Outdated,
    /// Compliant: an Audit policy would change some pods.
    WouldChange,
    /// Conflicted: no other policy sets another value for a field of a pod that both select.
    NoConflict,
    /// Conflicted: another policy wins some field.
    Overridden,
    /// Conflicted: this policy wins some field from another.
    Overrides,
}

impl ConditionReason {
    /// Every one, in the order in which they are declared.
    pub const ALL: [Self; 21] = [
        Self::Accepted,
        Self::Invalid,
        Self::Pending,
        Self::InForce,
        Self::Auditing,
        Self::Progressing,
        Self::RollingOut,
        Self::RolloutBlocked,
        Self::RolloutPaused,
        Self::RolloutFailed,
        Self::Refused,
        Self::WriteFailed,
        Self::Forbidden,
        Self::NotAtCreation,
        Self::AllCompliant,
        Self::NoPods,
        Self::Outdated,
        Self::WouldChange,
        Self::NoConflict,
        Self::Overridden,
        Self::Overrides,
    ];
}

impl fmt::Display for ConditionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How far a rollout has come.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// What the rollout is doing.
    pub phase: RolloutPhase,
    /// Pods that carry the current settings.
    #[schemars(schema_with = "count")]
    pub updated: u32,
    /// Pods that should carry them.
    #[schemars(schema_with = "count")]
    pub total: u32,
    /// The workload whose pods are being replaced; for a ClusterPodPolicy with its namespace. Examples: `Deployment/web`,
    /// `Deployment/shop/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Pods of that workload that carry the current settings.
    #[schemars(schema_with = "count")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_updated: Option<u32>,
    /// Pods of that workload that should carry them.
    #[schemars(schema_with = "count")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_total: Option<u32>,
    /// What the rollout waits for, or why it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The generation of the policy that the rollout is about: another generation is another rollout. Example: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// When the rollout began. Pods that were created since count as replaced by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// The failure that stopped the rollout. It stands until the policy's spec or the workload's pod template changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<RolloutFailure>,
}

/// A failure that stopped a rollout.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutFailure {
    /// The workload, as in `workload`. Example: `Deployment/web`.
    pub workload: String,
    /// The workload's UID: another one under the same name has not failed.
    pub workload_uid: String,
    /// A digest of the workload's pod template, the restart stamp left out: another template is tried again. Empty where it is not
    /// known.
    pub template: String,
    /// The pod that failed. Example: `web-7d9f-k2x9z`.
    pub pod: String,
    /// The container that failed, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The UID of the pod's owner that is exempt from the policy because of it, with `onFailure: Revert`: of a Deployment, the ReplicaSet of
    /// its present template. The policy selects none of its pods. Absent with `Pause`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exempt: Option<String>,
    /// What happened, with the kubelet's own words.
    pub message: String,
    /// When it was seen.
    pub time: Time,
}

/// What a rollout is doing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum RolloutPhase {
    /// Pods are being replaced.
    Progressing,
    /// Somebody, or a failure, stopped it.
    Paused,
    /// A failed rollout is being taken back.
    Reverting,
    /// Every pod carries the settings.
    Complete,
}

fn conditions_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = generator.subschema_for::<Vec<Condition>>();
    schema.insert("x-kubernetes-list-type".to_owned(), "map".into());
    schema.insert("x-kubernetes-list-map-keys".to_owned(), serde_json::json!(["type"]));
    schema
}

/// A generation, or 0 for none.
fn generation(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer", "format": "int64", "minimum": 0 })
}

/// A count; the API server does not know the format `uint32` that schemars would name.
fn count(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer", "format": "int32", "minimum": 0 })
}
