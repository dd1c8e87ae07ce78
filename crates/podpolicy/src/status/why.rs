//! Why a pod is not as a policy says, in a few words.

use podpolicy_api::FindingReason;
use podpolicy_engine::{Field, Outcome, Pod, PodState, Record, Source, Verdict};

use crate::output;

/// How many fields are named.
const MOST_FIELDS: usize = 2;

/// Why the pod stands with the policy as it does.
pub(super) fn why(pod: &Pod, outcome: &Outcome, verdict: &Verdict) -> String {
    let is_audit = verdict.policy.is_audit();
    let fields = if is_audit { would_change(verdict) } else { missing(pod, outcome, verdict) };
    let (metadata, settings): (Vec<_>, Vec<_>) =
        fields.into_iter().partition(|field| matches!(field, Field::Label(_) | Field::Annotation(_)));
    match verdict.state {
        PodState::Compliant => String::new(),
        PodState::Refused => refused(verdict),
        PodState::Pending if is_audit => format!("{}: would be written", list(&metadata, "labels or annotations")),
        PodState::Pending => format!("{}: to be written", list(&metadata, "labels or annotations")),
        PodState::Outdated => format!("{}: {}", list(&settings, "settings of new pods"), replacement(pod, is_audit)),
    }
}

/// `PortNotFound containers[web].livenessProbe and 2 more`
fn refused(verdict: &Verdict) -> String {
    let mut refused = verdict.findings.iter().filter(|finding| finding.refused);
    let Some(first) = refused.next() else { return String::new() };
    let more = refused.count();
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{} {}{rest}", first.reason, first.field)
}

/// Who replaces the pod, which does not happen by itself to all.
fn replacement(pod: &Pod, is_audit: bool) -> &'static str {
    match pod.owner.as_ref().map(|owner| owner.kind.as_str()) {
        None => "set on new pods only; nothing replaces a bare pod",
        Some("Job") => "set on new pods only; nothing replaces the pod of a Job",
        Some(_) if is_audit => "would be set once it is replaced",
        Some(_) => "to be replaced",
    }
}

/// What an audit would change.
fn would_change(verdict: &Verdict) -> Vec<Field> {
    let changes = verdict.findings.iter().filter(|finding| finding.reason == FindingReason::WouldChange);
    changes.map(|finding| finding.field.clone()).collect()
}

/// What the pod does not have yet, as far as the policy asks for it or has set it before.
fn missing(pod: &Pod, outcome: &Outcome, verdict: &Verdict) -> Vec<Field> {
    let policy = &verdict.policy;
    let record = Record::of(pod);
    let has_written = |field: &Field| record.entry(field).is_some_and(|entry| entry.by == policy.in_record());
    let loses = |field: &Field| outcome.conflicts.iter().any(|lost| lost.field == *field && lost.loser.id() == policy.id());
    let undone = outcome.fields.iter().filter(|outcome| !outcome.done);
    let is_about =
        |field: &Field, source: &Source| (policy.asks_for(field) && !loses(field)) || (*source == Source::Workload && has_written(field));
    undone.filter(|outcome| is_about(&outcome.field, &outcome.source)).map(|outcome| outcome.field.clone()).collect()
}

/// `labels[a], labels[b] and 2 more`; these words where there are none.
fn list(fields: &[Field], none: &str) -> String {
    if fields.is_empty() {
        return none.to_owned();
    }
    output::listed(fields, MOST_FIELDS)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use podpolicy_engine::{Policy, Program, Settings};
    use serde_json::{Value, json};

    use super::*;

    /// What is said of a pod with such an owner, under such policies.
    fn say(owner: Option<&str>, specs: &[Value]) -> Vec<String> {
        let policies = specs.iter().zip(["a", "b"]).map(|(spec, name)| {
            let metadata = json!({ "namespace": "shop", "name": name });
            let policy = json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": metadata, "spec": spec });
            Arc::new(Policy::from_namespaced(&serde_json::from_value(policy).unwrap()))
        });
        let program = Program::new(policies, HashMap::from([("shop".to_owned(), Arc::default())]), Settings::default());
        let owners: Vec<_> = owner.iter().map(|kind| json!({ "controller": true, "kind": kind, "name": "web", "uid": "1" })).collect();
        let metadata = json!({ "namespace": "shop", "name": "web", "ownerReferences": owners });
        let pod: Pod = serde_json::from_value(json!({ "metadata": metadata, "spec": { "containers": [{ "name": "web" }] } })).unwrap();
        let outcome = program.decide(&pod);
        outcome.verdicts.iter().map(|verdict| why(&pod, &outcome, verdict)).collect()
    }

    #[test]
    fn further_refusals_are_counted() {
        let spec = json!({ "selector": {}, "labels": { "job-name": "1", "controller-uid": "1", "pod-template-hash": "1" } });
        assert_eq!(say(None, &[spec]), ["ProtectedKey labels[controller-uid] and 2 more"]);
    }

    #[test]
    fn fields_that_a_new_pod_would_have_are_named() {
        let probe = json!({ "tcpSocket": { "port": 80 } });
        let container =
            json!({ "livenessProbe": probe, "readinessProbe": probe, "lifecycle": { "preStop": { "sleep": { "seconds": 1 } } } });
        let spec = json!({ "selector": {}, "terminationGracePeriodSeconds": 60, "containers": [container] });
        let other =
            json!({ "selector": {}, "priority": -1, "terminationGracePeriodSeconds": 90, "containers": [{ "startupProbe": probe }] });
        let wanted = [
            "terminationGracePeriodSeconds, containers[web].livenessProbe and 2 more: to be replaced",
            "containers[web].startupProbe: to be replaced",
        ];
        assert_eq!(say(Some("ReplicaSet"), &[spec, other]), wanted);
    }

    #[test]
    fn pods_that_nothing_replaces_are_told() {
        let spec = json!({ "selector": {}, "terminationGracePeriodSeconds": 60 });
        let field = "terminationGracePeriodSeconds: set on new pods only; nothing replaces";
        assert_eq!(say(Some("Job"), std::slice::from_ref(&spec)), [format!("{field} the pod of a Job")]);
        assert_eq!(say(None, &[spec]), [format!("{field} a bare pod")]);
    }

    #[test]
    fn audits_say_what_would_be() {
        let labels = json!({ "selector": {}, "enforcement": "Audit", "labels": { "a": "1", "b": "1", "c": "1" } });
        let grace = json!({ "selector": {}, "enforcement": "Audit", "terminationGracePeriodSeconds": 60 });
        let wanted =
            ["labels[a], labels[b] and 1 more: would be written", "terminationGracePeriodSeconds: would be set once it is replaced"];
        assert_eq!(say(Some("ReplicaSet"), &[labels.clone(), grace]), wanted);
        let mut enforced = labels;
        enforced["enforcement"] = json!("Enforce");
        assert_eq!(say(None, &[enforced]), ["labels[a], labels[b] and 1 more: to be written"]);
    }
}
