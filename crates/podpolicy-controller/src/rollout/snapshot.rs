//! What a rollout is decided on: policies, the workloads whose pods they select, and the pods. Values only; `world/rollout.rs` makes it
//! of what is known.

use std::{cmp::Reverse, collections::BTreeSet, fmt};

use jiff::{SignedDuration, Timestamp};
use podpolicy_api::{MaxUnavailable, Probe, Rollout, RolloutStatus};
use podpolicy_engine::{Policy, PolicyId, PolicyKind, Trouble};

use crate::{observe::Key, source::SelectingKind};

/// How many seconds a kubelet may be late with a probe, and with what comes of it.
const PROBE_SLACK: i64 = 5;

/// All that rollouts are decided on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// The policies whose strategy is not `OnCreate`, in their order.
    pub(crate) policies: Vec<PolicyView>,
    /// The workloads with pods that one of them selects.
    pub(crate) workloads: Vec<Workload>,
    /// How many programs have been made: what was decided before the last is nothing about now.
    pub(crate) epoch: u64,
}

/// A policy with a rollout.
#[derive(Clone, Debug)]
pub(crate) struct PolicyView {
    pub(crate) id: PolicyId,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) rollout: Rollout,
    /// The owners whose pods the policy leaves alone by now, by UID.
    pub(crate) exempt: BTreeSet<String>,
    /// How long the first pod with the settings in a workload must stay ready: as long as it takes a probe of the policy's to kill it, and
    /// not less than any other.
    pub(crate) proof: SignedDuration,
    pub(crate) at_creation: Gate,
    /// `status.rollout`, as it is written.
    pub(crate) before: Option<RolloutStatus>,
    /// Pods that nothing can replace, because no workload owns them.
    pub(crate) strays: Strays,
}

/// Whether pods are created with the policy's settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Gate {
    /// They are, with those of the present generation.
    InForce,
    /// Not yet, because of this.
    Waiting(String),
    /// They will not be, unless somebody acts.
    Never(String),
}

/// Pods that are outdated and that no rollout replaces.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Strays {
    pub(crate) matched: u32,
    pub(crate) outdated: u32,
    /// The name of one that is outdated.
    pub(crate) example: String,
}

/// Which workload. `Display` gives `Deployment/web`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct WorkloadId {
    pub(crate) kind: SelectingKind,
    pub(crate) key: Key,
}

/// A workload and its pods.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) id: WorkloadId,
    pub(crate) own: WorkloadView,
    pub(crate) pods: Vec<PodView>,
}

/// What a workload and its own controller say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WorkloadView {
    pub(crate) uid: String,
    /// How many pods it is to have.
    pub(crate) replicas: u32,
    /// How many of them its controller does not count as available, by the workload's own `minReadySeconds`.
    pub(crate) unavailable: u32,
    /// Whether its controller is replacing pods, or has not seen its present spec.
    pub(crate) is_rolling: bool,
    pub(crate) is_paused: bool,
    /// Whether it replaces pods by itself when its template changes.
    pub(crate) rolls: bool,
    /// Pods of a StatefulSet with a lower ordinal keep the old template.
    pub(crate) partition: u32,
    /// A digest of its template.
    pub(crate) template: String,
    /// The restart stamp on its template.
    pub(crate) stamp: Option<String>,
    /// Why its controller cannot make pods.
    pub(crate) failure: Option<String>,
}

/// A pod.
#[derive(Clone, Debug)]
pub(crate) struct PodView {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) owner_uid: Option<String>,
    pub(crate) created: Timestamp,
    pub(crate) is_ready: bool,
    /// Since when it is ready, or not.
    pub(crate) since: Option<Timestamp>,
    pub(crate) is_scheduled: bool,
    /// Whether it is being deleted.
    pub(crate) is_leaving: bool,
    pub(crate) restarts: u32,
    pub(crate) trouble: Option<Trouble>,
    /// How it stands with the policies that select it, by their place in the snapshot.
    pub(crate) standings: Vec<Standing>,
}

/// How a pod stands with a policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Standing {
    pub(crate) policy: usize,
    /// It must be replaced to get the policy's settings.
    pub(crate) is_outdated: bool,
    /// It has settings that the policy gave it when it was created.
    pub(crate) has_given: bool,
}

