//! Audit policies: each decides as if alone in force, against the pod as the enforcing policies leave it, and only reports.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use podpolicy_api::{APPLIED_ANNOTATION, FindingReason};

use crate::{
    Field, FieldOutcome, MetadataPlan, Pod, Policy, PolicyId, Record, Source, Verdict, container,
    decide::{Ledger, Moment, Scene},
    metadata::{self, Own},
};

/// One verdict for each audit policy that selects the pod. `fields` are those of the enforcing policies.
pub(crate) fn decide(
    scene: &Scene<'_>,
    plan: &MetadataPlan,
    record: &Record,
    fields: &[FieldOutcome],
    audits: &[&Arc<Policy>],
) -> Vec<Verdict> {
    if audits.is_empty() {
        return Vec::new();
    }
    let pod = as_it_is(scene.pod, plan);
    let given = Given::at_creation(record, fields);
    audits.iter().filter_map(|policy| decide_alone(scene, &pod, &given, policy)).collect()
}

/// What policies gave the pod when it was created.
struct Given {
    /// By policies that do not set it any more: a new pod would have it as the workload declares it.
    before: Record,
    /// By policies that set it still, by field, as records name them.
    still: BTreeMap<Field, String>,
}

impl Given {
    fn at_creation(record: &Record, fields: &[FieldOutcome]) -> Self {
        let mut before = Record { created: record.created.clone(), ..Record::default() };
        let mut still = BTreeMap::new();
        for FieldOutcome { field, source, .. } in fields {
            if let Source::Policy(by) = source
                && before.created.remove(&field.to_string()).is_some()
            {
                still.insert(field.clone(), by.clone());
            }
        }
        Self { before, still }
    }
}

/// The pod once the plan is written, with all labels and annotations on it counted as its own.
fn as_it_is(pod: &Pod, plan: &MetadataPlan) -> Pod {
    let mut pod = pod.clone();
    plan.apply(&mut pod);
    pod.annotations.remove(APPLIED_ANNOTATION);
    pod
}

fn decide_alone(scene: &Scene<'_>, pod: &Pod, given: &Given, policy: &Arc<Policy>) -> Option<Verdict> {
    let alone = Scene { pod, policies: vec![policy], facts: scene.facts, settings: scene.settings, moment: Moment::Live };
    let record = Record::default();
    let mut ledger = Ledger::new(vec![policy]);
    let own = Own::of(pod, &record, &BTreeSet::new());
    let metadata = metadata::decide(&alone, &own, &record, &mut ledger);
    metadata.plan(pod, &record, &mut ledger);
    ledger.fields.extend(metadata.fields(pod, &record));
    container::decide(&alone, &given.before, &mut ledger);
    let changes: Vec<_> = ledger.fields.iter().filter(|field| !field.done).cloned().collect();
    for change in changes {
        let value = change.value.map_or_else(|| "absent".to_owned(), |value| value.to_string());
        let message = format!("it would become {value}; set enforcement: Enforce to let the policy write");
        ledger.report(0, FindingReason::WouldChange, change.field, message);
    }
    let mut verdict = ledger.into_outcome().verdicts.pop()?;
    for finding in verdict.findings.iter_mut().filter(|finding| finding.reason == FindingReason::Kept) {
        if let Some(by) = given.still.get(&finding.field).and_then(|by| PolicyId::from_record(by, &pod.namespace)) {
            finding.message = format!("{by} gave it and still sets it; set precedence: Policy to replace it");
        }
    }
    Some(verdict)
}
