//! The loop: observe -> plan -> apply -> status. One task owns all that is known; writes run beside it, bounded in number, and
//! come back to it. Nothing else decides when something is written.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::Client;
use podpolicy_engine::{PolicyId, Support};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};

use crate::{
    Config, Health, Metrics, admission,
    apply::{self, WriteError, Written},
    events::Events,
    guard,
    health::HEARTBEAT,
    leadership::Leadership,
    observe::{self, Key, Observation, Observed, What},
    retry::{Pace, Queue, Spacing},
    rollout::Rollouts,
    source::Source,
    status, support,
    world::{World, Write},
};

/// Observations that wait for the loop; a watch that is faster waits.
const OBSERVATIONS: usize = 1024;
/// How many pods are decided before the loop looks up.
const PODS_AT_ONCE: usize = 1000;
/// How many statuses are written at once.
const STATUS_CONCURRENCY: usize = 8;
/// While pods are being written, a status waits this long for them to settle.
const STATUS_INTERVAL: Duration = Duration::from_secs(3);
/// How soon a status may be written again of which only numbers and texts have changed; and while a rollout goes from pod to pod, so that one
/// that is quick takes little more than a write for each workload.
const NUMBERS_INTERVAL: Duration = Duration::from_secs(1);
const ROLLOUT_INTERVAL: Duration = Duration::from_secs(3);
/// How long no status is made after some were, in multiples of the time that it took.
const STATUS_REST: u32 = 9;
/// How often everything is counted for metrics, at most; longer, in multiples of the time that it took.
const CENSUS_INTERVAL: Duration = Duration::from_secs(1);
const CENSUS_REST: u32 = 49;
/// How long the watch may take to bring a pod that changed under a write.
const WATCH_DELAY: Duration = Duration::from_secs(1);
/// How long the first lists may take before the log says what is missing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long writes that are under way get when the operator stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the operator stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A watch, a write, the election or a task for creation panicked: a defect. The process must be started again.
    #[error("a task of the operator panicked: {0}")]
    Panicked(#[from] JoinError),
    /// The watches ended, which they never should. The process must be started again.
    #[error("the watches ended")]
    WatchesEnded,
}

/// Runs the operator until `stop` is done; then finishes the writes that are under way.
pub async fn run(
    client: Client,
    config: Config,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let sources = observe::sources(&config.watched);
    let (sender, mut observations) = mpsc::channel(OBSERVATIONS);
    let mut watches = observe::start(&client, &sources, &sender);
    drop(sender);
    // It writes nothing, and followers decide as well.
    let mut guard = guard::start(&client, &config.watched);
    let mut support = support::start(&client, &config.own_namespace);
    let mut leadership = Leadership::run_for(&client, config.election.clone());
    // Whatever the rest believes, nothing is written once another may lead.
    let client = leadership.guard(client);
    let mut admission = admission::start(&client, &config, leadership.leading(), &metrics);
    let (events, mut telling) = Events::start(&client, config.election.as_ref(), &metrics);
    let mut reconciler = Reconciler::new(client, config, metrics, &sources, events);
    reconciler.world.admission_changed(admission.state());
    let mut stop = std::pin::pin!(stop);
    loop {
        let now = Instant::now();
        let is_synced = reconciler.step(now, leadership.leads());
        health.beat(now, is_synced);
        if let Some(questions) = reconciler.world.take_questions() {
            guard.send(questions);
        }
        if let Some(program) = reconciler.world.take_new_program() {
            admission.send(Some(program));
        }
        let wake = reconciler.next_wake(now);
        tokio::select! {
            () = &mut stop => break,
            Some(done) = reconciler.pod_writes.join_next() => reconciler.pod_written(done?),
            Some(done) = reconciler.status_writes.join_next() => reconciler.status_written(done?),
            Some(ended) = reconciler.rollouts.ended() => reconciler.rollouts.take_in(ended?, Timestamp::now()),
            observation = observations.recv() => match observation {
                Some(observation) => reconciler.observe(observation, &mut observations),
                None => return Err(watches.join_next().await.and_then(Result::err).map_or(RunError::WatchesEnded, RunError::Panicked)),
            },
            changed = admission.changed() => {
                changed?;
                reconciler.world.admission_changed(admission.state());
                reconciler.rollouts.stale();
            }
            changed = guard.changed() => {
                changed?;
                reconciler.world.guard_changed(guard.state());
            }
            changed = support.changed() => {
                changed?;
                reconciler.support_changed(support.state().as_ref().as_ref());
            }
            changed = leadership.changed() => changed?,
            Some(Err(panic)) = watches.join_next() => return Err(panic.into()),
            Some(Err(panic)) = telling.join_next() => return Err(panic.into()),
            () = tokio::time::sleep_until(wake.into()) => {}
        }
    }
    watches.abort_all();
    drop(admission);
    reconciler.finish().await;
    leadership.resign().await;
    Ok(())
}

