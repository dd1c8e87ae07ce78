//! What the engine has to say about policies on a pod, as findings of rules: one rule for each reason that there is on files.

use podpolicy_api::FindingReason;
use podpolicy_engine::{Field, Finding, Outcome, PolicyId, STOP_SIGNAL, is_glob};
use serde_json::Value as Json;

use super::{Rule, Severity, subject::Spot};
use crate::Step;

/// A rule of the engine's.
macro_rules! rule {
    ($name:ident, $id:literal, $severity:ident, $summary:literal, $why:literal, $remedy:literal $(,)?) => {
        const $name: Rule = Rule { id: $id, severity: Severity::$severity, summary: $summary, why: $why, remedy: $remedy };
    };
}

rule!(
    SELECTOR_IMPACT,
    "selector-impact",
    Error,
    "a policy sets a label that a Service, NetworkPolicy, PodDisruptionBudget or workload selects on",
    "With the label, pods could join the Service, leave the NetworkPolicy or leave their owner. The label is not set.",
    "Choose another key; or, when the selector is meant to read the label, set allowSelectorImpact in the policy.",
);
rule!(
    PORT_NOT_FOUND,
    "port-not-found",
    Error,
    "a policy's probe or hook names a port that the container does not have",
    "The probe or hook would always fail. It is not set.",
    "Name the port in the workload's ports, use the number, or narrow names in the policy to the containers that have the port.",
);
rule!(
    GRACE_TOO_SHORT,
    "grace-too-short",
    Error,
    "a policy's hook sleeps as long as the grace period, or its grace period is too short for a sleep of the workload's",
    "The container would be killed before it is told to stop. The hook, or the grace period, is not set.",
    "Shorten the sleep, or set a longer terminationGracePeriodSeconds.",
);
rule!(
    ANNOTATIONS_TOO_LARGE,
    "annotations-too-large",
    Error,
    "with a policy's annotations the pod would have more than 256 KiB of them",
    "The API server takes no more. The last policies lose theirs first.",
    "Shorten the annotations of the policy or of the workload.",
);
rule!(
    STOP_SIGNAL_NOT_ALLOWED,
    "stop-signal-not-allowed",
    Error,
    "a policy gives a stop signal to a pod that cannot have it",
    "Kubernetes takes a stop signal only in pods with spec.os.name, and in Windows pods only SIGTERM and SIGKILL. The signal is not set.",
    "Set spec.os.name in the workload's pod template, or remove the signal from the policy.",
);
rule!(
    CONTAINER_NOT_FOUND,
    "container-not-found",
    Warning,
    "a policy names a container that a pod it selects does not have",
    "The rule does nothing there. Often the name has a typo, or the container was renamed.",
    "Correct the name in the policy, or narrow its selector.",
);
rule!(
    NO_PROBE_TO_TUNE,
    "no-probe-to-tune",
    Warning,
    "a policy tunes a probe that the container does not have",
    "A probe without a handler only changes the numbers of the container's own. It does nothing there.",
    "Give the policy's probe a handler (httpGet, tcpSocket, grpc or exec), or the container a probe.",
);
rule!(
    OVERRIDDEN,
    "overridden",
    Note,
    "two policies set one field of a pod to different values",
    "The one with the higher priority wins; the other's value has no effect there.",
    "Where that is not wanted, give one of the two another priority, or remove the field from one.",
);
rule!(
    KEPT,
    "kept",
    Note,
    "a workload declares a field that a policy sets, and keeps its own value",
    "With precedence: Workload a policy only fills in what a pod lacks.",
    "Nothing, where the workload is right. Otherwise remove the value from the workload, or set precedence: Policy.",
);
rule!(
    NO_PROBES_IN_JOBS,
    "restart-policy",
    Note,
    "a policy's probe is left out of a container that is not always started again",
    "A failing probe could end the container permanently. What counts is its restartPolicy, or the pod's where it has none.",
    "Nothing, or narrow the policy's selector.",
);
rule!(
    WOULD_CHANGE,
    "would-change",
    Note,
    "a policy that only audits would change a field",
    "This is what enforcement: Enforce would write.",
    "Where that is what you want, set enforcement: Enforce.",
);
rule!(
    LABEL_SELECTS_POLICY,
    "label-selects-policy",
    Warning,
    "a label that a policy sets makes another policy select the pod, in files only",
    "In a cluster labels that policies set select nothing. Rendered into files they cannot be told from the workload's own, so that a second \
     `podpolicy render` changes more than the first.",
    "Have policies select on labels that workloads set themselves.",
);

