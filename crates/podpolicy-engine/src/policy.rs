//! A policy of either kind, parsed once: identity, rank among others, selector, and rules ready to be looked up.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use podpolicy_api::{
    APPLIED_ANNOTATION, ClusterPodPolicy, ContainerRule, Enforcement, HttpGetAction, HttpProtocol, LabelSelector, LifecycleHandler,
    Operator, PodPolicy, PolicyRules, Precedence, Probe, Scheme, StopSignal,
};

use crate::{Field, Finding, HookKind, Pod, ProbeKind, Selector, glob, pod::DEFAULT_GRACE_PERIOD, refusal};

/// The most that all annotations of a pod may take, in bytes of keys and values (Kubernetes' `TotalAnnotationSizeLimitB`).
pub const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// The two kinds of policies. A PodPolicy is the more specific and goes first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PolicyKind {
    /// Acts in its own namespace.
    PodPolicy,
    /// Acts in every namespace that it selects.
    ClusterPodPolicy,
}

/// Which policy. `Display` gives `PodPolicy namespace/name` or `ClusterPodPolicy name`, as messages say it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PolicyId {
    /// The policy's kind.
    pub kind: PolicyKind,
    /// Its namespace; empty for a ClusterPodPolicy.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl PolicyId {
    /// A PodPolicy's identity.
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: PolicyKind::PodPolicy, namespace: namespace.into(), name: name.into() }
    }

    /// A ClusterPodPolicy's identity.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self { kind: PolicyKind::ClusterPodPolicy, namespace: String::new(), name: name.into() }
    }

    /// The name under which a pod's record knows the policy; the pod's namespace says the rest.
    pub fn in_record(&self) -> String {
        format!("{}{}", self.kind.record_prefix(), self.name)
    }

    /// The policy that the record of a pod in the namespace knows under this name; none where it is not the name of a policy.
    pub fn from_record(by: &str, namespace: &str) -> Option<Self> {
        let name = |kind: PolicyKind| by.strip_prefix(kind.record_prefix());
        let namespaced = name(PolicyKind::PodPolicy).map(|name| Self::namespaced(namespace, name));
        namespaced.or_else(|| name(PolicyKind::ClusterPodPolicy).map(Self::cluster))
    }
}

impl PolicyKind {
    /// How the names of policies of the kind begin in records.
    fn record_prefix(self) -> &'static str {
        match self {
            Self::PodPolicy => "PodPolicy/",
            Self::ClusterPodPolicy => "ClusterPodPolicy/",
        }
    }

    /// Whether a name in a record is that of a policy of this kind.
    pub(crate) fn is_in_record(self, by: &str) -> bool {
        by.starts_with(self.record_prefix())
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            PolicyKind::PodPolicy => write!(f, "PodPolicy {}/{}", self.namespace, self.name),
            PolicyKind::ClusterPodPolicy => write!(f, "ClusterPodPolicy {}", self.name),
        }
    }
}

/// A policy, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    id: PolicyId,
    in_record: String,
    priority: i32,
    created: Option<Timestamp>,
    namespace_selector: Option<Selector>,
    selector: Selector,
    rules: PolicyRules,
    exec: Exec,
    exempt: BTreeSet<String>,
    problems: Vec<String>,
}

/// Whether somebody vouches that the authors of a policy may run commands in the pods that it selects.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Exec {
    /// Nobody does: there is no guard.
    #[default]
    NoGuard,
    /// There is a guard, and nobody can tell whether it is in force, or what it has checked: because of this.
    Unclear(String),
    /// A guard is in force, and has not checked what the policy says now.
    NotChecked,
    /// The guard has checked it; or whoever applies it may do so anyway.
    Vouched,
}

