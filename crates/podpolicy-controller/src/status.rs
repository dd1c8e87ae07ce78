//! What a policy reports, made from how its pods stand. Pure: the same pods give the same status, and the time of a transition
//! only moves when the condition does.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use podpolicy_api::{ConditionReason, ConditionType, ExecChecked, Finding, FindingReason, PodCounts, PodPolicyStatus};
use podpolicy_engine::{PodState, PolicyId, PolicyKind};

use crate::{
    admission::AtCreation,
    apply::WriteError,
    observe::Key,
    rollout::{Planned, Stand},
    world::{PodSlot, PolicySlot},
};

mod creation;
mod rollout;

/// How many findings a status holds.
const MOST_FINDINGS: usize = 10;

/// How many other policies a message names.
const MOST_NAMES: usize = 3;

/// The status before anything was looked at.
pub(crate) fn unknown(slot: &PolicySlot, now: Timestamp) -> PodPolicyStatus {
    let pending = |kind, message: &str| Verdict { kind, status: "Unknown", reason: ConditionReason::Pending, message: message.to_owned() };
    let verdicts = vec![
        pending(ConditionType::Ready, "the controller is looking at the pods"),
        Verdict {
            kind: ConditionType::Reconciling,
            status: "True",
            reason: ConditionReason::Pending,
            message: "the controller is looking at the pods".into(),
        },
    ];
    PodPolicyStatus {
        observed_generation: slot.generation,
        conditions: to_conditions(verdicts, slot, now),
        exec_checked: slot.status.exec_checked.clone(),
        rollout: slot.status.rollout.clone(),
        ..PodPolicyStatus::default()
    }
}

/// What a status depends on beside the policy and its pods.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    /// What the operator may not see.
    pub(crate) blindness: Option<&'a str>,
    /// How the policy stands at creation; none where pods are given nothing then.
    pub(crate) at_creation: Option<&'a AtCreation>,
    /// Which guard has checked who wrote the policy's commands.
    pub(crate) exec_checked: Option<&'a ExecChecked>,
    /// What of the policy no pod gets.
    pub(crate) refused_everywhere: &'a [podpolicy_engine::Finding],
    /// What its rollout has come to; nothing where it has none.
    pub(crate) rollout: Option<&'a Planned>,
}

/// The status of a policy whose pods stand like this.
pub(crate) fn of<'a>(
    slot: &PolicySlot,
    pods: impl Iterator<Item = (&'a Key, &'a PodSlot)>,
    around: Around<'_>,
    now: Timestamp,
) -> PodPolicyStatus {
    let mut tally = Tally::count(slot.policy.id(), pods);
    if tally.counts.matched == 0 {
        // No pod says so.
        tally.foresee(around.refused_everywhere);
    }
    PodPolicyStatus {
        observed_generation: slot.generation,
        conditions: to_conditions(verdicts(slot, &tally, around), slot, now),
        pods: Some(tally.counts),
        findings: tally.into_findings(around.at_creation),
        admission: around.at_creation.and_then(|at_creation| creation::admission(slot, at_creation)),
        exec_checked: around.exec_checked.cloned(),
        rollout: around.rollout.map(|planned| planned.status.clone()),
    }
}

/// Whether a status may stand for a moment in place of another: what people wait for is the same in both.
pub(crate) fn can_wait(present: &PodPolicyStatus, wanted: &PodPolicyStatus) -> bool {
    let state = |status: &PodPolicyStatus| -> Vec<_> {
        status.conditions.iter().map(|Condition { type_, status, reason, .. }| (type_.clone(), status.clone(), reason.clone())).collect()
    };
    present.observed_generation == wanted.observed_generation
        && present.admission == wanted.admission
        && present.exec_checked == wanted.exec_checked
        && rollout::can_wait(present.rollout.as_ref(), wanted.rollout.as_ref())
        && state(present) == state(wanted)
}

/// A condition without its times.
struct Verdict {
    kind: ConditionType,
    status: &'static str,
    reason: ConditionReason,
    message: String,
}

/// The pods of one policy, added up.
#[derive(Default)]
struct Tally {
    counts: PodCounts,
    /// Pods of which some field is refused, outdated or not.
    with_refusals: u32,
    findings: BTreeMap<(FindingReason, String), Sighting>,
    /// Policies that win a field from this one, and from which this one wins.
    winners: BTreeSet<(String, String)>,
    losers: BTreeSet<(String, String)>,
    failing: Option<WriteError>,
}

/// Where a finding was seen.
struct Sighting {
    pods: u32,
    refused: bool,
    example: String,
    message: String,
}

