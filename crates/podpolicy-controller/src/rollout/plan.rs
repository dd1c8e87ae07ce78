//! What each rollout does next. Pure: no I/O and no clock. At most one step for a policy, and none on a workload that another
//! policy goes before: what comes of a step is looked at before the next.
//!
//! The state of a rollout is the cluster's: a pod is updated when the engine finds nothing to replace about it. What the cluster does not
//! say is in `status.rollout`, which is written before the first step that relies on it: since when the rollout runs, and
//! which workload it has touched.

mod failure;
mod judge;
mod waiting;

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use podpolicy_api::{RolloutFailure, RolloutPhase, RolloutStatus, Strategy};
use podpolicy_engine::PolicyId;

use super::{
    memory::Memory,
    snapshot::{Gate, PodView, PolicyView, Snapshot, Strays, Workload, WorkloadId},
};

/// What a rollout does now.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) policy: PolicyId,
    pub(crate) generation: i64,
    pub(crate) status: RolloutStatus,
    pub(crate) stand: Stand,
    pub(crate) step: Option<Step>,
}

/// How a rollout stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Stand {
    /// Nothing is left to do that it could.
    Complete,
    /// Pods are being replaced.
    Progressing(String),
    /// It waits for something outside of it.
    Blocked(String),
    /// A failed workload gets pods without the settings again.
    Reverting(String),
    /// A person has stopped it.
    Paused(String),
    /// A failure has.
    Failed(String),
    /// The operator lacks a right.
    Forbidden(String),
    /// Pods would not be created with the settings.
    NotAtCreation(String),
}

/// The workload of a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    pub(crate) id: WorkloadId,
    pub(crate) uid: String,
}

/// Something to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Evict this pod and no other.
    Evict { workload: Target, pod: String, pod_uid: String },
    /// Put the stamp on the workload's template.
    Restart { workload: Target, stamp: String },
    /// Ask for the kubelet's words about a failure.
    Explain { failure: RolloutFailure, pod_uid: String, namespace: String },
}

/// What all rollouts come to, and when to look again if nothing happens.
pub(crate) fn plan(snapshot: &Snapshot, memory: &Memory, budget: u32, now: Timestamp) -> (Vec<Planned>, Option<Timestamp>) {
    let mut planner = Planner { snapshot, memory, now, wakes: BTreeSet::new(), claims: claims(snapshot), left: 0 };
    planner.left = budget.saturating_sub(planner.down());
    let rollouts = (0..snapshot.policies.len()).map(|policy| planner.policy(policy)).collect();
    let wake = planner.wakes.range(now..).find(|wake| **wake > now).copied();
    (rollouts, wake.into_iter().chain(memory.next(now)).min())
}

/// Which policy may touch a workload: the first with pods to replace there.
fn claims(snapshot: &Snapshot) -> HashMap<&str, usize> {
    let mut claims = HashMap::new();
    for (index, policy) in snapshot.policies.iter().enumerate().filter(|(_, policy)| !policy.rollout.paused) {
        let wanted =
            snapshot.workloads.iter().filter(|workload| !work(policy, index, workload).is_empty() && can_replace(policy, workload).is_ok());
        for workload in wanted {
            claims.entry(workload.own.uid.as_str()).or_insert(index);
        }
    }
    claims
}

/// Whether the policy's strategy can replace the pods of the workload.
fn can_replace(policy: &PolicyView, workload: &Workload) -> Result<(), String> {
    match policy.rollout.strategy {
        Strategy::Restart if !workload.own.rolls => {
            Err(format!("{} has no rolling update of its own; use strategy Evict, or replace its pods yourself", workload.id))
        }
        Strategy::Restart if workload.own.is_paused => Err(format!("{} is paused, so that it would not roll; resume it", workload.id)),
        Strategy::OnCreate | Strategy::Evict | Strategy::Restart => Ok(()),
    }
}

