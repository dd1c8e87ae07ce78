//! What somebody who is not the operator sees of a cluster: its policies, and what they make of its pods. It decides as the operator does, and
//! never writes.

use std::{sync::Arc, time::Duration};

use kube::Client;
use podpolicy_api::PodPolicyStatus;
use podpolicy_engine::{Outcome, Pod, Policy};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    config::{Config, Watched},
    guard::{self, GuardState},
    observe::{self, Failure, Observation, What},
    source::{SelectingKind, Source, Watchable},
    support,
    world::World,
};

/// How long the first look may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long nothing must happen before it is looked again.
const QUIET: Duration = Duration::from_millis(300);

/// How many pods are decided in one go.
const AT_ONCE: usize = 1_000;

/// A cluster, or a part of it, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The policies, in order: the first that sets a field wins it.
    pub policies: Vec<SeenPolicy>,
    /// The pods, by namespace and name.
    pub pods: Vec<SeenPod>,
    /// What could not be seen, in words; what depends on it may be wrong.
    pub blindness: Option<String>,
}

/// A policy.
#[derive(Clone, Debug)]
pub struct SeenPolicy {
    /// What it says.
    pub policy: Arc<Policy>,
    /// What the operator reports of it.
    pub status: PodPolicyStatus,
    /// Which generation it is.
    pub generation: Option<i64>,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct SeenPod {
    /// As it is.
    pub pod: Pod,
    /// What the policies make of it.
    pub outcome: Outcome,
}

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The API server does not know PodPolicies.
    #[error("the cluster does not know PodPolicies; install them with `podpolicy crd | kubectl apply --server-side -f -`")]
    NotInstalled,
    /// The API server cannot be asked, or answers with an error that is no refusal.
    #[error("cannot list {resource}: {cause}")]
    Failing {
        /// What was asked for.
        resource: String,
        /// The answer.
        cause: String,
    },
    /// Not everything came in time.
    #[error("the cluster did not list {} within {} s", .0.join(", "), PATIENCE.as_secs())]
    TooSlow(Vec<String>),
}

/// Sees a cluster as it changes.
pub struct Snapshots {
    client: Client,
    own_namespace: String,
    world: World,
    observations: mpsc::Receiver<Observation>,
    _watches: JoinSet<()>,
    has_begun: bool,
}

impl Snapshots {
    /// Begins to look at one namespace, or at all. Which namespaces are excluded and which keys are protected says the operator's
    /// configuration, which must be the same here.
    pub fn new(client: &Client, namespace: Option<&str>, config: Config) -> Self {
        let sources = namespace.map_or_else(|| observe::sources(&Watched::Cluster), of_namespace);
        let (sender, observations) = mpsc::channel(AT_ONCE);
        let watches = observe::start(client, &sources, &sender);
        let own_namespace = config.own_namespace.clone();
        let mut world = World::new(config, &sources);
        // Until it is looked at.
        world.guard_changed(Arc::new(GuardState::as_remembered()));
        Self { client: client.clone(), own_namespace, world, observations, _watches: watches, has_begun: false }
    }

    /// The first time once all has been seen, later when something may have changed and nothing has for a moment.
    pub async fn next(&mut self) -> Result<Snapshot, SnapshotError> {
        if self.has_begun {
            self.take_in().await?;
            while let Ok(seen) = timeout(QUIET, self.take_in()).await {
                seen?;
            }
        } else {
            let in_time = timeout(PATIENCE, self.see_all()).await;
            in_time.unwrap_or_else(|_| Err(SnapshotError::TooSlow(self.world.unsynced())))?;
            // Without an answer, newer fields count as kept.
            if let Ok(found) = support::ask(&self.client, &self.own_namespace).await {
                self.world.set_support(found);
            }
            self.has_begun = true;
        }
        if self.world.has_commands() {
            self.world.guard_changed(Arc::new(guard::as_read(&self.client).await));
        }
        loop {
            self.world.plan(AT_ONCE);
            if !self.world.has_undecided() {
                return Ok(self.world.snapshot());
            }
            tokio::task::yield_now().await;
        }
    }

    async fn see_all(&mut self) -> Result<(), SnapshotError> {
        while !self.world.is_synced() {
            self.take_in().await?;
        }
        Ok(())
    }

    async fn take_in(&mut self) -> Result<(), SnapshotError> {
        let Some(observation) = self.observations.recv().await else {
            // The watches have ended, which they do only with the program.
            sleep(PATIENCE).await;
            return Ok(());
        };
        let Observation { source, what } = &observation;
        let is_policies = matches!(source.resource, Watchable::PodPolicies | Watchable::ClusterPodPolicies);
        match what {
            What::Failing(Failure::NotServed) if is_policies => return Err(SnapshotError::NotInstalled),
            What::Failing(Failure::Other(cause)) if !self.has_begun => {
                return Err(SnapshotError::Failing { resource: source.resource.to_string(), cause: cause.clone() });
            }
            What::Applied(_) | What::Deleted(_) | What::Listed(_) | What::Failing(_) => {}
        }
        self.world.observe(observation);
        Ok(())
    }
}

/// What matters to the pods of one namespace.
fn of_namespace(namespace: &str) -> Vec<Source> {
    let here = [Watchable::PodPolicies, Watchable::Pods].into_iter().chain(SelectingKind::ALL.map(Watchable::Selecting));
    let here = here.map(|resource| Source { resource, namespace: Some(namespace.to_owned()) });
    let everywhere = [Watchable::ClusterPodPolicies, Watchable::Namespaces].map(|resource| Source { resource, namespace: None });
    here.chain(everywhere).collect()
}