impl WorkloadId {
    /// What [`Self::named_by`] wrote.
    pub(crate) fn parse(name: &str, policy: &PolicyId) -> Option<Self> {
        let mut parts = name.split('/');
        let kind = parts.next().and_then(|kind| SelectingKind::ALL.into_iter().find(|known| known.kind() == kind))?;
        let namespace = match policy.kind {
            PolicyKind::PodPolicy => policy.namespace.as_str(),
            PolicyKind::ClusterPodPolicy => parts.next()?,
        };
        Some(Self { kind, key: Key { namespace: namespace.to_owned(), name: parts.next()?.to_owned() } })
    }

    /// As a policy's status names it: with the namespace where the policy has none.
    pub(crate) fn named_by(&self, policy: &PolicyId) -> String {
        match policy.kind {
            PolicyKind::PodPolicy => self.to_string(),
            PolicyKind::ClusterPodPolicy => format!("{}/{}/{}", self.kind.kind(), self.key.namespace, self.key.name),
        }
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.kind(), self.key.name)
    }
}

impl PolicyView {
    /// How many pods of a workload may be unavailable at once: at least one, or nothing would ever happen.
    pub(crate) fn max_unavailable(&self, replicas: u32) -> u32 {
        let most = match &self.rollout.max_unavailable {
            MaxUnavailable::Count(count) => u32::try_from(*count).unwrap_or_default(),
            MaxUnavailable::Percentage(text) => {
                let percent: u64 = text.trim_end_matches('%').parse().unwrap_or_default();
                u32::try_from(u64::from(replicas) * percent / 100).unwrap_or(u32::MAX)
            }
        };
        most.max(1)
    }

    pub(crate) fn min_ready(&self) -> SignedDuration {
        SignedDuration::from_secs(self.rollout.min_ready_seconds.into())
    }

    /// See `proof`.
    pub(crate) fn proof(policy: &Policy, rollout: &Rollout) -> SignedDuration {
        let seconds = |probe: &Probe| {
            let of = |value: Option<i32>, default: i64| value.map_or(default, i64::from);
            let kills = of(probe.period_seconds, 10).saturating_mul(of(probe.failure_threshold, 3));
            of(probe.initial_delay_seconds, 0).saturating_add(kills).saturating_add(of(probe.timeout_seconds, 1))
        };
        let rules = policy.rules().containers.iter().flatten();
        let probes = rules.filter_map(|rule| rule.liveness_probe.as_ref());
        let kills = probes.map(seconds).max().map_or(0, |seconds| seconds.saturating_add(PROBE_SLACK));
        SignedDuration::from_secs(kills.max(rollout.min_ready_seconds.into()))
    }

    pub(crate) fn deadline(&self) -> SignedDuration {
        SignedDuration::from_secs(self.rollout.progress_deadline_seconds.into())
    }

    /// The restart stamp: the same as long as the policy's spec is.
    pub(crate) fn stamp(&self) -> String {
        format!("{}:{}:{}", self.id.in_record(), self.generation, self.uid.get(..8).unwrap_or(&self.uid))
    }
}

impl Workload {
    /// The pod's place among those of a StatefulSet.
    pub(crate) fn ordinal(&self, pod: &PodView) -> Option<u32> {
        let digits = pod.name.rsplit('-').next().filter(|_| self.id.kind == SelectingKind::StatefulSet)?;
        digits.parse().ok()
    }

    /// In which order its pods are replaced: a StatefulSet replaces the highest ordinal first.
    pub(crate) fn turn(&self, pod: &PodView) -> (bool, Reverse<Option<u32>>, String) {
        (pod.is_ready, Reverse(self.ordinal(pod)), pod.name.clone())
    }
}

impl PodView {
    pub(crate) fn standing(&self, policy: usize) -> Option<Standing> {
        self.standings.iter().find(|standing| standing.policy == policy).copied()
    }

    pub(crate) fn is_outdated(&self, policy: usize) -> bool {
        !self.is_leaving && self.standing(policy).is_some_and(|standing| standing.is_outdated)
    }

    /// When it has been ready for so long; none while it is not ready.
    pub(crate) fn available_at(&self, min_ready: SignedDuration) -> Option<Timestamp> {
        if !self.is_ready || self.is_leaving {
            return None;
        }
        let since = self.since.unwrap_or(self.created);
        Some(since.saturating_add(min_ready).unwrap_or(Timestamp::MAX))
    }
}
