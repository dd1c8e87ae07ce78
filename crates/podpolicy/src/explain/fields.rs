//! The fields of a pod that policies speak of, or have left something in: whose value each has, and what becomes of it.

use podpolicy_engine::{Field, FieldOutcome, HookKind, Outcome, Pod, PolicyId, ProbeKind, Record, Source, Value};

use super::Explained;

/// A field of a pod.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) field: Field,
    /// Its value once all is done.
    pub(super) value: Option<Value>,
    /// Where the value comes from, in words; where it goes away, where it came from.
    pub(super) source: String,
    /// The policies that want another value.
    pub(super) losers: Vec<String>,
    pub(super) done: bool,
    /// The label or annotation as the pod has it, if a policy put it there.
    pub(super) on_pod: Option<Value>,
    pub(super) fate: Fate,
}

/// What becomes of what is on the pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// It stays.
    Stays,
    /// The value is written to the pod.
    ToBeWritten,
    /// What a policy put there goes, and what it replaced comes back.
    ToBeTakenBack,
    /// A new pod has the value.
    OnceReplaced,
    /// No policy sets it any more, and only a new pod is without it.
    UntilReplaced,
}

impl Row {
    /// The value that is shown: of what goes away, what is still there.
    pub(super) fn shown(&self) -> Option<&Value> {
        match self.fate {
            Fate::ToBeTakenBack => self.on_pod.as_ref(),
            Fate::Stays | Fate::ToBeWritten | Fate::OnceReplaced | Fate::UntilReplaced => self.value.as_ref(),
        }
    }

    /// Whether the pod has the value, in words.
    pub(super) fn presence(&self, in_file: bool) -> String {
        let words = match self.fate {
            Fate::Stays => "yes",
            Fate::ToBeTakenBack => match &self.value {
                None => "yes: to be removed",
                Some(value) => return format!("yes: to be {value} again"),
            },
            Fate::UntilReplaced => "yes: until it is replaced",
            Fate::ToBeWritten | Fate::OnceReplaced if in_file => "no",
            Fate::ToBeWritten => "no: to be written",
            Fate::OnceReplaced => "no: once it is replaced",
        };
        words.to_owned()
    }
}

/// The fields of the pod, in order.
pub(super) fn rows(explained: &Explained) -> Vec<Row> {
    let record = Record::of(&explained.pod);
    let mut rows: Vec<_> = explained.outcome.fields.iter().map(|field| decided(explained, &record, field)).collect();
    rows.extend(left(explained, &record));
    rows.sort_by(|a, b| a.field.cmp(&b.field));
    rows
}

/// A field that policies speak of.
fn decided(explained: &Explained, record: &Record, outcome: &FieldOutcome) -> Row {
    let FieldOutcome { field, value, source, done } = outcome;
    let Explained { pod, outcome, .. } = explained;
    let entry = record.entry(field);
    let on_pod = match field {
        Field::Label(key) => pod.labels.get(key),
        Field::Annotation(key) => pod.annotations.get(key),
        Field::GracePeriod | Field::Container(_) | Field::Probe { .. } | Field::Hook { .. } | Field::StopSignal { .. } => None,
    };
    let on_pod = on_pod.filter(|_| entry.is_some()).map(|text| Value::Text(text.clone()));
    // Where the value on the pod is its own by now, only the record changes.
    let put_there = entry.filter(|_| !done && *source == Source::Workload && on_pod.is_some() && on_pod != *value);
    let (source, fate) = match (source, put_there) {
        (_, Some(entry)) => (explained.policy(&entry.by), Fate::ToBeTakenBack),
        (Source::Workload, None) => ("the workload".to_owned(), fate(field, *done || (on_pod.is_some() && on_pod == *value))),
        (Source::Policy(by), None) if tunes(outcome, by, field) => {
            (format!("the workload, tuned by {}", explained.policy(by)), fate(field, *done))
        }
        (Source::Policy(by), None) => (explained.policy(by), fate(field, *done)),
    };
    let lost = outcome.conflicts.iter().filter(|conflict| conflict.field == *field);
    let losers = lost.map(|conflict| conflict.loser.id().to_string()).collect();
    Row { field: field.clone(), value: value.clone(), source, losers, done: *done, on_pod, fate }
}

fn fate(field: &Field, done: bool) -> Fate {
    match field {
        _ if done => Fate::Stays,
        Field::Label(_) | Field::Annotation(_) => Fate::ToBeWritten,
        Field::GracePeriod | Field::Container(_) | Field::Probe { .. } | Field::Hook { .. } | Field::StopSignal { .. } => {
            Fate::OnceReplaced
        }
    }
}

/// Whether the policy only tunes the workload's own probe.
fn tunes(outcome: &Outcome, by: &str, field: &Field) -> bool {
    let Field::Probe { container, kind } = field else { return false };
    outcome.verdicts.iter().any(|verdict| verdict.policy.in_record() == by && verdict.policy.tunes(container, *kind))
}

/// What policies gave the pod when it was created, and no policy asks for any more.
fn left(explained: &Explained, record: &Record) -> Vec<Row> {
    let Explained { pod, outcome, .. } = explained;
    settings(pod)
        .filter(|(field, _)| !outcome.fields.iter().any(|known| known.field == *field))
        .filter_map(|(field, value)| {
            let entry = record.created.get(&field.to_string())?;
            let source = explained.policy(&entry.by);
            Some(Row { field, value: Some(value), source, losers: Vec::new(), done: true, on_pod: None, fate: Fate::UntilReplaced })
        })
        .collect()
}