impl Policy {
    /// A PodPolicy, parsed.
    pub fn from_namespaced(policy: &PodPolicy) -> Self {
        let metadata = &policy.metadata;
        let id = PolicyId::namespaced(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        Self::new(id, policy.spec.priority, created, None, &policy.spec.rules)
    }

    /// A ClusterPodPolicy, parsed.
    pub fn from_cluster(policy: &ClusterPodPolicy) -> Self {
        let metadata = &policy.metadata;
        let id = PolicyId::cluster(metadata.name.clone().unwrap_or_default());
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        Self::new(id, policy.spec.priority, created, policy.spec.namespace_selector.as_ref(), &policy.spec.rules)
    }

    fn new(id: PolicyId, priority: i32, created: Option<Timestamp>, namespaces: Option<&LabelSelector>, rules: &PolicyRules) -> Self {
        let mut problems = Vec::new();
        for (name, selector) in [("selector", Some(&rules.selector)), ("namespaceSelector", namespaces)] {
            problems.extend(selector.into_iter().flat_map(|selector| selector_problems(name, selector)));
        }
        problems.extend(rule_problems(rules));
        Self {
            in_record: id.in_record(),
            id,
            priority,
            created,
            namespace_selector: namespaces.map(Selector::from),
            selector: Selector::from(&rules.selector),
            rules: rules.clone(),
            exec: Exec::default(),
            exempt: BTreeSet::new(),
            problems,
        }
    }

    /// The same policy, with who vouches for its authors. Policies start out with nobody.
    #[must_use]
    pub fn with_exec(mut self, exec: Exec) -> Self {
        self.exec = exec;
        self
    }

    /// The same policy, which leaves alone the pods of these owners, by UID: it selects none of them. Policies start out with none.
    #[must_use]
    pub fn with_exempt(mut self, owners: BTreeSet<String>) -> Self {
        self.exempt = owners;
        self
    }

    /// The owners whose pods it leaves alone, by UID.
    pub fn exempt(&self) -> &BTreeSet<String> {
        &self.exempt
    }

    /// Whether it selects a pod with these labels of its own, as far as the pod goes.
    pub(crate) fn selects(&self, pod: &Pod, own: &BTreeMap<String, String>) -> bool {
        self.selector.matches(own) && !self.exempts(pod)
    }

    /// Whether it would select a pod with these labels of its own, were the pod's owner not exempt.
    pub(crate) fn exempts_selected(&self, pod: &Pod, own: &BTreeMap<String, String>) -> bool {
        self.exempts(pod) && self.selector.matches(own)
    }

    fn exempts(&self, pod: &Pod) -> bool {
        !self.exempt.is_empty() && pod.owner.as_ref().is_some_and(|owner| self.exempt.contains(&owner.uid))
    }

    /// Who vouches for its authors.
    pub fn exec(&self) -> &Exec {
        &self.exec
    }

    /// Whether it has a command in a probe or hook.
    pub fn runs_commands(&self) -> bool {
        self.container_rules().iter().any(|rule| {
            let probe = |kind| rule_probe(rule, kind).is_some_and(|probe| probe.exec.is_some());
            let hook = |kind| rule_hook(rule, kind).is_some_and(|hook| hook.exec.is_some());
            ProbeKind::ALL.into_iter().any(probe) || HookKind::ALL.into_iter().any(hook)
        })
    }

    /// When it was created; none for one that is not on an API server yet.
    pub fn created(&self) -> Option<Timestamp> {
        self.created
    }

    /// Whether a change of the policy can change what is decided about a pod in its scope: it wrote something there, or can
    /// select the pod. Cheaper than deciding; says yes when in doubt.
    pub fn may_concern(&self, pod: &Pod) -> bool {
        if self.selector.matches(&pod.labels) {
            return true;
        }
        // Records are JSON: names and keys stand there in quotes. What the pod has of its own differs from what is on it only in keys
        // that are recorded.
        let Some(record) = pod.annotations.get(APPLIED_ANNOTATION) else { return false };
        let mentions = |word: &str| {
            record.match_indices(word).any(|(at, _)| record[..at].ends_with('"') && record[at + word.len()..].starts_with('"'))
        };
        mentions(&self.in_record) || self.selector.keys().any(mentions)
    }

    /// The hooks that a pod does not get whose grace period is the policy's, or Kubernetes' default where it sets none. A pod whose workload, or whose
    /// other policies, say a longer one can have them.
    pub fn hooks_beyond_grace(&self) -> impl Iterator<Item = Finding> {
        let grace_period = self.rules().termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_PERIOD);
        let hooks = self.container_rules().iter().flat_map(|rule| HookKind::ALL.map(|kind| (rule, kind)));
        hooks.filter_map(move |(rule, kind)| {
            let refusal = refusal::sleep(kind, rule_hook(rule, kind)?, grace_period)?;
            Some(refusal.finding(Field::Hook { container: rule.names.join(","), kind }))
        })
    }

