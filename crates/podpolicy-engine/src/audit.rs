//! Audit policies: each decides as if alone in force, against the pod as the enforcing policies leave it, and only reports.

use std::{collections::BTreeSet, sync::Arc};

use podpolicy_api::{APPLIED_ANNOTATION, FindingReason};

use crate::{
    MetadataPlan, Pod, Policy, Record, Verdict, container,
    decide::{Ledger, Scene},
    metadata::{self, Own},
};

/// One verdict for each audit policy that selects the pod.
pub(crate) fn decide(scene: &Scene<'_>, plan: &MetadataPlan, audits: &[&Arc<Policy>]) -> Vec<Verdict> {
    if audits.is_empty() {
        return Vec::new();
    }
    let pod = as_it_is(scene.pod, plan);
    audits.iter().filter_map(|policy| decide_alone(scene, &pod, policy)).collect()
}

/// The pod once the plan is written, with everything on it counted as its own.
fn as_it_is(pod: &Pod, plan: &MetadataPlan) -> Pod {
    let mut pod = pod.clone();
    plan.apply(&mut pod);
    pod.annotations.remove(APPLIED_ANNOTATION);
    pod
}

fn decide_alone(scene: &Scene<'_>, pod: &Pod, policy: &Arc<Policy>) -> Option<Verdict> {
    let alone = Scene { pod, policies: vec![policy], facts: scene.facts, settings: scene.settings, settled: None };
    let record = Record::default();
    let mut ledger = Ledger::new(vec![policy]);
    let own = Own::of(pod, &record, &BTreeSet::new());
    let metadata = metadata::decide(&alone, &own, &record, &mut ledger);
    metadata.plan(pod, &record, &mut ledger);
    ledger.fields.extend(metadata.fields(pod, &record));
    container::decide(&alone, &record, &mut ledger);
    let changes: Vec<_> = ledger.fields.iter().filter(|field| !field.done).cloned().collect();
    for change in changes {
        let value = change.value.map_or_else(|| "absent".to_owned(), |value| value.to_string());
        let message = format!("it would become {value}; set enforcement: Enforce to let the policy write");
        ledger.report(0, FindingReason::WouldChange, change.field, message);
    }
    ledger.into_outcome().verdicts.pop()
}
