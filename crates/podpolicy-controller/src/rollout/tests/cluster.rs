//! A made-up cluster: one policy, Deployments, and the operator's planner over both. A tick is a second.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use podpolicy_api::{MaxUnavailable, Rollout, RolloutStatus, Strategy};
use podpolicy_engine::PolicyId;

use crate::{
    observe::Key,
    rollout::{
        Gate, PodView, PolicyView, Snapshot, Stand, Standing, Step, Strays, Workload, WorkloadId, WorkloadView, memory::Memory, plan::plan,
    },
    source::SelectingKind,
};

/// What becomes of pods that are created with the settings.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Ready,
    /// Ready at first, then started again.
    Restarts,
    NeverReady,
    /// No scheduler gives them a node, or says a word.
    NoNode,
    /// They come without the settings.
    Bare,
}

/// How many seconds it takes a pod to be made, and to be ready.
const MADE_AFTER: i64 = 3;
const READY_AFTER: i64 = 2;

/// How long a probe takes to kill, and how long the first pod is watched.
const KILLED_AFTER: i64 = 30;
const PROOF: i64 = 36;

#[derive(Clone, Debug)]
pub(super) struct Cluster {
    now: Timestamp,
    pub(super) policy: Rollout,
    generation: i64,
    /// Of the settings, not of the spec.
    settings: i64,
    pub(super) gate: Gate,
    pub(super) fate: Fate,
    pub(super) budget_blocks: Option<String>,
    pub(super) attempts: u32,
    /// Another policy, which has settings for all pods and whose rollout is paused: whether pods get them at creation.
    pub(super) other: Option<Gate>,
    /// A workload whose controller says that it rolls, whatever its pods look like.
    pub(super) rolling: Option<String>,
    /// `minReadySeconds` of the Deployments.
    pub(super) own_min_ready: SignedDuration,
    /// How many pods of the cluster may be down in rollouts.
    pub(super) budget: u32,
    workloads: BTreeMap<String, Deployment>,
    status: Option<RolloutStatus>,
    stand: Stand,
    memory: Memory,
    /// What the operator saw when its watches last worked, and for how long they do not.
    seen: Option<(Snapshot, u32)>,
    loses_answer: bool,
    loses_status: bool,
    evicted: Vec<String>,
    restarted: Vec<String>,
    most_down: BTreeMap<String, u32>,
    most_down_before_proof: u32,
    most_workloads_down: usize,
    broken: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Deployment {
    replicas: u32,
    template: u32,
    stamp: Option<String>,
    made: u32,
    pods: Vec<Pod>,
    /// When pods are made in place of those that are gone.
    due: Vec<Timestamp>,
}

#[derive(Clone, Debug)]
struct Pod {
    view: PodView,
    /// The settings that it has; 0 for none.
    settings: i64,
    stamp: Option<String>,
}

impl Cluster {
    pub(super) fn new(workloads: &[(&str, u32)], most: u32) -> Self {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut cluster = Self {
            now,
            policy: Rollout {
                strategy: Strategy::Evict,
                max_unavailable: MaxUnavailable::Count(most.try_into().unwrap()),
                ..Rollout::default()
            },
            generation: 1,
            settings: 1,
            gate: Gate::InForce,
            fate: Fate::Ready,
            budget_blocks: None,
            attempts: 0,
            other: None,
            rolling: None,
            own_min_ready: SignedDuration::ZERO,
            budget: 10,
            workloads: BTreeMap::new(),
            status: None,
            stand: Stand::Complete,
            memory: Memory::default(),
            seen: None,
            loses_answer: false,
            loses_status: false,
            evicted: Vec::new(),
            restarted: Vec::new(),
            most_down: BTreeMap::new(),
            most_down_before_proof: 0,
            most_workloads_down: 0,
            broken: BTreeSet::new(),
        };
        for (name, replicas) in workloads {
            let mut deployment = Deployment { replicas: *replicas, template: 1, stamp: None, made: 0, pods: Vec::new(), due: Vec::new() };
            for _ in 0..*replicas {
                let pod = deployment.make(name, now - SignedDuration::from_hours(1), 0);
                deployment.pods.push(pod);
            }
            for pod in &mut deployment.pods {
                pod.view.is_ready = true;
                pod.view.since = Some(pod.view.created);
            }
            cluster.workloads.insert((*name).to_owned(), deployment);
        }
        cluster
    }

    /// Runs until nothing has happened for longer than anything takes.
    pub(super) fn run(&mut self) {
        self.run_for(2000);
    }

    pub(super) fn run_for(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.tick();
        }
    }