impl Tally {
    fn count<'a>(id: &PolicyId, pods: impl Iterator<Item = (&'a Key, &'a PodSlot)>) -> Self {
        let mut tally = Self::default();
        for (key, slot) in pods {
            let Some(verdict) = slot.outcome.verdicts.iter().find(|verdict| verdict.policy.id() == id) else { continue };
            let example = match id.kind {
                PolicyKind::PodPolicy => key.name.clone(),
                PolicyKind::ClusterPodPolicy => format!("{}/{}", key.namespace, key.name),
            };
            tally.counts.matched += 1;
            match verdict.state {
                PodState::Compliant => tally.counts.compliant += 1,
                PodState::Outdated => tally.counts.outdated += 1,
                PodState::Refused => tally.counts.refused += 1,
                PodState::Pending => tally.counts.pending += 1,
            }
            tally.with_refusals += u32::from(verdict.findings.iter().any(|finding| finding.refused));
            let mut seen = BTreeSet::new();
            for finding in &verdict.findings {
                let field = finding.field.to_string();
                if seen.insert((finding.reason, field.clone())) {
                    tally.see(finding.reason, field, finding.refused, &example, &finding.message);
                }
            }
            if let (PodState::Pending, Some(error)) = (verdict.state, &slot.failure) {
                tally.see(
                    FindingReason::WriteFailed,
                    "metadata".to_owned(),
                    false,
                    &example,
                    &format!("the API server did not take the write, which is tried again: {error}"),
                );
                tally.failing.get_or_insert_with(|| error.clone());
            }
            for conflict in &slot.outcome.conflicts {
                let (field, winner, loser) = conflict.key();
                if loser == id {
                    tally.winners.insert((winner.to_string(), field.to_string()));
                } else if winner == id {
                    tally.losers.insert((loser.to_string(), field.to_string()));
                }
            }
        }
        tally
    }

    fn see(&mut self, reason: FindingReason, field: String, refused: bool, example: &str, message: &str) {
        self.findings.entry((reason, field)).and_modify(|sighting| sighting.pods += 1).or_insert_with(|| Sighting {
            pods: 1,
            refused,
            example: example.to_owned(),
            message: message.to_owned(),
        });
    }

    /// What pods will not get once there are any.
    fn foresee(&mut self, refused: &[podpolicy_engine::Finding]) {
        for podpolicy_engine::Finding { reason, field, refused, message } in refused {
            let sighting = || Sighting { pods: 0, refused: *refused, example: String::new(), message: message.clone() };
            self.findings.entry((*reason, field.to_string())).or_insert_with(sighting);
        }
    }

    fn into_findings(self, at_creation: Option<&AtCreation>) -> Vec<Finding> {
        let mut findings: Vec<_> = self
            .findings
            .into_iter()
            .map(|((reason, field), Sighting { pods, refused: _, example, message })| Finding { reason, field, pods, example, message })
            .collect();
        // Stable: those with as many pods stay in the order of reason and field.
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.pods));
        let left_out = at_creation.and_then(creation::finding);
        findings.truncate(MOST_FINDINGS - left_out.iter().len());
        findings.extend(left_out);
        findings
    }

    fn not_compliant(&self) -> u32 {
        self.counts.matched - self.counts.compliant
    }

    /// "2 outdated, 1 refused"
    fn shortfall(&self) -> String {
        let PodCounts { matched: _, compliant: _, outdated, refused, pending } = self.counts;
        let parts = [(pending, "pending"), (outdated, "outdated"), (refused, "refused")];
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
    }

    /// The refusal with the most pods, in words.
    fn first_refusal(&self) -> String {
        let refusals = self.findings.iter().filter(|(_, sighting)| sighting.refused);
        let first = refusals.max_by_key(|(key, sighting)| (sighting.pods, std::cmp::Reverse((*key).clone())));
        first.map(|((reason, field), sighting)| format!("{field}: {} ({reason})", sighting.message)).unwrap_or_default()
    }
}

fn verdicts(slot: &PolicySlot, tally: &Tally, around: Around<'_>) -> Vec<Verdict> {
    let mut verdicts = vec![accepted(slot), compliant(slot, tally), conflicted(tally)];
    verdicts.extend(readiness(slot, tally, around));
    verdicts
}

fn accepted(slot: &PolicySlot) -> Verdict {
    match slot.policy.problems() {
        [] => Verdict {
            kind: ConditionType::Accepted,
            status: "True",
            reason: ConditionReason::Accepted,
            message: "the spec is sound".into(),
        },
        problems => {
            Verdict { kind: ConditionType::Accepted, status: "False", reason: ConditionReason::Invalid, message: problems.join("; ") }
        }
    }
}