    /// Which policy it is.
    pub fn id(&self) -> &PolicyId {
        &self.id
    }

    /// What is wrong with the spec that the CRD's rules cannot see; a policy with problems is not in force.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Its priority.
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// What it asks for.
    pub fn rules(&self) -> &PolicyRules {
        &self.rules
    }

    /// Whether it only decides and reports.
    pub fn is_audit(&self) -> bool {
        match self.rules.enforcement {
            Enforcement::Audit => true,
            Enforcement::Enforce => false,
        }
    }

    /// The name under which a pod's record knows the policy.
    pub fn in_record(&self) -> &str {
        &self.in_record
    }

    pub(crate) fn precedence(&self) -> Precedence {
        self.rules.precedence
    }

    /// The pods that it selects.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// The namespaces that a ClusterPodPolicy acts in; none for all.
    pub fn namespace_selector(&self) -> Option<&Selector> {
        self.namespace_selector.as_ref()
    }

    pub(crate) fn container_rules(&self) -> &[ContainerRule] {
        self.rules.containers.as_deref().unwrap_or_default()
    }

    /// Whether it asks for the field.
    pub fn asks_for(&self, field: &Field) -> bool {
        match field {
            Field::Label(key) => self.rules.labels.contains_key(key),
            Field::Annotation(key) => self.rules.annotations.contains_key(key),
            Field::GracePeriod => self.rules.termination_grace_period_seconds.is_some(),
            Field::Container(_) => false,
            Field::Probe { container, kind } => self.probe(container, *kind).is_some(),
            Field::Hook { container, kind } => self.hook(container, *kind).is_some(),
            Field::StopSignal { container } => self.stop_signal(container).is_some(),
        }
    }

    /// Whether its probe for a container of this name only tunes numbers of the container's own.
    pub fn tunes(&self, container: &str, kind: ProbeKind) -> bool {
        self.probe(container, kind).is_some_and(|probe| !probe.has_handler())
    }

    /// The probe that the first rule with one gives to a container of this name.
    pub(crate) fn probe(&self, container: &str, kind: ProbeKind) -> Option<&Probe> {
        self.first(container, |rule| rule_probe(rule, kind))
    }

    /// The hook that the first rule with one gives to a container of this name.
    pub(crate) fn hook(&self, container: &str, kind: HookKind) -> Option<&LifecycleHandler> {
        self.first(container, |rule| rule_hook(rule, kind))
    }

    /// The stop signal that the first rule with one gives to a container of this name.
    pub(crate) fn stop_signal(&self, container: &str) -> Option<&StopSignal> {
        self.first(container, rule_stop_signal)
    }

    fn first<'a, T>(&'a self, container: &str, get: impl Fn(&'a ContainerRule) -> Option<&'a T>) -> Option<&'a T> {
        self.container_rules().iter().filter(|rule| rule.names.iter().any(|name| glob::matches(name, container))).find_map(get)
    }

    /// Which of two policies goes first: higher priority, then the more specific kind, then the older, then namespace/name.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        // A policy that is not on an API server yet has no creation time: it is the youngest.
        let age = |policy: &Self| policy.created.unwrap_or(Timestamp::MAX);
        other
            .priority
            .cmp(&self.priority)
            .then_with(|| self.id.kind.cmp(&other.id.kind))
            .then_with(|| age(self).cmp(&age(other)))
            .then_with(|| self.id.cmp(&other.id))
    }
}

