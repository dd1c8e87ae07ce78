//! Which of several operators acts: the one that holds a Lease. The others watch and answer the webhook, so that one of them can take over
//! at once; they write nothing.
//!
//! The one that leads is sure of it only for a while after each renewal, by its own clock. When that is over, its writes are stopped where
//! they leave the process, whatever the rest of it believes: it may have been stopped or cut off in between.

mod gate;
mod keeper;
mod lease;

use std::time::Duration;

use kube::Client;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};

use gate::Gate;
pub(crate) use gate::NotLeading;

/// The name of the operator's Lease.
pub const LEASE_NAME: &str = "podpolicy";

/// The Lease that decides who leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Election {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// Who this operator is; no two may be the same.
    pub identity: String,
    /// How long things take.
    pub times: ElectionTimes,
}

/// How long it takes to lose a Lease, and to get one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ElectionTimes {
    /// How long the others wait without a renewal before one of them takes the Lease. Whole seconds.
    pub duration: Duration,
    /// How long the holder acts after a renewal; shorter, so that what it has sent by then has arrived before another acts.
    pub deadline: Duration,
    /// How often the holder renews, and the others look.
    pub period: Duration,
}

impl Default for ElectionTimes {
    /// As Kubernetes' own controllers do it.
    fn default() -> Self {
        Self { duration: Duration::from_secs(15), deadline: Duration::from_secs(10), period: Duration::from_secs(2) }
    }
}

/// Whether this operator leads.
pub(crate) struct Leadership {
    gate: Gate,
    told: watch::Sender<bool>,
    leading: watch::Receiver<bool>,
    resign: watch::Sender<bool>,
    keeper: JoinSet<()>,
}

impl Leadership {
    /// Runs for the Lease; without one it leads from the start.
    pub(crate) fn run_for(client: &Client, election: Option<Election>) -> Self {
        let gate = if election.is_some() { Gate::closed() } else { Gate::open() };
        let (told, leading) = watch::channel(election.is_none());
        let (resign, resigning) = watch::channel(false);
        let mut keeper = JoinSet::new();
        if let Some(election) = election {
            keeper.spawn(keeper::keep(client.clone(), election, gate.clone(), told.clone(), resigning));
        }
        Self { gate, told, leading, resign, keeper }
    }

    /// A client whose writes fail when this operator does not lead.
    pub(crate) fn guard(&self, client: Client) -> Client {
        if self.keeper.is_empty() { client } else { self.gate.guard(&client) }
    }

    /// Whether it leads now.
    pub(crate) fn leads(&self) -> bool {
        self.gate.is_open()
    }

    /// When it begins and ends.
    pub(crate) fn leading(&self) -> watch::Receiver<bool> {
        self.told.subscribe()
    }

    /// Waits until it begins or ends, or the keeper panicked.
    pub(crate) async fn changed(&mut self) -> Result<(), JoinError> {
        tokio::select! {
            Ok(()) = self.leading.changed() => Ok(()),
            Some(ended) = self.keeper.join_next() => ended,
            else => std::future::pending().await,
        }
    }

    /// Gives it up, so that another need not wait.
    pub(crate) async fn resign(mut self) {
        self.resign.send_replace(true);
        while self.keeper.join_next().await.is_some() {}
    }
}
