//! What a status says of creation. A policy is ready only when pods are created with its settings: whoever waits for it and then creates a
//! pod expects them.

use podpolicy_api::{AdmissionStatus, ConditionReason, Finding, FindingReason};

use super::{Verdict, reconciling, stalled};
use crate::{
    admission::{AtCreation, Problem, Progress},
    world::PolicySlot,
};

/// `status.admission`.
pub(super) fn admission(slot: &PolicySlot, at_creation: &AtCreation) -> Option<AdmissionStatus> {
    let before = slot.status.admission.as_ref();
    // What it was a moment ago it is now, until something else is known.
    let Some(backend) = at_creation.backend else { return before.cloned() };
    if !slot.policy.problems().is_empty() {
        let message = Some("the spec cannot be honoured; see Accepted".to_owned());
        return Some(AdmissionStatus { backend, generation: 0, message });
    }
    let reached = before.map_or(0, |before| before.generation);
    let present = slot.generation.unwrap_or_default();
    let (generation, message) = match &at_creation.progress {
        Progress::InForce => (present, at_creation.omitted.clone()),
        Progress::Unknown(message) | Progress::Waiting(message) => {
            (reached, Some(format!("generation {present} is on its way: {message}")))
        }
        Progress::Stuck(problem) => (reached, Some(problem.to_string())),
    };
    Some(AdmissionStatus { backend, generation, message })
}

/// Why the policy is not ready; nothing when it is, as far as creation goes.
pub(super) fn readiness(at_creation: &AtCreation) -> Option<Vec<Verdict>> {
    match (&at_creation.progress, &at_creation.omitted) {
        (Progress::InForce, None) => None,
        (Progress::InForce, Some(omitted)) => Some(stalled(ConditionReason::NotAtCreation, omitted.clone())),
        (Progress::Unknown(message) | Progress::Waiting(message), _) => {
            Some(reconciling(ConditionReason::Progressing, format!("pods are not yet created with these settings: {message}")))
        }
        (Progress::Stuck(problem), _) => {
            let message = format!("pods are not created with these settings: {problem}");
            Some(match problem {
                Problem::Forbidden(_) | Problem::NotServed | Problem::NotReachable => stalled(problem.reason(), message),
                Problem::Failing(_) => reconciling(problem.reason(), message),
            })
        }
    }
}

/// That the policy, or some of its pods, are left out somewhere.
pub(super) fn finding(at_creation: &AtCreation) -> Option<Finding> {
    let message = at_creation.left_out()?.to_owned();
    Some(Finding { reason: FindingReason::NotAtCreation, field: "spec".to_owned(), pods: 0, example: String::new(), message })
}