struct Planner<'a> {
    snapshot: &'a Snapshot,
    memory: &'a Memory,
    now: Timestamp,
    /// When something that is waited for is over.
    wakes: BTreeSet<Timestamp>,
    claims: HashMap<&'a str, usize>,
    /// How many more pods of the cluster may be made unavailable.
    left: u32,
}

/// The rollout of one policy.
#[derive(Clone, Copy)]
struct Scene<'a> {
    index: usize,
    policy: &'a PolicyView,
    started: Timestamp,
    /// Whether `started` is written.
    is_begun: bool,
    /// The workload that has been touched, as the status names it.
    touched: Option<&'a str>,
}

/// What may be done to one workload.
enum Verdict {
    /// This step.
    Step(Step),
    /// Nothing anywhere before this is over.
    Wait(Stand),
    /// Nothing here for now; another workload may be next.
    Skip(Stand),
}

impl<'a> Planner<'a> {
    /// How many pods are unavailable in workloads that rollouts have touched.
    fn down(&self) -> u32 {
        let touched = |policy: &PolicyView| {
            let name = policy.before.as_ref().and_then(|before| before.workload.as_deref())?;
            let workload = self.workload(policy, name)?;
            Some((workload.own.uid.as_str(), self.unavailable(policy, workload)))
        };
        let by_workload: HashMap<_, _> = self.snapshot.policies.iter().filter_map(touched).collect();
        by_workload.values().sum()
    }