/// The probe that a rule gives.
pub(crate) fn rule_probe(rule: &ContainerRule, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Liveness => rule.liveness_probe.as_ref(),
        ProbeKind::Readiness => rule.readiness_probe.as_ref(),
        ProbeKind::Startup => rule.startup_probe.as_ref(),
    }
}

/// The hook that a rule gives.
pub(crate) fn rule_hook(rule: &ContainerRule, kind: HookKind) -> Option<&LifecycleHandler> {
    let lifecycle = rule.lifecycle.as_ref()?;
    match kind {
        HookKind::PostStart => lifecycle.post_start.as_ref(),
        HookKind::PreStop => lifecycle.pre_stop.as_ref(),
    }
}

/// The stop signal that a rule gives.
pub(crate) fn rule_stop_signal(rule: &ContainerRule) -> Option<&StopSignal> {
    rule.lifecycle.as_ref()?.stop_signal.as_ref()
}

/// What the CRD's rules refuse as well; they may be older than this program.
fn selector_problems<'a>(name: &'a str, selector: &'a LabelSelector) -> impl Iterator<Item = String> + 'a {
    selector.match_expressions.iter().enumerate().filter_map(move |(index, requirement)| {
        let needs_values = match requirement.operator {
            Operator::In | Operator::NotIn => true,
            Operator::Exists | Operator::DoesNotExist => false,
        };
        (needs_values == requirement.values.is_empty()).then(|| {
            format!("spec.{name}.matchExpressions[{index}].values: required for In and NotIn, and not allowed for Exists and DoesNotExist")
        })
    })
}

fn rule_problems(rules: &PolicyRules) -> Vec<String> {
    let mut problems = Vec::new();
    let size = annotations_size(&rules.annotations);
    if size > ANNOTATIONS_LIMIT {
        problems.push(format!("spec.annotations: {size} bytes in all, but a pod can have no more than {ANNOTATIONS_LIMIT}: shorten them"));
    }
    for (index, rule) in rules.containers.iter().flatten().enumerate() {
        let probes =
            [("livenessProbe", &rule.liveness_probe), ("readinessProbe", &rule.readiness_probe), ("startupProbe", &rule.startup_probe)];
        for (name, probe) in probes {
            if probe.as_ref().is_some_and(|probe| handlers(probe) > 1) {
                problems.push(format!(
                    "spec.containers[{index}].{name}: a probe has at most one handler: keep one of httpGet, tcpSocket, grpc and exec"
                ));
            }
            if probe.as_ref().and_then(|probe| probe.http_get.as_ref()).is_some_and(is_http2_over_tls) {
                problems.push(format!("spec.containers[{index}].{name}.httpGet.protocol: HTTP2 needs scheme HTTP"));
            }
        }
        let hooks = rule.lifecycle.iter().flat_map(|lifecycle| [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)]);
        for (name, hook) in hooks {
            if hook.as_ref().is_some_and(|hook| hook_handlers(hook) != 1) {
                problems.push(format!("spec.containers[{index}].lifecycle.{name}: a hook has exactly one of exec, httpGet and sleep"));
            }
            if hook.as_ref().and_then(|hook| hook.http_get.as_ref()).is_some_and(is_http2_over_tls) {
                problems.push(format!("spec.containers[{index}].lifecycle.{name}.httpGet.protocol: HTTP2 needs scheme HTTP"));
            }
        }
    }
    problems
}

fn is_http2_over_tls(http: &HttpGetAction) -> bool {
    http.protocol == Some(HttpProtocol::Http2) && http.scheme == Some(Scheme::Https)
}

fn handlers(probe: &Probe) -> usize {
    [probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.grpc.is_some(), probe.exec.is_some()]
        .into_iter()
        .filter(|&given| given)
        .count()
}

fn hook_handlers(hook: &LifecycleHandler) -> usize {
    [hook.exec.is_some(), hook.http_get.is_some(), hook.sleep.is_some()].into_iter().filter(|&given| given).count()
}

/// The size of annotations as Kubernetes counts it.
pub(crate) fn annotations_size(annotations: &BTreeMap<String, String>) -> usize {
    annotations.iter().map(|(key, value)| key.len() + value.len()).sum()
}
