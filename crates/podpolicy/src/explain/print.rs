//! What is told of a pod: the policies that select it, its fields, and the findings.

use std::fmt::Write as _;

use podpolicy_engine::{Conflict, Field, FieldOutcome, Life, Outcome, PodState, Source};
use serde_json::{Value, json};

use super::{Described, Explained};
use crate::output::Table;

/// For people.
pub(super) fn text(explained: &Explained) -> String {
    let Explained { pod, outcome, described } = explained;
    let mut text = match described {
        None => format!("pod {}/{}\n", pod.namespace, pod.name),
        Some(Described { kind, file, position }) => format!("{kind} {}/{} ({file}:{position})\n", pod.namespace, pod.name),
    };
    if outcome.verdicts.is_empty() {
        let why = match pod.life {
            Life::Live => "no policy selects it",
            Life::Ended => "policies select no pod that has ended",
            Life::Untouchable => "policies select no pod that is being deleted, or that kubelet mirrors",
        };
        _ = writeln!(text, "{why}");
    } else {
        let mut policies = Table::new(&["POLICY", "STATE"]);
        for verdict in &outcome.verdicts {
            policies.row([verdict.policy.id().to_string(), state(explained.standing(verdict.state)).to_owned()]);
        }
        _ = write!(text, "\n{policies}");
    }
    if !outcome.fields.is_empty() {
        let there = if described.is_some() { "IN THE FILE" } else { "ON THE POD" };
        let mut fields = Table::new(&["FIELD", "FROM", there, "VALUE"]);
        for field in &outcome.fields {
            let FieldOutcome { field: name, value, source, done } = field;
            let value = value.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
            fields.row([name.to_string(), from(source, outcome, name), presence(name, *done, described.is_some()).to_owned(), value]);
        }
        _ = write!(text, "\n{fields}");
    }
    for verdict in outcome.verdicts.iter().filter(|verdict| !verdict.findings.is_empty()) {
        _ = writeln!(text, "\n{}", verdict.policy.id());
        for finding in &verdict.findings {
            _ = writeln!(text, "  {} {}: {}", finding.reason, finding.field, finding.message);
        }
    }
    text
}

/// For programs.
pub(super) fn json(explained: &Explained) -> Value {
    let Explained { pod, outcome, described } = explained;
    let policies: Vec<_> = outcome
        .verdicts
        .iter()
        .map(|verdict| {
            let findings = verdict.findings.iter();
            let findings: Vec<_> = findings
                .map(|found| {
                    json!({
                        "reason": found.reason.to_string(), "field": found.field.to_string(), "refused": found.refused, "message": found.message,
                    })
                })
                .collect();
            json!({ "policy": verdict.policy.id().to_string(), "state": state(explained.standing(verdict.state)), "findings": findings })
        })
        .collect();
    let fields: Vec<_> = outcome
        .fields
        .iter()
        .map(|FieldOutcome { field, value, source, done }| {
            let losers: Vec<_> = losers(outcome, field).collect();
            json!({ "field": field.to_string(), "value": value, "source": name(source), "overridden": losers, "done": done })
        })
        .collect();
    let mut all = json!({ "namespace": pod.namespace, "pod": pod.name, "policies": policies, "fields": fields });
    if let Some(Described { kind, file, position }) = described {
        all["kind"] = json!(kind);
        all["file"] = json!(file);
        all["line"] = json!(position.line);
        all["column"] = json!(position.column);
    }
    all
}

impl Explained {
    /// How the pod stands with a policy. In a file nothing has to be replaced: what is missing can be written.
    fn standing(&self, state: PodState) -> PodState {
        match (state, &self.described) {
            (PodState::Outdated, Some(_)) => PodState::Pending,
            (state, _) => state,
        }
    }
}

/// "PodPolicy web-standard (over ClusterPodPolicy baseline)"
fn from(source: &Source, outcome: &Outcome, field: &Field) -> String {
    let losers: Vec<_> = losers(outcome, field).collect();
    let source = name(source);
    if losers.is_empty() { source } else { format!("{source} (over {})", losers.join(", ")) }
}

fn name(source: &Source) -> String {
    match source {
        Source::Workload => "the workload".to_owned(),
        Source::Policy(policy) => policy.replace('/', " "),
    }
}

fn losers(outcome: &Outcome, field: &Field) -> impl Iterator<Item = String> {
    let lost = |conflict: &Conflict| (conflict.field == *field).then(|| conflict.loser.id().to_string());
    outcome.conflicts.iter().filter_map(lost).collect::<Vec<_>>().into_iter()
}

fn presence(field: &Field, done: bool, in_file: bool) -> &'static str {
    match field {
        _ if done => "yes",
        _ if in_file => "no",
        Field::Label(_) | Field::Annotation(_) => "no: to be written",
        Field::GracePeriod | Field::Container(_) | Field::Probe { .. } | Field::Hook { .. } => "no: once it is replaced",
    }
}

/// How a pod stands with a policy, in a word.
pub(crate) fn state(state: PodState) -> &'static str {
    match state {
        PodState::Compliant => "compliant",
        PodState::Refused => "refused",
        PodState::Outdated => "outdated",
        PodState::Pending => "pending",
    }
}
