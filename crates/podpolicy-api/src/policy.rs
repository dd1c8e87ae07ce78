//! The two kinds, `PodPolicy` and `ClusterPodPolicy`, and the rules that they share.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{LabelSelector, Lifecycle, PodPolicyStatus, Probe, Rollout};

/// What the pods of one namespace should look like.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "podpolicy.dev",
    version = "v1alpha1",
    kind = "PodPolicy",
    plural = "podpolicies",
    namespaced,
    derive = "PartialEq",
    status = "PodPolicyStatus",
    shortname = "pp",
    category = "pod-policies",
    doc = "PodPolicy says how the pods of its own namespace must be labelled, annotated, probed and stopped. Labels and annotations are reconciled onto live pods at once; probes, lifecycle hooks and the grace period, which Kubernetes lets nobody change on a live pod, are set when a pod is created. It acts in its own namespace and nowhere else."
)]
#[serde(rename_all = "camelCase")]
pub struct PodPolicySpec {
    /// Decides among policies that set the same field of a pod: the higher priority wins, then a PodPolicy before a
    /// ClusterPodPolicy, then the older policy, then namespace/name. From -1000 to 1000. Default: 0.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,

    /// What the policy asks for, and how.
    #[serde(flatten)]
    pub rules: PolicyRules,
}

/// What the pods of many namespaces should look like.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "podpolicy.dev",
    version = "v1alpha1",
    kind = "ClusterPodPolicy",
    plural = "clusterpodpolicies",
    derive = "PartialEq",
    status = "PodPolicyStatus",
    shortname = "cpp",
    category = "pod-policies",
    doc = "ClusterPodPolicy says how the pods of all namespaces that its namespaceSelector selects must be labelled, annotated, probed and stopped. It is PodPolicy for the whole cluster, and never acts in kube-system, kube-public, kube-node-lease and the operator's own namespace, unless the operator is configured to."
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPodPolicySpec {
    /// Decides among policies that set the same field of a pod: the higher priority wins, then a PodPolicy before a
    /// ClusterPodPolicy, then the older policy, then the name. From -1000 to 1000000: above 1000 no PodPolicy can win
    /// against it. Default: 0.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1_000_000))]
    pub priority: i32,

    /// The namespaces that the policy acts in, by their labels. Default: all, except kube-system, kube-public,
    /// kube-node-lease and the operator's own. Example: `{matchLabels: {team: shop}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,

    /// What the policy asks for, and how.
    #[serde(flatten)]
    pub rules: PolicyRules,
}

/// What both kinds ask for.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRules {
    /// Selects the pods, by the labels that they have of their own: a label that a policy put on a pod never makes another
    /// policy select it. Required; `{}` selects every pod in scope. Mirror pods, pods that are being deleted and pods
    /// that have succeeded or failed are never selected. Example: `{matchLabels: {app.kubernetes.io/component: web}}`.
    pub selector: LabelSelector,

    /// What happens where a workload declares a value itself. `Workload`: the policy fills in what the pod lacks, and what the
    /// workload declares is kept and reported. `Policy`: the policy's value replaces it; the replaced value is recorded
    /// on the pod and comes back when the policy goes. Default: `Workload`.
    #[serde(default)]
    pub precedence: Precedence,

    /// `Enforce` writes to pods. `Audit` decides and reports, and writes nothing: changing a policy from Enforce to Audit takes
    /// back what it wrote. Default: `Enforce`.
    #[serde(default)]
    pub enforcement: Enforcement,

    /// Whether to set a label that a Service, NetworkPolicy, PodDisruptionBudget or workload of the namespace selects on.
    /// Default: false, such a label is refused (finding SelectorImpact). With true it is set; still, a label that a
    /// workload selects on is only filled in, never replaced, and one that a workload excludes (NotIn,
    /// DoesNotExist) is never set.
    #[serde(default)]
    pub allow_selector_impact: bool,

    /// Labels that the pods should have. At most 64. Keys under kubernetes.io and k8s.io other than app.kubernetes.io/*, and
    /// keys that controllers generate, are refused (finding ProtectedKey). Example: `{team: shop}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::bounds::labels")]
    pub labels: BTreeMap<String, String>,

    /// Annotations that the pods should have. At most 64, and no more than 262144 bytes on a pod in all. The same keys are
    /// refused as for labels. Example: `{example.com/oncall: shop@example.com}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::bounds::annotations")]
    pub annotations: BTreeMap<String, String>,

    /// Seconds that a pod gets to stop, preStop hooks included, before it is killed. At least 0. Set when a pod is created. A
    /// pod that says 30, Kubernetes' default, counts as one that says nothing. Example: `60`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub termination_grace_period_seconds: Option<i64>,

    /// Probes, lifecycle hooks and stop signals by container name. The first rule that sets a field for a container wins. One rule at least
    /// when given, 16 at most. They apply to application containers and native sidecars (init containers with
    /// restartPolicy Always), never to ordinary init or ephemeral containers. Set when a pod is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub containers: Option<Vec<ContainerRule>>,

    /// How pods that already run get the settings that Kubernetes allows only at creation: probes, hooks and the grace period.
    /// Default: `strategy: OnCreate`, as they are replaced anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