/// The rules, in the order in which they are listed.
pub(super) const RULES: [&Rule; 12] = [
    &SELECTOR_IMPACT,
    &PORT_NOT_FOUND,
    &GRACE_TOO_SHORT,
    &ANNOTATIONS_TOO_LARGE,
    &STOP_SIGNAL_NOT_ALLOWED,
    &CONTAINER_NOT_FOUND,
    &NO_PROBE_TO_TUNE,
    &LABEL_SELECTS_POLICY,
    &OVERRIDDEN,
    &KEPT,
    &NO_PROBES_IN_JOBS,
    &WOULD_CHANGE,
];

/// What is found by whom: the rule that a reason stands for. None for what is told of the policy itself, and for what only a cluster knows.
fn rule(reason: FindingReason) -> Option<&'static Rule> {
    match reason {
        FindingReason::Kept => Some(&KEPT),
        FindingReason::Overridden => Some(&OVERRIDDEN),
        FindingReason::SelectorImpact => Some(&SELECTOR_IMPACT),
        FindingReason::PortNotFound => Some(&PORT_NOT_FOUND),
        FindingReason::GraceTooShort => Some(&GRACE_TOO_SHORT),
        FindingReason::AnnotationsTooLarge => Some(&ANNOTATIONS_TOO_LARGE),
        FindingReason::StopSignalNotAllowed => Some(&STOP_SIGNAL_NOT_ALLOWED),
        FindingReason::ContainerNotFound => Some(&CONTAINER_NOT_FOUND),
        FindingReason::RestartPolicy => Some(&NO_PROBES_IN_JOBS),
        FindingReason::NoProbeToTune => Some(&NO_PROBE_TO_TUNE),
        FindingReason::WouldChange => Some(&WOULD_CHANGE),
        FindingReason::ProtectedKey
        | FindingReason::HostNotAllowed
        | FindingReason::ExecNotAllowed
        | FindingReason::NotSupported
        | FindingReason::SelectorsUnknown
        | FindingReason::WriteFailed
        | FindingReason::NotAtCreation => None,
    }
}

/// Whether a policy has a pattern for which a pod has no container: patterns are for those that there are.
fn is_of_glob(finding: &Finding) -> bool {
    finding.reason == FindingReason::ContainerNotFound && matches!(&finding.field, Field::Container(name) if is_glob(name))
}

/// What was found for a pod.
pub(super) fn findings<'a>(outcome: &'a Outcome, template: &'a Json) -> impl Iterator<Item = (&'static Rule, Spot)> + 'a {
    outcome.verdicts.iter().flat_map(move |verdict| {
        let id = verdict.policy.id();
        let is_audit = verdict.policy.is_audit();
        verdict.findings.iter().filter(|finding| !is_of_glob(finding)).filter_map(move |finding| {
            let how = match (finding.refused, is_audit) {
                (true, true) => " would be refused",
                (true, false) => " is refused",
                (false, _) => "",
            };
            let message = format!("{id}{how}: {}", finding.message);
            let rule = rule(finding.reason)?;
            // It writes nothing, so nothing is wrong yet.
            let rule = if is_audit && rule.severity > Severity::Note { &WOULD_CHANGE } else { rule };
            Some((rule, Spot { path: path(&finding.field, template), field: finding.field.to_string(), message, of: None }))
        })
    })
}

/// A policy that selects the pod only with what it was given.
pub(super) fn label_selects_policy(policy: &PolicyId) -> (&'static Rule, Spot) {
    let path = Step::keys(["metadata", "labels"]);
    let message = format!("once labels that policies set are in the file, {policy} selects the pod; in a cluster it does not");
    (&LABEL_SELECTS_POLICY, Spot { path, field: "labels".to_owned(), message, of: None })
}

/// Where a field is in a pod or pod template.
fn path(field: &Field, template: &Json) -> Vec<Step> {
    let keys = |keys: &[&str]| Step::keys(keys.iter().copied());
    let container = |name: &str| {
        ["containers", "initContainers"].into_iter().find_map(|list| {
            let index = template["spec"][list].as_array()?.iter().position(|container| container["name"] == name)?;
            let mut path = keys(&["spec", list]);
            path.push(Step::Index(index));
            Some(path)
        })
    };
    match field {
        Field::Label(key) => keys(&["metadata", "labels", key]),
        Field::Annotation(key) => keys(&["metadata", "annotations", key]),
        Field::GracePeriod => keys(&["spec", "terminationGracePeriodSeconds"]),
        Field::Container(name) => container(name).unwrap_or_else(|| keys(&["spec", "containers"])),
        Field::Probe { container: name, kind } => [container(name).unwrap_or_default(), keys(&[kind.field_name()])].concat(),
        Field::Hook { container: name, kind } => [container(name).unwrap_or_default(), keys(&["lifecycle", kind.field_name()])].concat(),
        Field::StopSignal { container: name } => [container(name).unwrap_or_default(), keys(&["lifecycle", STOP_SIGNAL])].concat(),
    }
}
