//! What can be said about a policy by itself, whichever pods it selects.

use podpolicy_api::{FindingReason, GROUP, PolicyRules};
use podpolicy_engine::{Field, Finding, Policy, PolicyId, PolicyKind, Program, STOP_SIGNAL};
use serde_json::Value as Json;

use super::{Rule, Selected, Severity};
use crate::{Object, Step};

const PROTECTED_KEY: Rule = Rule {
    id: "protected-key",
    severity: Severity::Error,
    summary: "a policy sets a label or annotation that is not for policies to set",
    why: "The key belongs to Kubernetes, to a controller or to PodPolicy, or --protect-keys names it. No pod gets it.",
    remedy: "Remove the key from the policy.",
};

const HOST_NOT_ALLOWED: Rule = Rule {
    id: "host-not-allowed",
    severity: Severity::Error,
    summary: "a policy's probe or hook names a host",
    why: "The kubelet would ask that host in place of the pod, so that whoever may write policies could make nodes scan a network. No pod gets it.",
    remedy: "Remove host. To send another Host header, use httpHeaders.",
};

const NOT_SUPPORTED: Rule = Rule {
    id: "not-supported",
    severity: Severity::Error,
    summary: "a policy sets a field that the API server drops",
    why: "The field needs a newer version of Kubernetes, or a feature gate that is off by default. No pod gets it.",
    remedy: "Upgrade or turn the feature gate on, as the message says; or remove the setting from the policy.",
};

const SLEEP_BEYOND_GRACE: Rule = Rule {
    id: "sleep-beyond-grace",
    severity: Severity::Warning,
    summary: "a policy's hook sleeps through the grace period that the policy sets, or through Kubernetes' default of 30 s",
    why: "Pods that say no longer grace period themselves do not get the hook (finding GraceTooShort): the process would be killed in its sleep.",
    remedy: "Shorten the sleep, or have the policy set a terminationGracePeriodSeconds that covers the sleep and the time that the process needs to stop.",
};

const EMPTY_POLICY: Rule = Rule {
    id: "empty-policy",
    severity: Severity::Warning,
    summary: "a policy asks for nothing",
    why: "It selects pods, counts all of them as compliant, and does nothing to them.",
    remedy: "Give it labels, annotations, terminationGracePeriodSeconds or containers; or remove it.",
};

const UNKNOWN_NAMESPACE: Rule = Rule {
    id: "unknown-namespace",
    severity: Severity::Warning,
    summary: "a policy selects namespaces by labels that are not among the files",
    why: "The namespace counts as not selected, so that its pods are looked at without the policy.",
    remedy: "Add the manifest of the Namespace to the files.",
};

const RUNS_COMMAND: Rule = Rule {
    id: "runs-command",
    severity: Severity::Note,
    summary: "a policy's probe or hook runs a command",
    why: "In a cluster the guard (config/guard) allows it only to authors who may create pods/exec.",
    remedy: "Have such an author apply the policy; or use httpGet, tcpSocket, grpc or sleep.",
};

const SELECTS_NO_POD: Rule = Rule {
    id: "selects-no-pod",
    severity: Severity::Note,
    summary: "a policy selects no pod among the files",
    why: "A selector with a typo does nothing, silently.",
    remedy: "Compare the selector with the labels that the pods have of their own; or add the manifests that it is meant for.",
};

/// The rules, in the order in which they are listed.
pub(super) const RULES: [&Rule; 8] = [
    &PROTECTED_KEY,
    &HOST_NOT_ALLOWED,
    &NOT_SUPPORTED,
    &SLEEP_BEYOND_GRACE,
    &EMPTY_POLICY,
    &UNKNOWN_NAMESPACE,
    &RUNS_COMMAND,
    &SELECTS_NO_POD,
];

/// Something about a policy, and where in the policy it is.
pub(super) struct Told {
    pub(super) rule: &'static Rule,
    pub(super) path: Vec<Step>,
    pub(super) field: String,
    pub(super) message: String,
}

impl Told {
    fn of(finding: Finding, rule: &'static Rule, policy: &Json) -> Self {
        Self { rule, path: path(&finding.field, policy), field: finding.field.to_string(), message: finding.message }
    }
}

/// Whether the object is a policy.
pub(super) fn is_policy(object: &Object<'_>) -> bool {
    object.api_version.split('/').next() == Some(GROUP) && matches!(object.kind, "PodPolicy" | "ClusterPodPolicy")
}

/// The policy that the object is; one that names no namespace is in `namespace`.
pub(super) fn id(object: &Object<'_>, namespace: &str) -> PolicyId {
    if object.kind == "PodPolicy" {
        PolicyId::namespaced(object.namespace.unwrap_or(namespace), object.name)
    } else {
        PolicyId::cluster(object.name)
    }
}