    /// The workload that a policy's status names so.
    fn workload(&self, policy: &PolicyView, name: &str) -> Option<&'a Workload> {
        let id = WorkloadId::parse(name, &policy.id)?;
        self.snapshot.workloads.iter().find(|workload| workload.id == id)
    }

    /// How many pods the workload lacks that are ready, and have been for long enough.
    fn unavailable(&self, policy: &PolicyView, workload: &Workload) -> u32 {
        let available = workload.pods.iter().filter(|pod| self.is_available(policy, pod)).count();
        workload.own.replicas.saturating_sub(u32::try_from(available).unwrap_or(u32::MAX))
    }

    fn is_available(&self, policy: &PolicyView, pod: &PodView) -> bool {
        !self.memory.was_sent(&pod.uid) && pod.available_at(policy.min_ready()).is_some_and(|at| at <= self.now)
    }

    fn policy(&mut self, index: usize) -> Planned {
        let policy = &self.snapshot.policies[index];
        let before = policy.before.as_ref();
        let has_work = self.snapshot.workloads.iter().any(|workload| !work(policy, index, workload).is_empty());
        // What comes after the end is another rollout.
        let is_over = |before: &&RolloutStatus| before.phase == RolloutPhase::Complete && has_work;
        let same = before.filter(|before| before.generation == Some(policy.generation) && !is_over(before));
        let started = same.and_then(|before| before.started.as_ref());
        // The API server keeps whole seconds.
        let second = Timestamp::from_second(self.now.as_second()).unwrap_or(self.now);
        let scene = Scene {
            index,
            policy,
            started: started.map_or(second, |started| started.0),
            is_begun: started.is_some(),
            touched: before.and_then(|before| before.workload.as_deref()),
        };
        let failure = self.memory.failure(&policy.id).or_else(|| same.and_then(|before| before.failure.as_ref()));
        let failure = failure.filter(|failure| self.stands(policy, failure)).cloned();
        let (updated, total) = self.count(index);
        let mut workload = scene.touched.map(str::to_owned);
        let (stand, step) = match &failure {
            Some(failure) => self.after_failure(scene, failure, &mut workload),
            None => self.go_on(scene, same.is_some_and(|before| before.phase == RolloutPhase::Complete), &mut workload),
        };
        let (phase, message) = match &stand {
            Stand::Complete => (RolloutPhase::Complete, strays_message(&policy.strays)),
            Stand::Progressing(message) | Stand::Blocked(message) | Stand::Forbidden(message) | Stand::NotAtCreation(message) => {
                (RolloutPhase::Progressing, Some(message.clone()))
            }
            Stand::Reverting(message) => (RolloutPhase::Reverting, Some(message.clone())),
            Stand::Paused(message) | Stand::Failed(message) => (RolloutPhase::Paused, Some(message.clone())),
        };
        let workload = workload.filter(|_| phase != RolloutPhase::Complete);
        let of_workload = workload.as_deref().and_then(|name| self.workload(policy, name));
        let of_workload = of_workload.map(|workload| count(index, &workload.pods));
        let status = RolloutStatus {
            phase,
            updated,
            total,
            workload,
            workload_updated: of_workload.map(|(updated, _)| updated),
            workload_total: of_workload.map(|(_, total)| total),
            message,
            generation: Some(policy.generation),
            started: Some(Time(scene.started)),
            failure,
        };
        let step = step.filter(|_| !self.memory.is_busy(&policy.id));
        if let Some(Step::Evict { .. } | Step::Restart { .. }) = step {
            self.left = self.left.saturating_sub(1);
        }
        Planned { policy: policy.id.clone(), generation: policy.generation, status, stand, step }
    }

    /// Pods that have the settings, and all that should.
    fn count(&self, index: usize) -> (u32, u32) {
        let strays = &self.snapshot.policies[index].strays;
        let (updated, total) = count(index, self.snapshot.workloads.iter().flat_map(|workload| &workload.pods));
        (updated + strays.matched - strays.outdated, total + strays.matched)
    }

    fn go_on(&mut self, scene: Scene<'a>, was_complete: bool, touched: &mut Option<String>) -> (Stand, Option<Step>) {
        let Scene { index, policy, .. } = scene;
        let snapshot = self.snapshot;
        let has_work = |workload: &Workload| !work(policy, index, workload).is_empty();
        let mut work: Vec<_> = snapshot.workloads.iter().filter(|workload| has_work(workload)).collect();
        if work.is_empty() && was_complete {
            return (Stand::Complete, None);
        }
        if let Some((stand, step)) = self.new_failure(scene) {
            return (stand, Some(step));
        }
        let current = snapshot.workloads.iter().find(|workload| scene.has_touched(workload));
        if let Some(workload) = current
            && let Some(stand) = self.unsettled(scene, workload)
            && !has_work(workload)
        {
            return (stand, None);
        }
        if work.is_empty() {
            return (Stand::Complete, None);
        }
        if policy.rollout.paused {
            let (updated, total) = self.count(index);
            let rolls = current.filter(|workload| workload.own.is_rolling).map(|workload| {
                format!(", but {} goes on with the rolling update that has begun (kubectl rollout pause stops it)", workload.id)
            });
            let rolls = rolls.unwrap_or_default();
            return (Stand::Paused(format!("paused with {updated} of {total} pods updated{rolls}; set rollout.paused to false")), None);
        }
        match &policy.at_creation {
            Gate::InForce => {}
            Gate::Waiting(message) => {
                return (Stand::Progressing(format!("waiting until pods are created with the present settings: {message}")), None);
            }
            Gate::Never(message) => return (Stand::NotAtCreation(message.clone()), None),
        }
        if !scene.is_begun {
            return (Stand::Progressing("beginning".to_owned()), None);
        }
        // What is under way goes first, then what a change of the policy has to mend, then the smallest.
        work.sort_by_key(|workload| {
            let WorkloadId { kind, key } = &workload.id;
            (!scene.has_touched(workload), !workload.pods.iter().any(|pod| is_broken_by(index, pod)), workload.own.replicas, key, kind)
        });
        let mut skipped = Vec::new();
        for workload in work {
            match self.judge(scene, workload) {
                Verdict::Wait(stand) => return (stand, None),
                Verdict::Skip(stand) => skipped.push(stand),
                Verdict::Step(step) => {
                    let name = workload.id.named_by(&policy.id);
                    let stand = Stand::Progressing(match &step {
                        Step::Evict { pod, .. } => format!("replacing {pod} of {}", workload.id),
                        Step::Restart { .. } | Step::Explain { .. } => format!("restarting {}", workload.id),
                    });
                    // Whoever goes on after a crash must know whose pods may be missing because of us.
                    let is_noted = scene.has_touched(workload);
                    *touched = Some(name);
                    return (stand, is_noted.then_some(step));
                }
            }
        }
        (in_one(skipped), None)
    }
}