    /// Runs until it stands so, for as long as anything takes at most.
    pub(super) fn run_until(&mut self, stands: impl Fn(&Stand) -> bool) {
        for _ in 0..2000 {
            if stands(&self.stand) {
                return;
            }
            self.tick();
        }
        panic!("it never stands so: {self:?}");
    }

    pub(super) fn status(&self) -> &RolloutStatus {
        self.status.as_ref().unwrap()
    }

    pub(super) fn stand(&self) -> Stand {
        self.stand.clone()
    }

    pub(super) fn evicted(&self) -> Vec<&str> {
        self.evicted.iter().map(String::as_str).collect()
    }

    pub(super) fn restarted(&self) -> Vec<&str> {
        self.restarted.iter().map(String::as_str).collect()
    }

    pub(super) fn most_down(&self, workload: &str) -> u32 {
        self.most_down.get(workload).copied().unwrap_or_default()
    }

    /// How many pods of the workload are not ready now.
    pub(super) fn down(&self, workload: &str) -> usize {
        let deployment = &self.workloads[workload];
        let ready = deployment.pods.iter().filter(|pod| pod.view.is_ready).count();
        usize::try_from(deployment.replicas).unwrap() - ready
    }

    /// How many pods of the workload are to be made, or have come without the settings and are not ready yet.
    pub(super) fn coming_without_settings(&self, workload: &str) -> usize {
        let deployment = &self.workloads[workload];
        deployment.due.len() + deployment.pods.iter().filter(|pod| pod.settings == 0 && !pod.view.is_ready).count()
    }

    pub(super) fn most_down_before_proof(&self) -> u32 {
        self.most_down_before_proof
    }

    pub(super) fn most_workloads_down(&self) -> usize {
        self.most_workloads_down
    }

    /// The operator dies and another one starts.
    pub(super) fn crash(&mut self) {
        self.memory = Memory::default();
        self.seen = None;
    }

    /// The watches bring nothing for a while.
    pub(super) fn lag(&mut self) {
        self.seen = Some((self.snapshot(), 5));
    }

    /// The operator dies when it has sent a step, before the answer.
    pub(super) fn lose_the_next_answer(&mut self) {
        self.loses_answer = true;
    }

    pub(super) fn lose_the_next_status(&mut self) {
        self.loses_status = true;
    }

    pub(super) fn change_policy(&mut self) {
        self.generation += 1;
        self.settings += 1;
    }

    pub(super) fn change_policy_keeping_settings(&mut self) {
        self.generation += 1;
    }

    pub(super) fn change_template(&mut self, name: &str) {
        let (settings, now) = (self.settings, self.now);
        let deployment = self.workloads.get_mut(name).unwrap();
        deployment.template += 1;
        // By itself, at once.
        deployment.pods.clear();
        for _ in 0..deployment.replicas {
            let pod = deployment.make(name, now, settings);
            deployment.pods.push(pod);
        }
    }

    pub(super) fn breaks(&mut self, pod: &str) {
        self.broken.insert(pod.to_owned());
        self.set_ready(pod, false);
    }

    pub(super) fn heals(&mut self, pod: &str) {
        self.broken.remove(pod);
        self.set_ready(pod, true);
    }

    /// A container of the pod was started again once, and is ready.
    pub(super) fn restarts(&mut self, name: &str) {
        self.pod(name).view.restarts = 1;
    }

    /// Somebody has the workload roll.
    pub(super) fn rolls(&mut self, name: &str) {
        self.workloads.get_mut(name).unwrap().stamp = Some("by hand".to_owned());
    }

    /// How many pods with the present settings are to be made, or are not ready yet.
    pub(super) fn coming(&self, workload: &str) -> usize {
        let deployment = &self.workloads[workload];
        deployment.due.len() + deployment.pods.iter().filter(|pod| pod.settings == self.settings && !pod.view.is_ready).count()
    }

    fn pod(&mut self, name: &str) -> &mut Pod {
        self.workloads.values_mut().flat_map(|workload| &mut workload.pods).find(|pod| pod.view.name == name).unwrap()
    }

    fn set_ready(&mut self, name: &str, is_ready: bool) {
        let now = self.now;
        let pod = self.pod(name);
        pod.view.is_ready = is_ready;
        pod.view.since = Some(now);
    }

    /// The owner that the policy's status says is exempt.
    fn exempt(&self) -> Option<String> {
        let status = self.status.as_ref().filter(|status| status.generation == Some(self.generation))?;
        status.failure.as_ref()?.exempt.clone()
    }

