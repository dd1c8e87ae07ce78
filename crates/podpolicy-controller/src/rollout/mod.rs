//! Rollouts: pods that already run get the settings that Kubernetes allows only at creation, one safe step at a time.
//!
//! `snapshot` is what is decided on, `plan` decides, `step` has the requests, `memory` what nobody has shown yet. What a rollout has come to is
//! the cluster's to say, so that whoever goes on after a crash goes on where it was. No step is taken before everything is decided, and
//! none by an operator that does not lead.

mod memory;
mod plan;
mod snapshot;
mod step;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::Client;
use podpolicy_engine::PolicyId;
use tokio::task::JoinSet;

use crate::{Metrics, world::World};

use memory::Memory;
use plan::plan;
pub(crate) use plan::{Planned, Stand, Step};
pub(crate) use snapshot::{Gate, PodView, PolicyView, Snapshot, Standing, Strays, Workload, WorkloadId, WorkloadView};
use step::Done;
pub(crate) use step::StepError;

/// How long nothing is planned after something was, in multiples of the time that it took, and at least.
const REST: u32 = 9;
const LEAST_REST: Duration = Duration::from_millis(50);

/// All rollouts.
pub(crate) struct Rollouts {
    client: Client,
    metrics: Arc<Metrics>,
    budget: u32,
    memory: Memory,
    planned: HashMap<PolicyId, Planned>,
    steps: JoinSet<Ended>,
    /// Whether this operator leads, as far as rollouts have heard.
    is_active: bool,
    /// Whether something has changed since the last plan.
    is_stale: bool,
    /// Nothing is planned sooner.
    rest: Instant,
    /// When to plan even if nothing changes.
    wake: Option<Instant>,
}

/// A step that has ended.
pub(crate) struct Ended {
    policy: PolicyId,
    generation: i64,
    step: Step,
    result: Result<Done, StepError>,
}

impl Rollouts {
    /// `budget` is how many pods of the cluster may be unavailable in rollouts at once.
    pub(crate) fn new(client: Client, metrics: Arc<Metrics>, budget: u32) -> Self {
        Self {
            client,
            metrics,
            budget,
            memory: Memory::default(),
            planned: HashMap::new(),
            steps: JoinSet::new(),
            is_active: false,
            is_stale: true,
            rest: Instant::now(),
            wake: None,
        }
    }

    /// Something that is known has changed.
    pub(crate) fn stale(&mut self) {
        self.is_stale = true;
    }

    /// Plans if it is time, starts the steps that are due, and says of which policies the status changes by it.
    pub(crate) fn turn(&mut self, world: &World, now: Instant, time: Timestamp) -> Vec<PolicyId> {
        self.is_active = true;
        let is_due = self.is_stale || self.wake.is_some_and(|wake| wake <= now);
        if !is_due || now < self.rest {
            return Vec::new();
        }
        self.is_stale = false;
        if !world.has_rollouts() {
            self.wake = None;
            self.memory = Memory::default();
            return self.planned.drain().map(|(id, _)| id).collect();
        }
        let snapshot = world.rollouts();
        self.memory.tidy(&snapshot, time);
        let (planned, wake) = plan(&snapshot, &self.memory, self.budget, time);
        let until = |wake: Timestamp| Duration::try_from(wake.duration_since(time)).unwrap_or_default();
        self.wake = wake.map(|wake| now + until(wake));
        let mut changed = Vec::new();
        let mut before = std::mem::take(&mut self.planned);
        for planned in planned {
            let is_same = before.remove(&planned.policy).is_some_and(|before| before.says_the_same(&planned));
            if !is_same {
                changed.push(planned.policy.clone());
            }
            if let Some(step) = &planned.step {
                self.start(&planned, step.clone(), &snapshot, time);
            }
            self.planned.insert(planned.policy.clone(), planned);
        }
        changed.extend(before.into_keys());
        let ended = Instant::now();
        self.rest = ended + (REST * ended.duration_since(now)).max(LEAST_REST);
        changed
    }

    fn start(&mut self, planned: &Planned, step: Step, snapshot: &Snapshot, time: Timestamp) {
        self.memory.started(&planned.policy, &step, snapshot, time);
        let (client, policy, generation) = (self.client.clone(), planned.policy.clone(), planned.generation);
        self.steps.spawn(async move {
            let result = step::take(client, step.clone()).await;
            Ended { policy, generation, step, result }
        });
    }

    /// Waits for a step to end.
    pub(crate) async fn ended(&mut self) -> Option<Result<Ended, tokio::task::JoinError>> {
        self.steps.join_next().await
    }

    /// Takes in what came of a step.
    pub(crate) fn take_in(&mut self, ended: Ended, time: Timestamp) {
        let Ended { policy, generation, step, result } = ended;
        self.is_stale = true;
        self.metrics.rollout_step(&step, result.as_ref().err());
        match result {
            Ok(Done::Taken) => {
                match &step {
                    Step::Evict { workload, pod, .. } => {
                        tracing::info!(%policy, namespace = workload.id.key.namespace, workload = %workload.id, pod, "evicted pod");
                    }
                    Step::Restart { workload, .. } => {
                        tracing::info!(%policy, namespace = workload.id.key.namespace, workload = %workload.id, "restarted workload");
                    }
                    Step::Explain { .. } => {}
                }
                self.memory.done(&policy, &step);
            }
            Ok(Done::Explained(failure)) => {
                tracing::warn!(%policy, workload = failure.workload, pod = failure.pod, "rollout failed: {}", failure.message);
                self.memory.failed(&policy, generation, failure);
            }
            Err(error) => {
                tracing::info!(%policy, %error, "did not take a step of a rollout; trying again");
                let is_forbidden = matches!(error, StepError::Forbidden(_));
                self.memory.refused(&policy, &step, error.to_string(), is_forbidden, time);
            }
        }
    }

    /// What the policy's rollout has come to; nothing where it has none.
    pub(crate) fn of(&self, policy: &PolicyId) -> Option<&Planned> {
        self.planned.get(policy)
    }

    /// Whether the policy's rollout goes from pod to pod.
    pub(crate) fn is_moving(&self, policy: &PolicyId) -> bool {
        self.of(policy).is_some_and(|planned| matches!(planned.stand, Stand::Progressing(_)))
    }

    /// When to take a turn; never where another operator leads.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if !self.is_active {
            return None;
        }
        let wake = if self.is_stale { Some(self.rest) } else { self.wake };
        wake.map(|wake| wake.max(self.rest))
    }

    /// Another operator leads: what was under way is nothing that this one knows any more.
    pub(crate) fn forget(&mut self) {
        self.memory = Memory::default();
        self.planned.clear();
        self.is_active = false;
        self.is_stale = true;
    }
}

impl Planned {
    fn says_the_same(&self, other: &Self) -> bool {
        self.status == other.status && self.stand == other.stand
    }
}
