//! Keeps the Lease, or looks after it until it can be taken.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::PostParams};
use tokio::sync::watch;

use super::{
    Election, Gate,
    lease::{self, Move, Sight},
};
use crate::causes;

/// How long giving up the Lease may take.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs for the Lease and keeps it, until `stop` says so: then it is given up. `leading` says when leadership begins and ends; the gate
/// knows at any moment.
pub(crate) async fn keep(client: Client, election: Election, gate: Gate, leading: watch::Sender<bool>, mut stop: watch::Receiver<bool>) {
    let mut keeper = Keeper {
        leases: Api::namespaced(client, &election.namespace),
        election,
        sight: Sight::default(),
        gate,
        leading,
        end: None,
        told: None,
    };
    loop {
        let wake = keeper.round().await;
        tokio::select! {
            () = tokio::time::sleep_until(wake.into()) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    if keeper.end.is_some() {
        keeper.lose();
        if let Ok(Err(error)) = tokio::time::timeout(RELEASE_TIMEOUT, keeper.release()).await {
            tracing::debug!(%error, "could not give up the Lease");
        }
    }
}

struct Keeper {
    leases: Api<Lease>,
    election: Election,
    sight: Sight,
    gate: Gate,
    leading: watch::Sender<bool>,
    /// Until when this operator leads.
    end: Option<Instant>,
    /// The trouble that was logged last.
    told: Option<String>,
}

/// Who holds the Lease.
#[derive(Clone, Copy)]
enum Held {
    /// This operator, for so long.
    Until(Instant),
    ByAnother,
    /// Somebody else wrote at the same time. The next look tells.
    Unknown,
}

impl Keeper {
    /// Looks after the Lease once, and says when to do so again.
    async fn round(&mut self) -> Instant {
        let now = Instant::now();
        if self.end.is_some_and(|end| now >= end) {
            tracing::warn!("the Lease could not be renewed in time: another operator may lead now");
            self.lose();
        }
        let patience = self.end.map_or(self.election.times.deadline, |end| end - now);
        match tokio::time::timeout(patience, self.step(now)).await {
            Ok(Ok(held)) => {
                self.told = None;
                self.take_in(held);
            }
            Ok(Err(error)) => self.tell(&causes::of_request(&error)),
            Err(_) => self.tell("the API server does not answer"),
        }
        let next = now + self.election.times.period;
        self.end.map_or(next, |end| end.min(next))
    }

    /// Looks at the Lease and does what is to be done.
    async fn step(&mut self, start: Instant) -> kube::Result<Held> {
        let lease = self.leases.get_opt(&self.election.name).await?;
        // The holder counts from before it asked, the others from after they were answered.
        let written = match self.sight.next(&self.election, lease, Instant::now(), Timestamp::now()) {
            Move::Create(lease) => self.leases.create(&PostParams::default(), &lease).await,
            Move::Replace(lease) => self.leases.replace(&self.election.name, &PostParams::default(), &lease).await,
            Move::Wait => return Ok(Held::ByAnother),
        };
        match written {
            Ok(_) => Ok(Held::Until(start + self.election.times.deadline)),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Held::Unknown),
            Err(error) => Err(error),
        }
    }

    fn take_in(&mut self, held: Held) {
        match held {
            Held::Until(end) => {
                self.gate.open_until(end);
                if self.end.replace(end).is_none() {
                    tracing::info!(lease = self.election.name, "this operator leads");
                    self.leading.send_replace(true);
                }
            }
            Held::ByAnother if self.end.is_some() => {
                tracing::warn!("another operator has taken the Lease");
                self.lose();
            }
            Held::ByAnother | Held::Unknown => {}
        }
    }

    fn lose(&mut self) {
        self.gate.close();
        self.end = None;
        self.leading.send_replace(false);
    }

    async fn release(&self) -> kube::Result<()> {
        if let Some(lease) = self.leases.get_opt(&self.election.name).await?
            && lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) == Some(&self.election.identity)
        {
            self.leases.replace(&self.election.name, &PostParams::default(), &lease::released(lease, Timestamp::now())).await?;
        }
        Ok(())
    }

    fn tell(&mut self, trouble: &str) {
        let Election { namespace, name, .. } = &self.election;
        if self.told.as_deref() != Some(trouble) {
            tracing::warn!("cannot keep or take the Lease {namespace}/{name}, in the namespace that --own-namespace names: {trouble}");
            self.told = Some(trouble.to_owned());
        }
    }
}