/// The state of the loop.
struct Reconciler {
    client: Client,
    world: World,
    concurrency: usize,
    metrics: Arc<Metrics>,
    was_synced: bool,
    /// Whether it is known which newer fields the API server keeps.
    knows_support: bool,
    started: Instant,
    /// Whether somebody who waits was told what for.
    told: bool,
    pods: Queue<Key>,
    /// Bounds the writes to one pod, where somebody else writes the opposite.
    pace: Pace<Key>,
    statuses: Queue<PolicyId>,
    /// Statuses are made no sooner, so that making them takes a small part of the time however many pods and policies there are.
    statuses_rest: Instant,
    /// Bounds how often a status is written of which only numbers and texts change.
    spacing: Spacing<PolicyId>,
    pod_writes: JoinSet<(Key, Result<Written, WriteError>)>,
    status_writes: JoinSet<(PolicyId, Result<Observed, WriteError>)>,
    /// Policies whose status waits for pods to settle, and since when.
    unsettled: BTreeMap<PolicyId, Instant>,
    /// Policies whose status does not say yet what came of a change, and since when.
    changed: HashMap<PolicyId, Instant>,
    events: Events,
    rollouts: Rollouts,
    /// When everything is counted again.
    census_due: Instant,
}

impl Reconciler {
    fn new(client: Client, config: Config, metrics: Arc<Metrics>, sources: &[Source], events: Events) -> Self {
        metrics.watches(sources);
        Self {
            rollouts: Rollouts::new(client.clone(), Arc::clone(&metrics), config.rollout_max_unavailable.max(1)),
            client,
            concurrency: config.concurrency.max(1),
            world: World::new(config, sources),
            metrics,
            was_synced: false,
            knows_support: false,
            started: Instant::now(),
            told: false,
            pods: Queue::new(),
            pace: Pace::new(),
            statuses: Queue::new(),
            statuses_rest: Instant::now(),
            spacing: Spacing::new(),
            pod_writes: JoinSet::new(),
            status_writes: JoinSet::new(),
            unsettled: BTreeMap::new(),
            changed: HashMap::new(),
            events,
            census_due: Instant::now(),
        }
    }

    fn support_changed(&mut self, support: Option<&Support>) {
        if let Some(support) = support {
            self.knows_support = true;
            self.world.set_support(support.clone());
        }
    }

    /// Takes in one observation and those that wait behind it.
    fn observe(&mut self, first: Observation, more: &mut mpsc::Receiver<Observation>) {
        self.take_in(first);
        for _ in 0..OBSERVATIONS {
            let Ok(observation) = more.try_recv() else { return };
            self.take_in(observation);
        }
    }

    fn take_in(&mut self, observation: Observation) {
        if let What::Failing(failure) = &observation.what {
            self.metrics.watch_failed(&observation.source, failure);
        }
        self.world.observe(observation);
        self.rollouts.stale();
    }

    /// Decides what changed and starts the writes that are due. Nothing is decided before everything was seen once. Returns
    /// whether it was.
    fn step(&mut self, now: Instant, leads: bool) -> bool {
        self.metrics.set_leads(leads);
        if !self.was_synced {
            if !self.world.is_synced() || !self.knows_support {
                self.tell_who_waits(now);
                return false;
            }
            self.was_synced = true;
            let (pods, policies) = self.world.sizes();
            tracing::info!(pods, policies, "listed everything; reconciling");
        }
        self.plan();
        if leads {
            self.start_pod_writes(now);
            self.roll_out(now);
            self.schedule_statuses(now);
            self.start_status_writes(now);
        } else {
            // Another one follows and tells what comes now.
            self.changed.clear();
            self.events.forget_all();
            self.rollouts.forget();
        }
        self.measure(now);
        true
    }