/// What there is to say about a policy.
pub(super) fn findings(object: &Object<'_>, id: &PolicyId, program: &Program, selected: &Selected<'_>) -> Vec<Told> {
    // A policy with a mistake is not in force; the mistake is told elsewhere.
    let Some(policy) = program.policies().iter().find(|policy| policy.id() == id) else { return Vec::new() };
    let told = |rule, field: &str, message| Told { rule, path: Step::keys(["spec", field]), field: format!("spec.{field}"), message };
    let mut found = refused(policy, object.value, program);
    found.extend(policy.hooks_beyond_grace().map(|finding| Told::of(finding, &SLEEP_BEYOND_GRACE, object.value)));
    if asks_for_nothing(policy.rules()) {
        found.push(told(
            &EMPTY_POLICY,
            "selector",
            "it asks for no label, annotation, grace period, probe, hook or stop signal".to_owned(),
        ));
    }
    if policy.runs_commands() {
        let place = match id.kind {
            PolicyKind::PodPolicy => "in its namespace",
            PolicyKind::ClusterPodPolicy => "in all namespaces",
        };
        found.push(told(&RUNS_COMMAND, "containers", format!("it runs commands; its author must be allowed to create pods/exec {place}")));
    }
    if let (Some(_), Some(unknown)) = (policy.namespace_selector(), selected.unknown_namespace) {
        let message = format!("it selects namespaces by labels, and those of namespace {unknown} are not among the files");
        found.push(told(&UNKNOWN_NAMESPACE, "namespaceSelector", message));
    } else if selected.selecting.is_some_and(|selecting| !selecting.contains(id)) {
        found.push(told(&SELECTS_NO_POD, "selector", "no pod among the files has labels of its own that match".to_owned()));
    }
    found
}

fn asks_for_nothing(rules: &PolicyRules) -> bool {
    rules.labels.is_empty()
        && rules.annotations.is_empty()
        && rules.termination_grace_period_seconds.is_none()
        && rules.containers.is_none()
}

/// What no pod gets. What only some pods do not get is told of them.
fn refused(policy: &Policy, value: &Json, program: &Program) -> Vec<Told> {
    let told = |finding: Finding| {
        let rule = match finding.reason {
            FindingReason::ProtectedKey => &PROTECTED_KEY,
            FindingReason::HostNotAllowed => &HOST_NOT_ALLOWED,
            FindingReason::NotSupported => &NOT_SUPPORTED,
            FindingReason::Kept
            | FindingReason::Overridden
            | FindingReason::SelectorImpact
            | FindingReason::SelectorsUnknown
            | FindingReason::ExecNotAllowed
            | FindingReason::PortNotFound
            | FindingReason::GraceTooShort
            | FindingReason::AnnotationsTooLarge
            | FindingReason::StopSignalNotAllowed
            | FindingReason::ContainerNotFound
            | FindingReason::RestartPolicy
            | FindingReason::NoProbeToTune
            | FindingReason::WouldChange
            | FindingReason::WriteFailed
            | FindingReason::NotAtCreation => return None,
        };
        Some(Told::of(finding, rule, value))
    };
    program.refused_everywhere(policy).into_iter().filter_map(told).collect()
}

/// Where a policy says something about a field; a container is called by the names of its rule.
fn path(field: &Field, policy: &Json) -> Vec<Step> {
    let keys = |keys: &[&str]| Step::keys(keys.iter().copied());
    let in_rule = |names: &str, fields: &[&str]| {
        let says_it = |rule: &Json| {
            let given = rule["names"].as_array().map(|names| names.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(","));
            given.as_deref().unwrap_or("*") == names && fields.iter().try_fold(rule, |value, field| value.get(field)).is_some()
        };
        let index = policy["spec"]["containers"].as_array().and_then(|rules| rules.iter().position(says_it));
        let rule = index.map(|index| [keys(&["spec", "containers"]), vec![Step::Index(index)], keys(fields)].concat());
        rule.unwrap_or_else(|| keys(&["spec", "containers"]))
    };
    match field {
        Field::Label(key) => keys(&["spec", "labels", key]),
        Field::Annotation(key) => keys(&["spec", "annotations", key]),
        Field::GracePeriod => keys(&["spec", "terminationGracePeriodSeconds"]),
        Field::Container(_) => keys(&["spec", "containers"]),
        Field::Probe { container, kind } => in_rule(container, &[kind.field_name()]),
        Field::Hook { container, kind } => in_rule(container, &["lifecycle", kind.field_name()]),
        Field::StopSignal { container } => in_rule(container, &["lifecycle", STOP_SIGNAL]),
    }
}