/// Probes, hooks and the stop signal for the containers whose name matches.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.livenessProbe) || has(self.readinessProbe) || has(self.startupProbe) || has(self.lifecycle)")
        .message("a container rule sets at least one of livenessProbe, readinessProbe, startupProbe and lifecycle"),
    validation = Rule::new("!has(self.livenessProbe) || !has(self.livenessProbe.successThreshold) || self.livenessProbe.successThreshold == 1")
        .message("must be 1: Kubernetes allows no other value for liveness probes")
        .field_path(".livenessProbe.successThreshold"),
    validation = Rule::new("!has(self.startupProbe) || !has(self.startupProbe.successThreshold) || self.startupProbe.successThreshold == 1")
        .message("must be 1: Kubernetes allows no other value for startup probes")
        .field_path(".startupProbe.successThreshold"),
    validation = Rule::new("!has(self.readinessProbe) || !has(self.readinessProbe.terminationGracePeriodSeconds)")
        .message("not allowed: a readiness probe never stops a container; set it on livenessProbe or startupProbe")
        .field_path(".readinessProbe.terminationGracePeriodSeconds"),
)]
pub struct ContainerRule {
    /// Globs over container names: `*` stands for any text, `?` for one character. One at least, 32 at most.
    /// Default: `["*"]`, every container. Example: `[web, "api-*"]`.
    #[serde(default = "every_container")]
    #[schemars(schema_with = "crate::bounds::container_globs", transform = without_default)]
    pub names: Vec<String>,

    /// When the container counts as dead: it is then killed and started again. Containers that are not always started again,
    /// by their own restartPolicy or the pod's, get no liveness or startup probe (finding RestartPolicy). Without a handler it
    /// tunes the container's own probe: under precedence Workload only numbers that are still at Kubernetes' default change.
    /// Example: `{httpGet: {path: /healthz, port: http}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,

    /// When the container is ready for traffic: until then, and while it fails, Services leave the pod out. In pods whose
    /// restartPolicy is not Always, only containers with restartPolicy Always get it. Tuning as for `livenessProbe`.
    /// Example: `{httpGet: {path: /ready, port: http}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,

    /// When a slow container has started: the other probes wait for it. Tuning and restartPolicy as for `livenessProbe`.
    /// Example: `{httpGet: {path: /healthz, port: http}, failureThreshold: 30}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,

    /// Hooks after the container's start and before its end, and the signal that ends it. Each is a field of its own: a
    /// container that has a postStart hook still gets a preStop hook. Example: `{preStop: {sleep: {seconds: 5}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
}

/// Who wins where a policy and a workload say different things.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Precedence {
    /// The workload: the policy only fills in what the pod lacks.
    #[default]
    Workload,
    /// The policy: it replaces what the workload declares.
    Policy,
}

/// Whether a policy writes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Enforcement {
    /// Decide, report and write.
    #[default]
    Enforce,
    /// Decide and report.
    Audit,
}

fn every_container() -> Vec<String> {
    vec!["*".to_owned()]
}

/// The API server is not told of a default inside of a list: it would write it there, and `kubectl apply` and GitOps tools, which compare lists as a
/// whole, would find a difference each time.
fn without_default(schema: &mut schemars::Schema) {
    schema.remove("default");
}
