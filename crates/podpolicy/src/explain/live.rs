//! A pod of a cluster, and what the policies there make of it.

use anyhow::{Context as _, Result, bail};
use podpolicy_controller::{Config, SeenPod, Snapshots};

use super::Explained;
use crate::{
    cluster::{self, Cluster},
    output,
};

/// Finds the pod of that name.
pub(super) fn find(pod: &str, namespace: Option<String>, cluster: &Cluster) -> Result<Explained> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(ask(pod, namespace, cluster))
}

async fn ask(pod: &str, namespace: Option<String>, cluster: &Cluster) -> Result<Explained> {
    let name = pod.strip_prefix("pod/").or_else(|| pod.strip_prefix("pods/")).unwrap_or(pod);
    let config = cluster.config().await?;
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let title = cluster::title(&config);
    let client = cluster::client(config)?;
    let operator = Config::default();
    let is_excluded = operator.excluded_namespaces.contains(&namespace);
    let snapshot = Snapshots::new(&client, Some(&namespace), operator).next().await.context(title)?;
    if let Some(blindness) = &snapshot.blindness {
        output::warn(&format!("what follows may be incomplete: {blindness}"));
    }
    let existing = snapshot.blindness.is_none().then(|| snapshot.policies.iter().map(|seen| seen.policy.id().clone()).collect());
    match snapshot.pods.into_iter().find(|seen| seen.pod.name == name) {
        Some(SeenPod { pod, outcome }) => Ok(Explained { pod, outcome, described: None, existing, is_excluded }),
        None => bail!("there is no pod {name} in namespace {namespace}; `kubectl get pods -n {namespace}` lists those that are there"),
    }
}