    fn tell_who_waits(&mut self, now: Instant) {
        if !self.told && now.duration_since(self.started) >= PATIENCE {
            self.told = true;
            let unsynced = self.world.unsynced();
            if unsynced.is_empty() {
                tracing::warn!("still waiting for the API server to say which newer fields it keeps");
            } else {
                tracing::warn!("still waiting for the first list of {}", unsynced.join(", "));
            }
        }
    }

    fn plan(&mut self) {
        for planned in self.world.plan(PODS_AT_ONCE) {
            match planned.write {
                Write::None => self.pods.forget(&planned.key),
                Write::Same => self.pods.push(&planned.key),
                Write::New => self.pods.push_anew(&planned.key),
            }
        }
    }

    /// Nothing is rolled out while something waits for a decision.
    fn roll_out(&mut self, now: Instant) {
        if !self.world.has_undecided() {
            let changed = self.rollouts.turn(&self.world, now, Timestamp::now());
            self.world.statuses_changed(changed);
        }
    }

    fn start_pod_writes(&mut self, now: Instant) {
        while self.pod_writes.len() < self.concurrency {
            let Some(key) = self.pods.pop(now) else { return };
            let Some(patch) = self.world.patch_for(&key) else {
                self.pods.finished(&key);
                continue;
            };
            if let Err(later) = self.pace.take(&key, now) {
                tracing::warn!(
                    namespace = key.namespace,
                    pod = key.name,
                    "somebody keeps changing what policies write; waiting before the next write"
                );
                self.pods.finished(&key);
                self.pods.push_at(&key, later);
                continue;
            }
            let client = self.client.clone();
            self.pod_writes.spawn(async move { (key, apply::patch_pod(client, patch).await) });
        }
    }

    fn pod_written(&mut self, (key, result): (Key, Result<Written, WriteError>)) {
        self.metrics.pod_written(result.as_ref().err());
        match result {
            Ok(Written { metadata, is_kept: true }) => {
                tracing::debug!(namespace = key.namespace, pod = key.name, "patched pod");
                self.world.written(&key, metadata);
                self.pods.finished(&key);
            }
            Ok(Written { metadata, is_kept: false }) => {
                self.world.written(&key, metadata);
                self.pod_failed(&key, WriteError::ChangedBack);
            }
            Err(error @ (WriteError::Gone | WriteError::Changed)) => {
                tracing::debug!(namespace = key.namespace, pod = key.name, %error, "did not patch pod");
                self.pods.finished(&key);
                self.pods.push_at(&key, Instant::now() + WATCH_DELAY);
            }
            Err(error) => self.pod_failed(&key, error),
        }
    }

    fn pod_failed(&mut self, key: &Key, error: WriteError) {
        tracing::warn!(namespace = key.namespace, pod = key.name, %error, "could not patch pod; trying again");
        self.pods.failed(key, Instant::now());
        self.world.write_failed(key, error);
    }

    /// Statuses wait while pods are being written, but not for ever; and always for decisions, or they would speak of a spec that is no
    /// longer there.
    fn schedule_statuses(&mut self, now: Instant) {
        for id in self.world.take_changed_policies() {
            self.changed.entry(id.clone()).or_insert(now);
            self.unsettled.entry(id).or_insert(now);
        }
        if self.world.has_undecided() {
            return;
        }
        let is_settled = self.pods.is_idle();
        let statuses = &mut self.statuses;
        self.unsettled.retain(|id, since| {
            let is_due = is_settled || now.duration_since(*since) >= STATUS_INTERVAL;
            if is_due {
                statuses.push(id);
            }
            !is_due
        });
    }

