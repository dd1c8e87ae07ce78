//! What each rollout does next. Pure: no I/O and no clock. At most one step for a policy, and none on a workload that another
//! policy goes before: what comes of a step is looked at before the next.
//!
//! The state of a rollout is the cluster's: a pod is updated when the engine finds nothing to replace about it. What the cluster does not
//! say is in `status.rollout`, which is written before the first step that relies on it: since when the rollout runs, and
//! which workload it has touched.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use podpolicy_api::{FailureAction, RolloutFailure, RolloutPhase, RolloutStatus, Strategy};
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
            claims.entry(workload.uid.as_str()).or_insert(index);
        }
    }
    claims
}

/// Whether the policy's strategy can replace the pods of the workload.
fn can_replace(policy: &PolicyView, workload: &Workload) -> Result<(), String> {
    match policy.rollout.strategy {
        Strategy::Restart if !workload.rolls => {
            Err(format!("{} has no rolling update of its own; use strategy Evict, or replace its pods yourself", workload.id))
        }
        Strategy::Restart if workload.is_paused => Err(format!("{} is paused, so that it would not roll; resume it", workload.id)),
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
            let workload = self.snapshot.workloads.iter().find(|workload| workload.id.named_by(&policy.id) == name)?;
            Some((workload.uid.as_str(), self.unavailable(policy, workload)))
        };
        let by_workload: HashMap<_, _> = self.snapshot.policies.iter().filter_map(touched).collect();
        by_workload.values().sum()
    }

    /// How many pods the workload lacks that are ready, and have been for long enough.
    fn unavailable(&self, policy: &PolicyView, workload: &Workload) -> u32 {
        let available = workload.pods.iter().filter(|pod| self.is_available(policy, pod)).count();
        workload.replicas.saturating_sub(u32::try_from(available).unwrap_or(u32::MAX))
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
        let status = RolloutStatus {
            phase,
            updated,
            total,
            workload,
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

    /// Whether a failure still counts: the workload is the same, with the same template.
    fn stands(&self, policy: &PolicyView, failure: &RolloutFailure) -> bool {
        let workload = self.snapshot.workloads.iter().find(|workload| workload.uid == failure.workload_uid);
        workload.is_some_and(|workload| workload.template == failure.template && workload.id.named_by(&policy.id) == failure.workload)
    }

    /// Pods that have the settings, and all that should.
    fn count(&self, index: usize) -> (u32, u32) {
        let strays = &self.snapshot.policies[index].strays;
        let (mut updated, mut total) = (strays.matched - strays.outdated, strays.matched);
        for pod in self.snapshot.workloads.iter().flat_map(|workload| &workload.pods).filter(|pod| !pod.is_leaving) {
            if let Some(standing) = pod.standing(index) {
                total += 1;
                updated += u32::from(!standing.is_outdated);
            }
        }
        (updated, total)
    }

    /// Nothing, but for the pods of a workload that is exempt by now.
    fn after_failure(&mut self, scene: Scene<'a>, failure: &RolloutFailure, touched: &mut Option<String>) -> (Stand, Option<Step>) {
        let failed = Stand::Failed(failure_message(&scene.policy.id, failure));
        let workload = self.snapshot.workloads.iter().find(|workload| workload.uid == failure.workload_uid);
        let (Some(workload), Some(owner)) = (workload, &failure.exempt) else { return (failed, None) };
        // Pods that were exempt when they were created have nothing of the policy's.
        let given = workload.pods.iter().filter(|pod| {
            pod.owner_uid.as_ref() == Some(owner)
                && pod.is_outdated(scene.index)
                && pod.standing(scene.index).is_some_and(|it| it.has_given)
        });
        let given: Vec<_> = given.filter(|pod| !self.memory.was_sent(&pod.uid)).collect();
        let is_exempt = scene.policy.exempt.contains(owner);
        if is_exempt && given.is_empty() && self.unavailable(scene.policy, workload) == 0 {
            return (failed, None);
        }
        let reverting = |what: String| Stand::Reverting(format!("{}; taking it back: {what}", failure_message(&scene.policy.id, failure)));
        match &scene.policy.at_creation {
            Gate::InForce => {}
            Gate::Waiting(message) | Gate::Never(message) => return (reverting(message.clone()), None),
        }
        *touched = Some(failure.workload.clone());
        if !is_exempt || !scene.has_touched(workload) {
            return (reverting("beginning".to_owned()), None);
        }
        // By eviction also where the rollout restarts workloads: a template that is stamped again would be another.
        let blocked = self.memory.blocked(workload).filter(|blocked| blocked.until > self.now);
        if let Some(blocked) = blocked {
            let message = blocked.message.clone();
            return (if blocked.is_forbidden { Stand::Forbidden(message) } else { reverting(message) }, None);
        }
        let is_awaited = self.missing(workload) > 0 || workload.pods.iter().any(|pod| self.is_coming_back(scene, pod));
        let has_room = self.unavailable(scene.policy, workload) < scene.policy.max_unavailable(workload.replicas);
        let next = given.iter().min_by_key(|pod| (!is_broken_by(scene.index, pod), workload.turn(pod)));
        let next = next.filter(|pod| has_room || !self.is_available(scene.policy, pod));
        let step = next.filter(|_| !is_awaited).map(|pod| Step::Evict {
            workload: workload.target(),
            pod: pod.name.clone(),
            pod_uid: pod.uid.clone(),
        });
        let what =
            step.as_ref().map_or_else(|| "waiting for pods to be ready".to_owned(), |_| format!("replacing pods of {}", workload.id));
        (reverting(what), step)
    }

    /// Whether the pod has come without the policy's settings, and is not ready yet.
    fn is_coming_back(&mut self, scene: Scene<'a>, pod: &PodView) -> bool {
        let at = pod.available_at(scene.policy.min_ready());
        self.wakes.extend(at);
        !pod.is_leaving && pod.standing(scene.index).is_none() && at.is_none_or(|at| at > self.now)
    }

    fn go_on(&mut self, scene: Scene<'a>, was_complete: bool, touched: &mut Option<String>) -> (Stand, Option<Step>) {
        let Scene { index, policy, .. } = scene;
        let snapshot = self.snapshot;
        let has_work = |workload: &Workload| !work(policy, index, workload).is_empty();
        let mut work: Vec<_> = snapshot.workloads.iter().filter(|workload| has_work(workload)).collect();
        if work.is_empty() && was_complete {
            return (Stand::Complete, None);
        }
        if let Some((workload, pod, message)) = self.failed_pod(scene) {
            let failure = RolloutFailure {
                workload: workload.id.named_by(&policy.id),
                workload_uid: workload.uid.clone(),
                template: workload.template.clone(),
                pod: pod.name.clone(),
                exempt: pod.owner_uid.clone().filter(|_| policy.rollout.on_failure == FailureAction::Revert),
                container: pod.trouble.as_ref().and_then(|trouble| trouble.container.clone()),
                message,
                time: Time(Timestamp::from_second(self.now.as_second()).unwrap_or(self.now)),
            };
            let stand = Stand::Progressing(format!("pod {} of {} failed; looking why", pod.name, workload.id));
            let namespace = workload.id.key.namespace.clone();
            return (stand, Some(Step::Explain { failure, pod_uid: pod.uid.clone(), namespace }));
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
            return (Stand::Paused(format!("paused with {updated} of {total} pods updated; set rollout.paused to false")), None);
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
            (!scene.has_touched(workload), !workload.pods.iter().any(|pod| is_broken_by(index, pod)), workload.replicas, &workload.id)
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

    /// What may be done to a workload that has pods to replace.
    fn judge(&mut self, scene: Scene<'a>, workload: &'a Workload) -> Verdict {
        let Scene { index, policy, .. } = scene;
        if let Err(message) = can_replace(policy, workload) {
            return Verdict::Skip(Stand::Blocked(message));
        }
        if let Some(other) = self.claims.get(workload.uid.as_str()).filter(|other| **other != index) {
            let other = &self.snapshot.policies[*other].id;
            return Verdict::Skip(Stand::Blocked(format!("{} is rolled out by {other}, which goes first", workload.id)));
        }
        if let Some(blocked) = self.memory.blocked(workload).filter(|blocked| blocked.until > self.now) {
            let message = blocked.message.clone();
            return Verdict::Skip(if blocked.is_forbidden { Stand::Forbidden(message) } else { Stand::Blocked(message) });
        }
        if let Some((other, message)) = self.not_yet_in_force(scene, workload) {
            return Verdict::Wait(Stand::Progressing(format!("waiting until pods are created with the settings of {other}: {message}")));
        }
        let broken = workload.pods.iter().filter(|pod| is_broken_by(index, pod) && !self.memory.was_sent(&pod.uid));
        let broken = broken.min_by_key(|pod| workload.turn(pod));
        if !self.is_ours(scene, workload)
            && let Some(stand) = self.ill(scene, workload)
        {
            return Verdict::Skip(stand);
        }
        match policy.rollout.strategy {
            Strategy::OnCreate | Strategy::Evict => self.judge_eviction(scene, workload, broken),
            Strategy::Restart => self.judge_restart(scene, workload, broken.is_some()),
        }
    }

    fn judge_eviction(&mut self, scene: Scene<'a>, workload: &'a Workload, broken: Option<&'a PodView>) -> Verdict {
        let Scene { index, policy, .. } = scene;
        let unavailable = self.unavailable(policy, workload);
        // One that fails because of us is not needed, and its replacement shows whether the change of the policy helps.
        let is_awaited = scene.fresh(workload).any(|pod| !self.is_available(policy, pod)) || self.missing(workload) > 0;
        if let Some(stand) = self.unproven(scene, workload) {
            return Verdict::Wait(stand);
        }
        let pod = match broken {
            Some(pod) if !is_awaited && (!self.is_available(policy, pod) || unavailable == 0) => pod,
            Some(_) | None => {
                // The first one goes alone.
                let is_proven = scene.fresh(workload).next().is_some();
                let most = if is_proven { policy.max_unavailable(workload.replicas) } else { 1 };
                let ready = work(policy, index, workload).into_iter().filter(|pod| self.is_available(policy, pod));
                let next = ready.min_by_key(|pod| workload.turn(pod));
                let Some(pod) = next.filter(|_| unavailable < most) else {
                    let waits = || Stand::Progressing(format!("waiting for the pods of {} to be ready", workload.id));
                    return Verdict::Wait(self.unsettled(scene, workload).unwrap_or_else(waits));
                };
                if self.left == 0 {
                    return Verdict::Skip(over_budget(workload));
                }
                pod
            }
        };
        Verdict::Step(Step::Evict { workload: workload.target(), pod: pod.name.clone(), pod_uid: pod.uid.clone() })
    }

    fn judge_restart(&mut self, scene: Scene<'a>, workload: &'a Workload, has_broken: bool) -> Verdict {
        let Scene { index, policy, .. } = scene;
        let stamp = policy.stamp();
        if self.memory.was_stamped(workload, &stamp) {
            return Verdict::Wait(Stand::Progressing(format!("restarting {}", workload.id)));
        }
        if workload.stamp.as_ref() == Some(&stamp) {
            if let Some(stand) = self.unsettled(scene, workload) {
                return Verdict::Wait(stand);
            }
            let example = work(policy, index, workload).first().map(|pod| pod.name.clone()).unwrap_or_default();
            return Verdict::Skip(Stand::Blocked(format!(
                "{} was restarted for this spec, and {example} lacks the settings all the same, because something else has changed since; \
                 run kubectl rollout restart",
                workload.id
            )));
        }
        if !has_broken && let Some(stand) = self.unsettled(scene, workload) {
            return Verdict::Wait(stand);
        }
        if self.left == 0 {
            return Verdict::Skip(over_budget(workload));
        }
        Verdict::Step(Step::Restart { workload: workload.target(), stamp })
    }

    /// A policy whose settings a replacement would lack.
    fn not_yet_in_force(&self, scene: Scene<'a>, workload: &Workload) -> Option<(&'a PolicyId, &'a str)> {
        let outdated = workload.pods.iter().filter(|pod| pod.is_outdated(scene.index)).flat_map(|pod| &pod.standings);
        outdated.filter(|standing| standing.is_outdated).find_map(|standing| {
            let policy = &self.snapshot.policies[standing.policy];
            match &policy.at_creation {
                Gate::Waiting(message) => Some((&policy.id, message.as_str())),
                Gate::InForce | Gate::Never(_) => None,
            }
        })
    }

    /// Whether what the workload lacks may be lacking because of this rollout.
    fn is_ours(&self, scene: Scene<'a>, workload: &'a Workload) -> bool {
        scene.has_touched(workload)
            && (workload.is_rolling
                || self.missing(workload) > 0
                || workload.pods.iter().any(|pod| pod.is_leaving || self.memory.was_sent(&pod.uid))
                || scene.fresh(workload).next().is_some())
    }

    /// Why a workload is left alone that this rollout has not touched.
    fn ill(&mut self, scene: Scene<'a>, workload: &Workload) -> Option<Stand> {
        let Scene { index, policy, .. } = scene;
        let broken = workload.pods.iter().filter(|pod| is_broken_by(index, pod) && !self.is_available(policy, pod)).count();
        let lacking = self.unavailable(policy, workload).saturating_sub(u32::try_from(broken).unwrap_or(u32::MAX));
        if lacking > 0 {
            self.wakes.extend(workload.pods.iter().filter_map(|pod| pod.available_at(policy.min_ready())));
            return Some(Stand::Blocked(format!(
                "{} is not healthy: {lacking} of its {} pods are not ready; it is left alone until they are",
                workload.id, workload.replicas
            )));
        }
        (workload.is_rolling && broken == 0).then(|| Stand::Blocked(format!("{} is rolling by itself, which is waited for", workload.id)))
    }

    /// How many pods the workload's controller has still to make.
    fn missing(&self, workload: &Workload) -> u32 {
        let present = workload.pods.iter().filter(|pod| !pod.is_leaving && !self.memory.was_sent(&pod.uid)).count();
        workload.replicas.saturating_sub(u32::try_from(present).unwrap_or(u32::MAX))
    }

    /// The pod that has still to show that the settings do no harm to the workload; nothing when one has, or none is there.
    fn unproven(&mut self, scene: Scene<'a>, workload: &'a Workload) -> Option<Stand> {
        let Scene { policy, .. } = scene;
        let proofs = scene.fresh(workload).map(|pod| (pod, pod.available_at(policy.proof)));
        let (pod, first) = proofs.min_by_key(|(_, proof)| (proof.is_none(), *proof))?;
        let Some(at) = first else { return Some(self.waiting_for(policy, workload, pod)) };
        if at <= self.now {
            return None;
        }
        self.wakes.insert(at);
        let seconds = policy.proof.as_secs();
        Some(Stand::Progressing(format!("watching {} of {}, the first with the settings there, for {seconds} s", pod.name, workload.id)))
    }

    /// What is waited for at a workload that the rollout has touched; nothing when it is whole.
    fn unsettled(&mut self, scene: Scene<'a>, workload: &'a Workload) -> Option<Stand> {
        let Scene { policy, .. } = scene;
        let waiting = scene.fresh(workload).find(|pod| !self.is_available(policy, pod));
        if let Some(pod) = waiting {
            return Some(self.waiting_for(policy, workload, pod));
        }
        if let Some(stand) = self.unproven(scene, workload) {
            return Some(stand);
        }
        if self.missing(workload) > 0 {
            return Some(match &workload.failure {
                Some(failure) => Stand::Blocked(format!("{} cannot make pods: {failure}", workload.id)),
                None => Stand::Progressing(format!("waiting for {} to replace a pod", workload.id)),
            });
        }
        if workload.is_rolling {
            return Some(Stand::Progressing(format!("waiting for {} to finish its rolling update", workload.id)));
        }
        if self.unavailable(policy, workload) == 0 {
            return None;
        }
        let waiting = workload.pods.iter().find(|pod| !pod.is_leaving && !self.is_available(policy, pod))?;
        Some(self.waiting_for(policy, workload, waiting))
    }

    fn waiting_for(&mut self, policy: &PolicyView, workload: &Workload, pod: &PodView) -> Stand {
        let name = format!("{} of {}", pod.name, workload.id);
        let trouble = pod.trouble.as_ref().map(|trouble| trouble.message.as_str());
        if let (false, Some(trouble)) = (pod.is_scheduled, trouble) {
            return Stand::Blocked(format!("pod {name} cannot be scheduled: {trouble}"));
        }
        match pod.available_at(policy.min_ready()) {
            Some(at) => {
                self.wakes.insert(at);
                Stand::Progressing(format!("waiting for {name} to stay ready for {} s", policy.rollout.min_ready_seconds))
            }
            None => Stand::Progressing(format!("waiting for {name} to be ready")),
        }
    }

    /// A pod with the policy's settings that has failed, and in which way.
    fn failed_pod(&mut self, scene: Scene<'a>) -> Option<(&'a Workload, &'a PodView, String)> {
        let snapshot = self.snapshot;
        snapshot.workloads.iter().find_map(|workload| {
            let fresh: Vec<_> = scene.fresh(workload).collect();
            let failed = fresh.into_iter().find_map(|pod| Some((workload, pod, self.failure_of(scene, pod)?)));
            failed.or_else(|| self.bare_replacement(scene, workload))
        })
    }

    fn failure_of(&mut self, scene: Scene<'a>, pod: &PodView) -> Option<String> {
        let Scene { policy, .. } = scene;
        let trouble = pod.trouble.as_ref().map(|trouble| format!(": {}", trouble.message)).unwrap_or_default();
        if pod.restarts > 0 && (pod.created >= scene.started || !pod.is_ready) {
            let times = if pod.restarts == 1 { "once".to_owned() } else { format!("{} times", pod.restarts) };
            return Some(format!("was started again {times}{trouble}"));
        }
        if pod.is_ready || !pod.is_scheduled {
            return None;
        }
        let since = pod.since.map_or(pod.created, |since| since.max(pod.created));
        let end = since.saturating_add(policy.deadline()).unwrap_or(Timestamp::MAX);
        if end > self.now {
            self.wakes.insert(end);
            return None;
        }
        Some(format!("was not ready within {} s{trouble}", policy.rollout.progress_deadline_seconds))
    }

    /// A pod that came after an eviction, and without the settings.
    fn bare_replacement(&self, scene: Scene<'a>, workload: &'a Workload) -> Option<(&'a Workload, &'a PodView, String)> {
        if scene.policy.at_creation != Gate::InForce || !scene.has_touched(workload) {
            return None;
        }
        let is_bare = |pod: &&PodView| pod.is_outdated(scene.index) && self.memory.is_replacement(workload, &pod.uid);
        let pod = workload.pods.iter().find(is_bare)?;
        let message = "was created in place of an evicted pod, and lacks the settings; look for an admission plugin that takes them away";
        Some((workload, pod, message.to_owned()))
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
        Target { id: self.id.clone(), uid: self.uid.clone() }
    }
}

/// The pods of the workload that the policy's strategy has to replace.
fn work<'b>(policy: &PolicyView, index: usize, workload: &'b Workload) -> Vec<&'b PodView> {
    let keeps_old_template = |pod: &PodView| match policy.rollout.strategy {
        Strategy::OnCreate | Strategy::Evict => false,
        Strategy::Restart => workload.ordinal(pod).is_some_and(|ordinal| ordinal < workload.partition),
    };
    workload.pods.iter().filter(|pod| pod.is_outdated(index) && !keeps_old_template(pod)).collect()
}

/// Whether a pod fails that has settings of the policy, and is to be replaced.
fn is_broken_by(index: usize, pod: &PodView) -> bool {
    // One that is started again and again is ready in between.
    let fails = pod.is_scheduled && (!pod.is_ready || pod.restarts > 0);
    fails && pod.is_outdated(index) && pod.standing(index).is_some_and(|standing| standing.has_given)
}

fn over_budget(workload: &Workload) -> Stand {
    Stand::Blocked(format!(
        "{} waits for other rollouts: as many pods are unavailable as the operator's --rollout-max-unavailable allows",
        workload.id
    ))
}

/// What keeps the workloads that cannot be touched now, in one.
fn in_one(skipped: Vec<Stand>) -> Stand {
    let others = skipped.len().saturating_sub(1);
    let is_forbidden = |stand: &Stand| matches!(stand, Stand::Forbidden(_));
    let first = skipped.iter().position(is_forbidden).unwrap_or_default();
    let and_more = |message: String| if others == 0 { message } else { format!("{message}; {others} more workloads wait") };
    match skipped.into_iter().nth(first) {
        Some(Stand::Forbidden(message)) => Stand::Forbidden(and_more(message)),
        Some(Stand::Blocked(message)) => Stand::Blocked(and_more(message)),
        Some(stand) => stand,
        None => Stand::Complete,
    }
}

fn failure_message(policy: &PolicyId, failure: &RolloutFailure) -> String {
    let RolloutFailure { workload, pod, container, message, exempt, .. } = failure;
    let exempt = exempt.as_ref().map(|_| format!("; {workload} is exempt from the policy until then")).unwrap_or_default();
    let container = container.as_ref().map(|container| format!(", container {container},")).unwrap_or_default();
    format!(
        "the rollout of {policy} has stopped at {workload}: pod {pod}{container} {message}; correct the policy or the workload's pod template{exempt}"
    )
}

/// What a rollout leaves as it is.
fn strays_message(strays: &Strays) -> Option<String> {
    let Strays { matched: _, outdated, example } = strays;
    let what = "of no Deployment, ReplicaSet, ReplicationController, StatefulSet or DaemonSet, which no rollout replaces";
    (*outdated > 0).then(|| format!("{outdated} outdated pods are {what}, such as {example}; replace them yourself"))
}
