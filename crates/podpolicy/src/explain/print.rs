//! What is told of a pod: the policies that select it, its fields, and the findings.

use std::fmt::Write as _;

use podpolicy_engine::{Life, PodState};
use serde_json::{Value, json};

use super::{
    Described, Explained,
    fields::{Row, rows},
};
use crate::output::Table;

/// For people.
pub(super) fn text(explained: &Explained) -> String {
    let Explained { pod, outcome, described, existing: _, is_excluded } = explained;
    let mut text = match described {
        None => format!("pod {}/{}\n", pod.namespace, pod.name),
        Some(Described { kind, file, position }) => format!("{kind} {}/{} ({file}:{position})\n", pod.namespace, pod.name),
    };
    if outcome.verdicts.is_empty() && outcome.exempting.is_empty() {
        let why = match pod.life {
            Life::Live if *is_excluded => {
                "no policy selects it: its namespace is excluded (--exclude-namespaces), so that no ClusterPodPolicy acts there"
            }
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
        for policy in &outcome.exempting {
            policies.row([policy.id().to_string(), "exempt since its rollout failed".to_owned()]);
        }
        _ = write!(text, "\n{policies}");
    }
    let rows = rows(explained);
    if !rows.is_empty() {
        let there = if described.is_some() { "IN THE FILE" } else { "ON THE POD" };
        let mut fields = Table::new(&["FIELD", "FROM", there, "VALUE"]);
        for row in rows {
            let value = row.shown().map_or_else(|| "-".to_owned(), ToString::to_string);
            fields.row([row.field.to_string(), from(&row), row.presence(described.is_some()), value]);
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
    let Explained { pod, outcome, described, existing: _, is_excluded: _ } = explained;
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
    let exempting = outcome.exempting.iter();
    let exempting = exempting.map(|policy| json!({ "policy": policy.id().to_string(), "state": "exempt", "findings": [] }));
    let policies: Vec<_> = policies.into_iter().chain(exempting).collect();
    let fields: Vec<_> = rows(explained)
        .into_iter()
        .map(|Row { field, value, source, losers, done, on_pod: _, fate: _ }| {
            json!({ "field": field.to_string(), "value": value, "source": source, "overridden": losers, "done": done })
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

/// "PodPolicy shop/web-standard (over ClusterPodPolicy baseline)"
fn from(Row { source, losers, .. }: &Row) -> String {
    if losers.is_empty() { source.clone() } else { format!("{source} (over {})", losers.join(", ")) }
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

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use podpolicy_engine::{Pod, Policy, Program, Settings};

    use super::*;

    fn explained(exempt: &str, is_excluded: bool) -> Explained {
        let policy =
            json!({ "metadata": { "name": "all" }, "spec": { "selector": { "matchLabels": { "app": "web" } }, "labels": { "a": "1" } } });
        let policy = Policy::from_cluster(&serde_json::from_value(policy).unwrap()).with_exempt([exempt.to_owned()].into());
        let owner = json!([{ "controller": true, "kind": "ReplicaSet", "name": "web-1", "uid": "1" }]);
        let labels = if is_excluded { json!({}) } else { json!({ "app": "web" }) };
        let metadata = json!({ "namespace": "shop", "name": "web", "labels": labels, "ownerReferences": owner });
        let pod: Pod = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        let outcome = Program::new([Arc::new(policy)], HashMap::new(), Settings::default()).decide(&pod);
        Explained { pod, outcome, described: None, existing: None, is_excluded }
    }

    #[test]
    fn policy_that_leaves_the_pod_alone_since_its_rollout_failed_is_named() {
        let wanted = "pod shop/web\n\nPOLICY                 STATE\nClusterPodPolicy all   exempt since its rollout failed\n";
        assert_eq!(text(&explained("1", false)), wanted);
        let policies = json!([{ "policy": "ClusterPodPolicy all", "state": "exempt", "findings": [] }]);
        assert_eq!(json(&explained("1", false))["policies"], policies);
        assert!(!text(&explained("2", false)).contains("exempt"), "another owner is");
    }

    #[test]
    fn excluded_namespace_is_told() {
        assert!(text(&explained("2", true)).contains("(--exclude-namespaces)"));
    }
}