    fn start_status_writes(&mut self, now: Instant) {
        if now < self.statuses_rest {
            return;
        }
        let started = Instant::now();
        while self.status_writes.len() < STATUS_CONCURRENCY {
            let Some(id) = self.statuses.pop(now) else { break };
            let blindness = self.world.blindness();
            let Some((slot, pods)) = self.world.policy(&id) else {
                self.statuses.finished(&id);
                self.changed.remove(&id);
                self.events.forget(&id);
                continue;
            };
            let time = Timestamp::now();
            let wanted = if slot.status.conditions.is_empty() {
                status::unknown(slot, time)
            } else {
                let at_creation = self.world.at_creation(slot);
                let exec_checked = self.world.exec_checked(slot);
                let refused_everywhere = self.world.refused_everywhere(slot);
                let aside = self.world.aside(slot);
                let around = status::Around {
                    blindness: blindness.as_deref(),
                    at_creation: at_creation.as_ref(),
                    exec_checked: exec_checked.as_ref(),
                    refused_everywhere: &refused_everywhere,
                    aside: &aside,
                    rollout: self.rollouts.of(&id),
                };
                status::of(slot, pods, around, time)
            };
            self.events.look_at(&id, &slot.uid, &slot.status);
            if wanted == slot.status {
                self.statuses.finished(&id);
                self.changed.remove(&id);
                continue;
            }
            let interval = if self.rollouts.is_moving(&id) { ROLLOUT_INTERVAL } else { NUMBERS_INTERVAL };
            if status::can_wait(&slot.status, &wanted)
                && let Some(turn) = self.spacing.turn(&id, interval, now)
            {
                self.statuses.finished(&id);
                self.statuses.push_at(&id, turn);
                continue;
            }
            self.spacing.done(&id, now);
            let (client, uid) = (self.client.clone(), slot.uid.clone());
            self.status_writes.spawn(async move { (id.clone(), apply::patch_status(client, id, uid, wanted).await) });
        }
        let ended = Instant::now();
        self.statuses_rest = ended + (STATUS_REST * ended.duration_since(started)).min(STATUS_INTERVAL);
    }

    fn status_written(&mut self, (id, result): (PolicyId, Result<Observed, WriteError>)) {
        self.metrics.status_written(result.as_ref().err());
        match result {
            Ok(policy) => {
                self.world.status_written(policy);
                self.rollouts.stale();
                self.statuses.finished(&id);
                self.status_stands(&id);
            }
            Err(error @ (WriteError::Gone | WriteError::Changed)) => {
                tracing::debug!(policy = %id, %error, "did not write status");
                self.statuses.finished(&id);
            }
            Err(error) => {
                tracing::warn!(policy = %id, %error, "could not write status; trying again");
                self.metrics.reconcile_failed(&error);
                self.statuses.failed(&id, Instant::now());
            }
        }
    }

    /// The policy's status has been written.
    fn status_stands(&mut self, id: &PolicyId) {
        let Some((slot, _)) = self.world.policy(id) else { return };
        // Before the first look at the pods it says nothing yet.
        if slot.status.pods.is_none() {
            return;
        }
        if let Some(since) = self.changed.remove(id) {
            self.metrics.reconciled(since.elapsed());
        }
        self.events.tell(id, slot, Instant::now());
    }

    fn next_wake(&self, now: Instant) -> Instant {
        if self.was_synced && self.world.has_undecided() {
            return now;
        }
        let settle = self.unsettled.values().min().map(|since| *since + STATUS_INTERVAL);
        let rest = (!self.statuses.is_idle()).then_some(self.statuses_rest).filter(|end| *end > now);
        [self.pods.next_due(), self.statuses.next_due(), self.rollouts.next_due(), rest, settle]
            .into_iter()
            .flatten()
            .fold(now + HEARTBEAT, Instant::min)
    }

    fn measure(&mut self, now: Instant) {
        self.metrics.set_queued(self.pods.depth());
        if now < self.census_due {
            return;
        }
        let started = Instant::now();
        self.metrics.set_census(&self.world.census(), self.world.backend());
        let ended = Instant::now();
        self.census_due = ended + (CENSUS_REST * ended.duration_since(started)).max(CENSUS_INTERVAL);
    }

    /// Lets the writes that are under way end; none is cut off in the middle, unless the API server takes too long.
    async fn finish(mut self) {
        let under_way = self.pod_writes.len() + self.status_writes.len();
        tracing::info!(under_way, "stopping; finishing writes");
        let drain = async {
            while self.pod_writes.join_next().await.is_some() {}
            while self.status_writes.join_next().await.is_some() {}
            while self.rollouts.ended().await.is_some() {}
        };
        if tokio::time::timeout(STOP_TIMEOUT, drain).await.is_err() {
            tracing::warn!("some writes did not end in time; they are decided anew at the next start");
        }
    }
}