    /// The policy as the planner sees it.
    pub(super) fn view(&self) -> PolicyView {
        PolicyView {
            id: PolicyId::namespaced("shop", "standard"),
            uid: "0123456789".to_owned(),
            generation: self.generation,
            rollout: self.policy.clone(),
            exempt: self.exempt().into_iter().collect(),
            proof: SignedDuration::from_secs(PROOF),
            at_creation: self.gate.clone(),
            before: self.status.clone(),
            strays: Strays::default(),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let policy = self.view();
        let workloads = self.workloads.iter().map(|(name, deployment)| Workload {
            id: WorkloadId { kind: SelectingKind::Deployment, key: Key { namespace: "shop".into(), name: name.clone() } },
            own: WorkloadView {
                uid: name.clone(),
                replicas: deployment.replicas,
                unavailable: deployment.unavailable(self.own_min_ready, self.now),
                is_rolling: self.rolling.as_ref() == Some(name) || deployment.pods.iter().any(|pod| pod.stamp != deployment.stamp),
                is_paused: false,
                rolls: true,
                partition: 0,
                template: deployment.template.to_string(),
                stamp: deployment.stamp.clone(),
                failure: None,
            },
            pods: deployment.pods.iter().map(|pod| pod.view(self.settings, self.exempt().as_ref())).collect(),
        });
        let mut workloads: Vec<_> = workloads.collect();
        let mut policies = vec![policy];
        if let Some(at_creation) = &self.other {
            let rollout = Rollout { strategy: Strategy::Evict, paused: true, ..Rollout::default() };
            let id = PolicyId::namespaced("shop", "other");
            policies.push(PolicyView { id, rollout, at_creation: at_creation.clone(), before: None, ..self.view() });
            for pod in workloads.iter_mut().flat_map(|workload| &mut workload.pods) {
                pod.standings.push(Standing { policy: 1, is_outdated: true, has_given: false });
            }
        }
        Snapshot { policies, workloads, epoch: self.settings.unsigned_abs() }
    }

    fn tick(&mut self) {
        self.now += SignedDuration::from_secs(1);
        self.work();
        self.measure();
        let snapshot = match &mut self.seen {
            // What the operator has written itself it knows.
            Some((seen, left)) if *left > 0 => {
                *left -= 1;
                let mut seen = seen.clone();
                seen.policies = self.snapshot().policies;
                seen
            }
            _ => self.snapshot(),
        };
        self.memory.tidy(&snapshot, self.now);
        let (planned, _) = plan(&snapshot, &self.memory, self.budget, self.now);
        let planned = planned.into_iter().next().unwrap();
        self.stand = planned.stand;
        let id = planned.policy.clone();
        if let Some(step) = planned.step {
            self.is_known(&step);
            self.memory.started(&id, &step, &snapshot, self.now);
            self.take(&id, &step);
        }
        if std::mem::take(&mut self.loses_status) {
            self.crash();
        } else {
            self.status = Some(planned.status);
        }
        self.measure();
    }

    /// Whoever goes on after a crash knows from the status whose pods may be missing, and which pods are exempt.
    fn is_known(&self, step: &Step) {
        let (Step::Evict { workload, .. } | Step::Restart { workload, .. }) = step else { return };
        let written = self.status.as_ref().and_then(|status| status.workload.clone());
        assert_eq!(written, Some(format!("Deployment/{}", workload.id.key.name)), "{step:?} before it is written: {self:?}");
        if matches!(self.stand, Stand::Reverting(_)) {
            assert!(self.exempt().is_some(), "{step:?} before anything is exempt: {self:?}");
        }
    }

    fn take(&mut self, id: &PolicyId, step: &Step) {
        match step {
            Step::Evict { workload, pod_uid, .. } => {
                self.attempts += 1;
                if self.budget_blocks.as_ref() == Some(&workload.id.key.name) {
                    self.memory.refused(id, step, "the disruption budget needs it".into(), false, self.now);
                    return;
                }
                let due = self.now + SignedDuration::from_secs(MADE_AFTER);
                let deployment = self.workloads.get_mut(&workload.id.key.name).unwrap();
                if let Some(at) = deployment.pods.iter().position(|pod| pod.view.uid == *pod_uid) {
                    let pod = deployment.pods.remove(at);
                    deployment.due.push(due);
                    self.evicted.push(pod.view.name);
                }
            }
            Step::Restart { workload, stamp } => {
                self.attempts += 1;
                let deployment = self.workloads.get_mut(&workload.id.key.name).unwrap();
                if deployment.stamp.as_ref() != Some(stamp) {
                    deployment.stamp = Some(stamp.clone());
                    self.restarted.push(workload.id.key.name.clone());
                }
            }
            Step::Explain { failure, .. } => {
                self.memory.failed(id, self.generation, failure.clone());
                return;
            }
        }
        if std::mem::take(&mut self.loses_answer) {
            self.crash();
        } else {
            self.memory.done(id, step);
        }
    }

    /// What controllers and kubelets do in a second.
    fn work(&mut self) {
        let (now, settings, fate, own) = (self.now, self.settings, self.fate, self.own_min_ready);
        let exempt = self.exempt();
        for (name, deployment) in &mut self.workloads {
            let due = deployment.due.extract_if(.., |due| *due <= now).count();
            for _ in 0..due {
                let is_exempt = exempt == Some(format!("{name}-{}", deployment.template));
                let given = if is_exempt || matches!(fate, Fate::Bare) { 0 } else { settings };
                let pod = deployment.make(name, now, given);
                deployment.pods.push(pod);
            }
            for pod in &mut deployment.pods {
                pod.live(now, fate, settings, self.broken.contains(&pod.view.name));
            }
            // The Deployment's own rolling update: pods that are not available, and of the others one at a time.
            let is_old = |pod: &Pod| pod.stamp != deployment.stamp;
            let is_available = |pod: &Pod| pod.view.available_at(own).is_some_and(|at| at <= now);
            let is_whole = deployment.unavailable(own, now) == 0;
            let old = deployment.pods.iter().position(is_old);
            let unavailable = deployment.pods.iter().position(|pod| is_old(pod) && !is_available(pod));
            if let Some(at) = unavailable.or(old.filter(|_| is_whole)) {
                deployment.pods.remove(at);
                deployment.due.push(now + SignedDuration::from_secs(MADE_AFTER));
            }
        }
    }

    fn measure(&mut self) {
        let is_proven = self.workloads.values().flat_map(|workload| &workload.pods).any(|pod| {
            pod.settings == self.settings && pod.view.available_at(SignedDuration::from_secs(PROOF)).is_some_and(|at| at <= self.now)
        });
        let mut workloads_down = 0;
        for (name, deployment) in &self.workloads {
            let ready = deployment.pods.iter().filter(|pod| pod.view.is_ready).count();
            let down = deployment.replicas - u32::try_from(ready).unwrap();
            let most = self.most_down.entry(name.clone()).or_default();
            *most = down.max(*most);
            workloads_down += usize::from(down > 0);
            if !is_proven {
                self.most_down_before_proof = self.most_down_before_proof.max(down);
            }
        }
        self.most_workloads_down = self.most_workloads_down.max(workloads_down);
    }
}

impl Deployment {
    /// How many pods it lacks that have been ready for so long.
    fn unavailable(&self, min_ready: SignedDuration, now: Timestamp) -> u32 {
        let available = self.pods.iter().filter(|pod| pod.view.available_at(min_ready).is_some_and(|at| at <= now)).count();
        self.replicas - u32::try_from(available).unwrap()
    }

