//! What rollouts remember that nothing in the cluster says yet: steps whose effects the watches have still to show, and what the API
//! server answered. A crash loses it, and nothing that matters: it saves a repetition, or a wait.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use podpolicy_api::RolloutFailure;
use podpolicy_engine::PolicyId;

use super::{
    plan::Step,
    snapshot::{Snapshot, Workload},
};
use crate::retry;

/// How long watches may take to show a pod as being deleted.
const WATCH_DEADLINE: SignedDuration = SignedDuration::from_secs(30);

/// What rollouts remember.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Pods that were evicted and that the watches still show as they were, by UID, and until when that is believed.
    sent: HashMap<String, Timestamp>,
    /// Workloads that were stamped and that the watches still show as they were, by UID, with the stamp.
    stamped: HashMap<String, (String, Timestamp)>,
    /// Policies with a step under way.
    busy: HashSet<PolicyId>,
    /// Workloads of which a step was refused, by UID.
    blocked: HashMap<String, Blocked>,
    /// Workloads whose pods were replaced, by UID.
    replaced: HashMap<String, Replaced>,
    /// Failures that no status says yet, with the generation of the policy.
    failures: HashMap<PolicyId, (i64, RolloutFailure)>,
}

/// Why a workload is left alone for a while.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Blocked {
    pub(crate) message: String,
    pub(crate) until: Timestamp,
    /// Whether the operator lacks a right.
    pub(crate) is_forbidden: bool,
    failures: u32,
}

/// The pods that a workload had when one was last evicted.
#[derive(Clone, Debug)]
struct Replaced {
    known: HashSet<String>,
    epoch: u64,
}

impl Memory {
    /// Forgets what the watches have shown meanwhile.
    pub(crate) fn tidy(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let pods = snapshot.workloads.iter().flat_map(|workload| &workload.pods);
        let shown: HashSet<_> = pods.filter(|pod| !pod.is_leaving).map(|pod| pod.uid.as_str()).collect();
        self.sent.retain(|uid, until| shown.contains(uid.as_str()) && *until > now);
        self.stamped.retain(|uid, (stamp, until)| {
            let workload = snapshot.workloads.iter().find(|workload| workload.own.uid == *uid);
            *until > now && workload.is_some_and(|workload| workload.own.stamp.as_ref() != Some(stamp))
        });
        let workloads: HashSet<_> = snapshot.workloads.iter().map(|workload| workload.own.uid.as_str()).collect();
        self.blocked.retain(|uid, _| workloads.contains(uid.as_str()));
        self.replaced.retain(|uid, replaced| workloads.contains(uid.as_str()) && replaced.epoch == snapshot.epoch);
        self.failures.retain(|id, (generation, failure)| {
            let policy = snapshot.policies.iter().find(|policy| policy.id == *id && policy.generation == *generation);
            policy.is_some_and(|policy| policy.before.as_ref().and_then(|before| before.failure.as_ref()) != Some(failure))
        });
    }

    /// A step was taken, and its answer is waited for.
    pub(crate) fn started(&mut self, policy: &PolicyId, step: &Step, snapshot: &Snapshot, now: Timestamp) {
        self.busy.insert(policy.clone());
        let until = now.saturating_add(WATCH_DEADLINE).unwrap_or(Timestamp::MAX);
        match step {
            Step::Evict { workload, pod_uid, .. } => {
                self.sent.insert(pod_uid.clone(), until);
                if let Some(workload) = snapshot.workloads.iter().find(|other| other.own.uid == workload.uid) {
                    let known = workload.pods.iter().map(|pod| pod.uid.clone()).collect();
                    self.replaced.insert(workload.own.uid.clone(), Replaced { known, epoch: snapshot.epoch });
                }
            }
            Step::Restart { workload, stamp } => {
                self.stamped.insert(workload.uid.clone(), (stamp.clone(), until));
            }
            Step::Explain { .. } => {}
        }
    }

    /// The API server has taken the step, or says that it is not needed any more.
    pub(crate) fn done(&mut self, policy: &PolicyId, step: &Step) {
        self.busy.remove(policy);
        match step {
            Step::Evict { workload, .. } | Step::Restart { workload, .. } => _ = self.blocked.remove(&workload.uid),
            Step::Explain { .. } => {}
        }
    }

    /// The API server has not taken the step: the workload is left alone for a while that grows with each time.
    pub(crate) fn refused(&mut self, policy: &PolicyId, step: &Step, message: String, is_forbidden: bool, now: Timestamp) {
        self.busy.remove(policy);
        let workload = match step {
            Step::Evict { workload, pod_uid, .. } => {
                self.sent.remove(pod_uid);
                workload
            }
            Step::Restart { workload, .. } => {
                self.stamped.remove(&workload.uid);
                workload
            }
            Step::Explain { .. } => return,
        };
        let failures = self.blocked.get(&workload.uid).map_or(0, |blocked| blocked.failures);
        let until = now.saturating_add(retry::wait(failures)).unwrap_or(Timestamp::MAX);
        self.blocked.insert(workload.uid.clone(), Blocked { message, until, is_forbidden, failures: failures.saturating_add(1) });
    }

    /// A failure was found and explained.
    pub(crate) fn failed(&mut self, policy: &PolicyId, generation: i64, failure: RolloutFailure) {
        self.busy.remove(policy);
        self.failures.insert(policy.clone(), (generation, failure));
    }

    pub(crate) fn is_busy(&self, policy: &PolicyId) -> bool {
        self.busy.contains(policy)
    }

    pub(crate) fn was_sent(&self, pod_uid: &str) -> bool {
        self.sent.contains_key(pod_uid)
    }

    pub(crate) fn was_stamped(&self, workload: &Workload, stamp: &str) -> bool {
        self.stamped.get(&workload.own.uid).is_some_and(|(sent, _)| sent == stamp)
    }

    pub(crate) fn blocked(&self, workload: &Workload) -> Option<&Blocked> {
        self.blocked.get(&workload.own.uid)
    }

    /// Whether the pod has come to the workload after the last eviction there.
    pub(crate) fn is_replacement(&self, workload: &Workload, pod_uid: &str) -> bool {
        self.replaced.get(&workload.own.uid).is_some_and(|replaced| !replaced.known.contains(pod_uid))
    }

    pub(crate) fn failure(&self, policy: &PolicyId) -> Option<&RolloutFailure> {
        self.failures.get(policy).map(|(_, failure)| failure)
    }

    /// When the first of what is waited for here is over.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let blocked = self.blocked.values().map(|blocked| blocked.until);
        self.sent.values().copied().chain(blocked).filter(|time| *time > now).min()
    }
}
