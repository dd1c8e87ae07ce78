//! How many there are of what, for metrics: counted over all that is known, at once.

use std::collections::HashMap;

use podpolicy_api::{ConditionType, FindingReason};
use podpolicy_engine::{PodState, PolicyKind};

use super::{PodSlot, PolicySlot, World};
use crate::admission::Progress;

/// How many there are of what.
#[derive(Default)]
pub(crate) struct Census {
    pub(crate) policies: HashMap<(PolicyKind, Readiness), usize>,
    pub(crate) pods: HashMap<PodOutcome, usize>,
    pub(crate) findings: HashMap<FindingReason, usize>,
    pub(crate) at_creation: HashMap<AtCreationState, usize>,
}

/// The status of the condition Ready.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Readiness {
    True,
    False,
    Unknown,
}

/// How a pod stands with all policies that enforce; the worst counts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum PodOutcome {
    Unselected,
    Compliant,
    Outdated,
    Refused,
    Pending,
    Failing,
}

/// How a policy stands at the creation of pods.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum AtCreationState {
    InForce,
    Waiting,
    Stuck,
    LeftOut,
}

impl Readiness {
    pub(crate) const ALL: [Self; 3] = [Self::True, Self::False, Self::Unknown];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::False => "false",
            Self::Unknown => "unknown",
        }
    }

    fn of(slot: &PolicySlot) -> Self {
        match slot.status.condition(ConditionType::Ready).map(|condition| condition.status.as_str()) {
            Some("True") => Self::True,
            Some("False") => Self::False,
            Some(_) | None => Self::Unknown,
        }
    }
}

impl PodOutcome {
    pub(crate) const ALL: [Self; 6] = [Self::Unselected, Self::Compliant, Self::Outdated, Self::Refused, Self::Pending, Self::Failing];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unselected => "unselected",
            Self::Compliant => "compliant",
            Self::Outdated => "outdated",
            Self::Refused => "refused",
            Self::Pending => "pending",
            Self::Failing => "failing",
        }
    }

    fn of(slot: &PodSlot) -> Self {
        if slot.failure.is_some() {
            return Self::Failing;
        }
        let enforcing = slot.outcome.verdicts.iter().filter(|verdict| !verdict.policy.is_audit());
        let states = enforcing.map(|verdict| match verdict.state {
            PodState::Compliant => Self::Compliant,
            PodState::Outdated => Self::Outdated,
            PodState::Refused => Self::Refused,
            PodState::Pending => Self::Pending,
        });
        states.max().unwrap_or(Self::Unselected)
    }
}

impl AtCreationState {
    pub(crate) const ALL: [Self; 4] = [Self::InForce, Self::Waiting, Self::Stuck, Self::LeftOut];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::InForce => "in_force",
            Self::Waiting => "waiting",
            Self::Stuck => "stuck",
            Self::LeftOut => "left_out",
        }
    }
}

impl World {
    /// Counts everything. It takes time that grows with the number of pods.
    pub(crate) fn census(&self) -> Census {
        let mut census = Census::default();
        for slot in self.pods.values() {
            let outcome = PodOutcome::of(slot);
            *census.pods.entry(outcome).or_default() += 1;
            for finding in slot.outcome.verdicts.iter().flat_map(|verdict| &verdict.findings) {
                *census.findings.entry(finding.reason).or_default() += 1;
            }
            if outcome == PodOutcome::Failing {
                *census.findings.entry(FindingReason::WriteFailed).or_default() += 1;
            }
        }
        for (id, slot) in &self.policies {
            *census.policies.entry((id.kind, Readiness::of(slot))).or_default() += 1;
            let Some(at_creation) = self.at_creation(slot) else { continue };
            if at_creation.left_out().is_some() {
                *census.findings.entry(FindingReason::NotAtCreation).or_default() += 1;
            }
            let state = match (at_creation.progress, at_creation.omitted) {
                (Progress::InForce, None) => AtCreationState::InForce,
                (Progress::InForce, Some(_)) => AtCreationState::LeftOut,
                (Progress::Unknown(_) | Progress::Waiting(_), _) => AtCreationState::Waiting,
                (Progress::Stuck(_), _) => AtCreationState::Stuck,
            };
            *census.at_creation.entry(state).or_default() += 1;
        }
        census
    }
}