    fn make(&mut self, name: &str, now: Timestamp, settings: i64) -> Pod {
        let name = format!("{name}-{}", self.made);
        self.made += 1;
        let view = PodView {
            uid: name.clone(),
            owner_uid: Some(format!("{}-{}", name.split('-').next().unwrap(), self.template)),
            name,
            created: now,
            is_ready: false,
            since: Some(now),
            is_scheduled: true,
            is_leaving: false,
            restarts: 0,
            trouble: None,
            standings: Vec::new(),
        };
        Pod { view, settings, stamp: self.stamp.clone() }
    }
}

impl Pod {
    fn view(&self, settings: i64, exempt: Option<&String>) -> PodView {
        let (is_exempt, has_given) = (exempt.is_some() && exempt == self.view.owner_uid.as_ref(), self.settings > 0);
        let standing = Standing { policy: 0, is_outdated: is_exempt || self.settings != settings, has_given };
        let standings = if is_exempt && !has_given { Vec::new() } else { vec![standing] };
        PodView { standings, ..self.view.clone() }
    }

    fn live(&mut self, now: Timestamp, fate: Fate, settings: i64, is_broken: bool) {
        let age = now.duration_since(self.view.created).as_secs();
        let has_settings = self.settings > 0;
        let never = is_broken || (has_settings && matches!(fate, Fate::NeverReady | Fate::NoNode));
        if has_settings && matches!(fate, Fate::NoNode) {
            self.view.is_scheduled = false;
            self.view.since = None;
        }
        if age == READY_AFTER && !self.view.is_ready && !never {
            self.view.is_ready = true;
            self.view.since = Some(now);
        }
        if has_settings && self.settings == settings && age == KILLED_AFTER && matches!(fate, Fate::Restarts) {
            self.view.restarts += 1;
            self.view.is_ready = false;
            self.view.since = Some(now);
        }
    }
}