/// Ready, with Reconciling or Stalled where that is the case.
fn readiness(slot: &PolicySlot, tally: &Tally, around: Around<'_>) -> Vec<Verdict> {
    let counts = tally.counts;
    if !slot.policy.problems().is_empty() {
        return stalled(ConditionReason::Invalid, "the spec cannot be honoured; see Accepted".to_owned());
    }
    if let Some(message) = around.blindness {
        return stalled(ConditionReason::Forbidden, message.to_owned());
    }
    let not_at_creation = || around.at_creation.and_then(creation::readiness);
    if slot.policy.is_audit() {
        let auditing = || vec![ready(ConditionReason::Auditing, "the policy decides and reports, and writes nothing".to_owned())];
        return not_at_creation().unwrap_or_else(auditing);
    }
    if counts.pending > 0 {
        return pending(tally);
    }
    if let Some(planned) = around.rollout
        && let Some(verdicts) = rollout::readiness(planned)
    {
        // Of what keeps pods from being created with the settings, more is known there.
        let better = matches!(planned.stand, Stand::NotAtCreation(_)).then(not_at_creation).flatten();
        return better.unwrap_or(verdicts);
    }
    if tally.with_refusals > 0 {
        let message = format!("fields of {} of {} pods are refused; {}", tally.with_refusals, counts.matched, tally.first_refusal());
        return stalled(ConditionReason::Refused, message);
    }
    if counts.matched == 0 && !around.refused_everywhere.is_empty() {
        let message = format!("the policy selects no pod; those that come will lack what is refused; {}", tally.first_refusal());
        return stalled(ConditionReason::Refused, message);
    }
    let message = match (counts.matched, counts.outdated) {
        (0, _) => "in force; the policy selects no pod".to_owned(),
        (matched, 0) => format!("in force on {}", pods(matched)),
        (matched, outdated) => {
            format!("in force on {}; {outdated} of them must be replaced to get the create-time settings", pods(matched))
        }
    };
    not_at_creation().unwrap_or_else(|| vec![ready(ConditionReason::InForce, message)])
}

/// While pods wait for a write.
fn pending(tally: &Tally) -> Vec<Verdict> {
    let PodCounts { pending, matched, .. } = tally.counts;
    match &tally.failing {
        Some(WriteError::Forbidden(error)) => stalled(
            ConditionReason::Forbidden,
            format!("{pending} of {matched} pods cannot be written: {error}; grant the operator patch on pods"),
        ),
        Some(error) => reconciling(
            ConditionReason::WriteFailed,
            format!("{pending} of {matched} pods cannot be written, which is tried again: {error}"),
        ),
        None => reconciling(ConditionReason::Progressing, format!("{pending} of {matched} pods are being written")),
    }
}

fn ready(reason: ConditionReason, message: String) -> Verdict {
    Verdict { kind: ConditionType::Ready, status: "True", reason, message }
}

/// Not ready, and work is under way.
fn reconciling(reason: ConditionReason, message: String) -> Vec<Verdict> {
    not_ready(ConditionType::Reconciling, reason, message)
}

/// Not ready, until somebody acts.
fn stalled(reason: ConditionReason, message: String) -> Vec<Verdict> {
    not_ready(ConditionType::Stalled, reason, message)
}

fn not_ready(also: ConditionType, reason: ConditionReason, message: String) -> Vec<Verdict> {
    vec![
        Verdict { kind: also, status: "True", reason, message: message.clone() },
        Verdict { kind: ConditionType::Ready, status: "False", reason, message },
    ]
}

/// "1 pod", "2 pods"
fn pods(count: u32) -> String {
    format!("{count} {}", if count == 1 { "pod" } else { "pods" })
}

fn compliant(slot: &PolicySlot, tally: &Tally) -> Verdict {
    let kind = ConditionType::Compliant;
    let counts = tally.counts;
    if !slot.policy.problems().is_empty() {
        return Verdict {
            kind,
            status: "Unknown",
            reason: ConditionReason::Invalid,
            message: "the spec cannot be honoured; see Accepted".into(),
        };
    }
    if counts.matched == 0 {
        return Verdict { kind, status: "True", reason: ConditionReason::NoPods, message: "the policy selects no pod".into() };
    }
    if tally.not_compliant() == 0 {
        return Verdict {
            kind,
            status: "True",
            reason: ConditionReason::AllCompliant,
            message: format!("{0} of {0} pods are compliant", counts.matched),
        };
    }
    let reason = if slot.policy.is_audit() {
        ConditionReason::WouldChange
    } else if counts.pending > 0 {
        tally.failing.as_ref().map_or(ConditionReason::Progressing, |_| ConditionReason::WriteFailed)
    } else if counts.refused > 0 {
        ConditionReason::Refused
    } else {
        ConditionReason::Outdated
    };
    let advice = match reason {
        ConditionReason::Outdated => "replace them to give them the create-time settings",
        ConditionReason::Progressing => "writes are under way",
        _ => "see findings",
    };
    let message = format!("{} of {} pods are not compliant: {}; {advice}", tally.not_compliant(), counts.matched, tally.shortfall());
    Verdict { kind, status: "False", reason, message }
}

