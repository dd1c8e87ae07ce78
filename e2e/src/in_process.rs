//! The operator inside the test process: quick to start and stop, and with a client that a test can listen in on. Tests of the
//! program itself (flags, signals, endpoints) use [`crate::Operator`].

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, anyhow};
use kube::Client;
use podpolicy_controller::{Config, Health, Metrics, RunError, Watched};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::wait::{self, Seen};

/// An operator that runs as a task of the test. Dropping it ends it in the middle of whatever it does, as a crash would.
pub struct InProcess {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), RunError>>,
    /// What its probes would say.
    pub health: Arc<Health>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

impl InProcess {
    /// Starts an operator that acts in one namespace only, and waits until it has listed everything.
    pub async fn in_namespace(client: Client, namespace: &str) -> anyhow::Result<Self> {
        let watched = Watched::Namespaces(BTreeSet::from([namespace.to_owned()]));
        Self::start(client, Config { watched, ..Config::default() }).await
    }

    /// Starts an operator, and waits until it has listed everything.
    pub async fn start(client: Client, config: Config) -> anyhow::Result<Self> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
        let stopped = async move {
            // A sender that is dropped says stop as well; but then the task is aborted anyway.
            let _ = stopped.await;
        };
        let task = tokio::spawn(podpolicy_controller::run(client, config, Arc::clone(&health), Arc::clone(&metrics), stopped));
        let operator = Self { stop: Some(stop), task, health, metrics };
        wait::eventually("the operator has listed everything", wait::DEADLINE, async || {
            Ok(Seen::when(operator.health.is_ready(), "not ready"))
        })
        .await?;
        Ok(operator)
    }

    /// Asks it to stop, and waits until its last writes are done.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let stop = self.stop.take().context("an operator is stopped once")?;
        stop.send(()).map_err(|()| anyhow!("the operator had ended by itself"))?;
        (&mut self.task).await??;
        Ok(())
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.task.abort();
    }
}
