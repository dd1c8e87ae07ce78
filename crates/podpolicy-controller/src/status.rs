//! What a policy reports, made from how its pods stand. Pure: the same pods give the same status, and the time of a transition
//! only moves when the condition does.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use podpolicy_api::{ConditionReason, ConditionType, ExecChecked, Finding, FindingReason, PodCounts, PodPolicyStatus};
use podpolicy_engine::{PodState, PolicyId, PolicyKind};

use crate::{
    admission::AtCreation,
    apply::WriteError,
    observe::Key,
    rollout::{Planned, Stand},
    world::{Aside, PodSlot, PolicySlot},
};

mod creation;
mod rollout;
#[cfg(test)]
mod tests;

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
    /// Why it selects fewer pods than it seems to.
    pub(crate) aside: &'a Aside,
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

    /// Those that a status has room for: refusals first, then those of the most pods. They are listed the other way round.
    fn into_findings(self, at_creation: Option<&AtCreation>) -> Vec<Finding> {
        let left_out = at_creation.and_then(creation::finding);
        // Both sorts are stable: what is alike stays in the order of reason and field.
        let mut sightings: Vec<_> = self.findings.into_iter().collect();
        sightings.sort_by_key(|(_, sighting)| (Reverse(sighting.refused), Reverse(sighting.pods)));
        sightings.truncate(MOST_FINDINGS - left_out.iter().len());
        sightings.sort_by_key(|(_, sighting)| (Reverse(sighting.pods), Reverse(sighting.refused)));
        let to_finding = |((reason, field), sighting)| {
            let Sighting { pods, refused: _, example, message } = sighting;
            Finding { reason, field, pods, example, message }
        };
        sightings.into_iter().map(to_finding).chain(left_out).collect()
    }

    /// "; 10 of 12 findings are listed", where not all are.
    fn unlisted(&self, around: Around<'_>) -> String {
        let all = self.findings.len() + around.at_creation.and_then(creation::finding).iter().len();
        if all > MOST_FINDINGS { format!("; {MOST_FINDINGS} of {all} findings are listed") } else { String::new() }
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

    /// The refusal with the most pods, in words, and how many more there are.
    fn first_refusal(&self) -> String {
        let refusals = self.findings.iter().filter(|(_, sighting)| sighting.refused);
        let more = match refusals.clone().count() {
            0 | 1 => String::new(),
            count => format!("; and {} more", count - 1),
        };
        let first = refusals.max_by_key(|(key, sighting)| (sighting.pods, Reverse((*key).clone())));
        first.map(|((reason, field), sighting)| format!("{field}: {} ({reason}){more}", sighting.message)).unwrap_or_default()
    }
}

fn verdicts(slot: &PolicySlot, tally: &Tally, around: Around<'_>) -> Vec<Verdict> {
    let mut verdicts = vec![accepted(slot), compliant(slot, tally, around), conflicted(tally)];
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
        let message = format!(
            "fields of {} are refused; {}{}",
            of_pods(tally.with_refusals, counts.matched),
            tally.first_refusal(),
            tally.unlisted(around)
        );
        return stalled(ConditionReason::Refused, message);
    }
    if counts.matched == 0 && !around.refused_everywhere.is_empty() {
        let message = format!(
            "{}; those that come will lack what is refused; {}{}",
            no_pods(around.aside),
            tally.first_refusal(),
            tally.unlisted(around)
        );
        return stalled(ConditionReason::Refused, message);
    }
    let message = match (counts.matched, counts.outdated) {
        (0, _) => format!("in force; {}", no_pods(around.aside)),
        (matched, 0) => format!("in force on {}", pods(matched)),
        (1, _) => "in force on 1 pod, which must be replaced to get the create-time settings".to_owned(),
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
            format!("{} cannot be written: {error}; grant the operator patch on pods", of_pods(pending, matched)),
        ),
        Some(error) => reconciling(
            ConditionReason::WriteFailed,
            format!("{} cannot be written, which is tried again: {error}", of_pods(pending, matched)),
        ),
        None => reconciling(ConditionReason::Progressing, format!("{} {} being written", of_pods(pending, matched), are(pending))),
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

/// "1 of 1 pod", "1 of 2 pods"
fn of_pods(count: u32, all: u32) -> String {
    format!("{count} of {}", pods(all))
}

fn are(count: u32) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// That the policy selects no pod, and why, where that is known.
fn no_pods(aside: &Aside) -> String {
    let Aside { exempt: _, workloads: _, excluded } = aside;
    if let Some(exempt) = exempt(aside) {
        return format!("the policy selects no other pod: {exempt}");
    }
    match excluded.as_slice() {
        [] => "the policy selects no pod".to_owned(),
        [..] => format!(
            "the policy selects no pod: no ClusterPodPolicy acts in the namespaces that the operator excludes (--exclude-namespaces), and it selects only {}",
            names(excluded.iter())
        ),
    }
}

/// Which pods the policy leaves alone since its rollout failed.
fn exempt(Aside { exempt, workloads, excluded: _ }: &Aside) -> Option<String> {
    let of = if workloads.is_empty() { String::new() } else { format!(" of {}", names(workloads.iter())) };
    (*exempt > 0).then(|| format!("{}{of} {} exempt since the rollout failed", pods(*exempt), are(*exempt)))
}

/// "kube-system, kube-public and 2 more"
fn names<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    let rest = names.len().saturating_sub(MOST_NAMES);
    let first = names.take(MOST_NAMES).cloned().collect::<Vec<_>>().join(", ");
    if rest == 0 { first } else { format!("{first} and {rest} more") }
}

fn compliant(slot: &PolicySlot, tally: &Tally, around: Around<'_>) -> Verdict {
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
        return Verdict { kind, status: "True", reason: ConditionReason::NoPods, message: no_pods(around.aside) + &tally.unlisted(around) };
    }
    let rest = exempt(around.aside).map(|exempt| format!("; {exempt}")).unwrap_or_default() + &tally.unlisted(around);
    if tally.not_compliant() == 0 {
        let message = format!("{} {} compliant{rest}", of_pods(counts.matched, counts.matched), are(counts.matched));
        return Verdict { kind, status: "True", reason: ConditionReason::AllCompliant, message };
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
    let not_compliant = tally.not_compliant();
    let advice = match reason {
        ConditionReason::Outdated if not_compliant == 1 => "replace it to give it the create-time settings",
        ConditionReason::Outdated => "replace them to give them the create-time settings",
        ConditionReason::Progressing => "writes are under way",
        _ => "see findings",
    };
    let message =
        format!("{} {} not compliant: {}; {advice}{rest}", of_pods(not_compliant, counts.matched), are(not_compliant), tally.shortfall());
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