fn conflicted(tally: &Tally) -> Verdict {
    let kind = ConditionType::Conflicted;
    if tally.winners.is_empty() && tally.losers.is_empty() {
        return Verdict {
            kind,
            status: "False",
            reason: ConditionReason::NoConflict,
            message: "no other policy sets another value for the same field".into(),
        };
    }
    let mut sentences = Vec::new();
    if !tally.winners.is_empty() {
        sentences.push(format!("overridden: {}", name(&tally.winners, "by")));
    }
    if !tally.losers.is_empty() {
        sentences.push(format!("overrides: {}", name(&tally.losers, "of")));
    }
    let reason = if tally.winners.is_empty() { ConditionReason::Overrides } else { ConditionReason::Overridden };
    Verdict {
        kind,
        status: "True",
        reason,
        message: format!("{}; give one of the two another priority, or remove the field from one", sentences.join("; ")),
    }
}

/// "labels[team] by PodPolicy shop/a, annotations[x] by PodPolicy shop/b and 2 more"
fn name(conflicts: &BTreeSet<(String, String)>, word: &str) -> String {
    let named: Vec<_> = conflicts.iter().take(MOST_NAMES).map(|(policy, field)| format!("{field} {word} {policy}")).collect();
    let rest = conflicts.len().saturating_sub(MOST_NAMES);
    if rest == 0 { named.join(", ") } else { format!("{} and {rest} more", named.join(", ")) }
}

/// Conditions in a fixed order. One that says what it said before keeps the time of its transition.
fn to_conditions(mut verdicts: Vec<Verdict>, slot: &PolicySlot, now: Timestamp) -> Vec<Condition> {
    verdicts.sort_by_key(|verdict| verdict.kind);
    verdicts
        .into_iter()
        .map(|Verdict { kind, status, reason, message }| {
            let type_ = kind.to_string();
            let before = slot.status.condition(kind).filter(|condition| condition.status == status);
            // The API server keeps whole seconds.
            let second = || Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
            Condition {
                last_transition_time: before.map_or_else(second, |condition| condition.last_transition_time.clone()),
                message,
                observed_generation: slot.generation,
                reason: reason.to_string(),
                status: status.to_owned(),
                type_,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use podpolicy_api::{AdmissionBackend, AdmissionStatus};

    use super::*;

    #[test]
    fn numbers_and_texts_can_wait_and_nothing_else() {
        let condition = |status: &str, reason: &str, message: &str| Condition {
            type_: "Ready".into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: Some(1),
        };
        let admission = |generation| AdmissionStatus { backend: AdmissionBackend::Native, generation, message: None };
        let present = PodPolicyStatus {
            observed_generation: Some(1),
            conditions: vec![condition("False", "Progressing", "3 of 5 pods")],
            admission: Some(admission(1)),
            ..PodPolicyStatus::default()
        };
        let waits = |change: &dyn Fn(&mut PodPolicyStatus)| {
            let mut wanted = present.clone();
            change(&mut wanted);
            can_wait(&present, &wanted)
        };
        assert!(waits(&|status| status.pods = Some(PodCounts { matched: 1, ..PodCounts::default() })));
        assert!(waits(&|status| status.conditions = vec![condition("False", "Progressing", "4 of 5 pods")]));
        assert!(!waits(&|status| status.conditions = vec![condition("True", "Progressing", "3 of 5 pods")]));
        assert!(!waits(&|status| status.conditions = vec![condition("False", "WriteFailed", "3 of 5 pods")]));
        assert!(!waits(&|status| status.conditions.clear()));
        assert!(!waits(&|status| status.observed_generation = Some(2)));
        assert!(!waits(&|status| status.admission = Some(admission(2))));
        assert!(!waits(&|status| status.exec_checked = Some(ExecChecked { guard: "guard".into(), generation: 1 })));
    }
}