impl Scene<'_> {
    /// Pods that have come with the policy's settings since the rollout has begun, or because of it.
    fn fresh(self, workload: &Workload) -> impl Iterator<Item = &PodView> + use<'_> {
        let is_touched = self.has_touched(workload);
        let (index, started) = (self.index, self.started);
        workload.pods.iter().filter(move |pod| {
            let standing = pod.standing(index).filter(|standing| !pod.is_leaving && !standing.is_outdated);
            standing.is_some_and(|standing| pod.created >= started || (is_touched && standing.has_given))
        })
    }

    fn has_touched(&self, workload: &Workload) -> bool {
        self.touched.is_some_and(|touched| workload.id.named_by(&self.policy.id) == touched)
    }
}

impl Workload {
    fn target(&self) -> Target {
        Target { id: self.id.clone(), uid: self.own.uid.clone() }
    }
}

/// Of these pods those that have the policy's settings, and all that should.
fn count<'b>(index: usize, pods: impl IntoIterator<Item = &'b PodView>) -> (u32, u32) {
    let standings = pods.into_iter().filter(|pod| !pod.is_leaving).filter_map(|pod| pod.standing(index));
    standings.fold((0, 0), |(updated, total), standing| (updated + u32::from(!standing.is_outdated), total + 1))
}

/// The pods of the workload that the policy's strategy has to replace.
fn work<'b>(policy: &PolicyView, index: usize, workload: &'b Workload) -> Vec<&'b PodView> {
    let keeps_old_template = |pod: &PodView| match policy.rollout.strategy {
        Strategy::OnCreate | Strategy::Evict => false,
        Strategy::Restart => workload.ordinal(pod).is_some_and(|ordinal| ordinal < workload.own.partition),
    };
    workload.pods.iter().filter(|pod| pod.is_outdated(index) && !keeps_old_template(pod)).collect()
}

/// Whether a pod fails that has settings of the policy, and is to be replaced.
fn is_broken_by(index: usize, pod: &PodView) -> bool {
    // One that is started again and again is ready in between.
    let fails = pod.is_scheduled && (!pod.is_ready || pod.restarts > 0);
    fails && pod.is_outdated(index) && pod.standing(index).is_some_and(|standing| standing.has_given)
}

/// What keeps the workloads that cannot be touched now, in one.
fn in_one(skipped: Vec<Stand>) -> Stand {
    let others = skipped.len().saturating_sub(1);
    let weight = |stand: &Stand| match stand {
        Stand::Forbidden(_) => 0,
        Stand::Blocked(_) => 1,
        Stand::Complete | Stand::Progressing(_) | Stand::Reverting(_) | Stand::Paused(_) | Stand::Failed(_) | Stand::NotAtCreation(_) => 2,
    };
    let first = (0..skipped.len()).min_by_key(|&at| weight(&skipped[at])).unwrap_or_default();
    let and_more = |message: String| if others == 0 { message } else { format!("{message}; {others} more workloads wait") };
    match skipped.into_iter().nth(first) {
        Some(Stand::Forbidden(message)) => Stand::Forbidden(and_more(message)),
        Some(Stand::Blocked(message)) => Stand::Blocked(and_more(message)),
        Some(Stand::Progressing(message)) => Stand::Progressing(and_more(message)),
        Some(stand) => stand,
        None => Stand::Complete,
    }
}

/// What a rollout leaves as it is.
fn strays_message(strays: &Strays) -> Option<String> {
    let Strays { matched: _, outdated, example } = strays;
    let what = "of no Deployment, ReplicaSet, ReplicationController, StatefulSet or DaemonSet, which no rollout replaces";
    match outdated {
        0 => None,
        1 => Some(format!("the outdated pod {example} is {what}; replace it yourself")),
        more => Some(format!("{more} outdated pods are {what}, such as {example}; replace them yourself")),
    }
}