/// The settings that a pod has since its creation.
fn settings(pod: &Pod) -> impl Iterator<Item = (Field, Value)> {
    let grace_period = (Field::GracePeriod, Value::Seconds(pod.template.grace_period));
    let of_containers = pod.template.containers.iter().flat_map(|container| {
        let name = || container.name.clone();
        let probes = ProbeKind::ALL.into_iter().filter_map(move |kind| {
            Some((Field::Probe { container: name(), kind }, Value::Probe(Box::new(container.probe(kind)?.clone()))))
        });
        let hooks = HookKind::ALL
            .into_iter()
            .filter_map(move |kind| Some((Field::Hook { container: name(), kind }, Value::Hook(Box::new(container.hook(kind)?.clone())))));
        let signal = container.stop_signal.clone().map(|signal| (Field::StopSignal { container: name() }, Value::Signal(signal)));
        probes.chain(hooks).chain(signal)
    });
    std::iter::once(grace_period).chain(of_containers)
}

impl Explained {
    /// A policy that the pod's record names, as everybody names it.
    fn policy(&self, by: &str) -> String {
        let Some(id) = PolicyId::from_record(by, &self.pod.namespace) else { return by.to_owned() };
        let is_gone = self.existing.as_ref().is_some_and(|existing| !existing.contains(&id));
        if is_gone { format!("{id} (gone)") } else { id.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use podpolicy_engine::{Policy, Program, Settings};
    use serde_json::{Value as Json, json};

    use super::*;

    fn explained(policies: &[Json], pod: &Json) -> Explained {
        let policies = policies.iter().map(|policy| Arc::new(Policy::from_namespaced(&serde_json::from_value(policy.clone()).unwrap())));
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        let program = Program::new(policies, HashMap::from([("shop".to_owned(), Arc::default())]), Settings::default());
        let existing = program.policies().iter().map(|policy| policy.id().clone()).collect();
        let outcome = program.decide(&pod);
        Explained { pod, outcome, described: None, existing: Some(existing), is_excluded: false }
    }

    fn policy(spec: &Json) -> Json {
        let metadata = json!({ "namespace": "shop", "name": "all" });
        json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": metadata, "spec": spec })
    }

    fn pod(record: &Json, labels: &Json, container: &Json) -> Json {
        let annotations = json!({ "podpolicy.dev/applied": record.to_string() });
        json!({ "metadata": { "namespace": "shop", "name": "web", "labels": labels, "annotations": annotations }, "spec": { "containers": [container] } })
    }

    /// Field, source, presence and value.
    fn shown(explained: &Explained) -> Vec<[String; 4]> {
        let show = |row: Row| {
            let value = row.shown().map(ToString::to_string).unwrap_or_default();
            [row.field.to_string(), row.source.clone(), row.presence(false), value]
        };
        rows(explained).into_iter().map(show).collect()
    }

    #[test]
    fn what_a_gone_policy_wrote_is_to_be_taken_back() {
        let entry = |was: Option<&str>| json!({ "by": "PodPolicy/z", "value": "a", "was": was });
        let record = json!({ "labels": { "zone": entry(None), "team": entry(Some("front")), "tier": entry(None) } });
        let pod = pod(&record, &json!({ "zone": "a", "team": "a", "tier": "changed" }), &json!({ "name": "web" }));
        let gone = "PodPolicy shop/z (gone)";
        assert_eq!(
            shown(&explained(&[], &pod)),
            [
                ["labels[team]", gone, "yes: to be \"front\" again", "\"a\""],
                ["labels[tier]", "the workload", "yes", "\"changed\""],
                ["labels[zone]", gone, "yes: to be removed", "\"a\""],
            ]
        );
        let narrowed = policy(&json!({ "selector": { "matchLabels": { "app": "other" } } })).to_string().replace("\"all\"", "\"z\"");
        let rows = shown(&explained(&[serde_json::from_str(&narrowed).unwrap()], &pod));
        assert_eq!(rows[2][1], "PodPolicy shop/z", "it is still there");
    }

    #[test]
    fn settings_that_policies_left_are_listed() {
        let record = json!({ "created": { "containers[web].livenessProbe": { "by": "ClusterPodPolicy/old" } } });
        let container =
            json!({ "name": "web", "livenessProbe": { "tcpSocket": { "port": 80 } }, "readinessProbe": { "tcpSocket": { "port": 80 } } });
        let rows = shown(&explained(&[], &pod(&record, &json!({}), &container)));
        assert_eq!(rows.len(), 1, "the workload's own probe is none of the policies'");
        assert_eq!(rows[0][..3], ["containers[web].livenessProbe", "ClusterPodPolicy old (gone)", "yes: until it is replaced"]);
    }

    #[test]
    fn tuned_probe_is_the_workloads() {
        let tuning = policy(
            &json!({ "selector": {}, "containers": [{ "livenessProbe": { "periodSeconds": 5 }, "readinessProbe": { "tcpSocket": { "port": 1 } } }] }),
        );
        let container = json!({ "name": "web", "livenessProbe": { "tcpSocket": { "port": 80 } } });
        let rows = shown(&explained(&[tuning], &pod(&json!({}), &json!({}), &container)));
        let sources: Vec<_> = rows.iter().map(|row| [row[1].as_str(), row[2].as_str()]).collect();
        let later = "no: once it is replaced";
        assert_eq!(sources, [["the workload, tuned by PodPolicy shop/all", later], ["PodPolicy shop/all", later]]);
    }
}
