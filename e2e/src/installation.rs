//! The operator as pods of a cluster, from the manifests and the image that people install.
//!
//! Must never be put over an operator that was there before.

use std::env;
use std::path::PathBuf;

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::OnceCell;

use crate::cluster::{self, Cluster};
use crate::process::Process;
use crate::wait::{DEADLINE, Seen, eventually};
use crate::{Kubectl, Overlay};

/// Where the operator is.
pub const NAMESPACE: &str = "podpolicy-system";

/// Names the archive with the operator's image, which `node/operator.sh` makes.
pub const IMAGE: &str = "PODPOLICY_E2E_IMAGE";

/// The name and tag of the image in the archive.
const IMAGE_NAME: (&str, &str) = ("podpolicy.invalid/podpolicy", "1");

/// The label of all that is installed; `node/test.sh` finds by it what is to go from a cluster that is not ours.
const MARK: &str = "e2e.example.com/installed";

/// An operator that was installed, with all of its replicas ready.
#[derive(Debug)]
pub struct Installation {
    kubectl: Kubectl,
    overlay: Overlay,
}

/// The operator on the cluster that the tests of one test binary share.
pub async fn shared() -> &'static Installation {
    static SHARED: OnceCell<Installation> = OnceCell::const_new();
    let install = || async {
        let installed = Installation::install(cluster::shared().await, "").await;
        installed.unwrap_or_else(|error| panic!("the operator could not be installed: {error:#}"))
    };
    SHARED.get_or_init(install).await
}

impl Installation {
    /// Installs it with one command on a cluster that has none, and waits until all replicas are ready. The kustomization has these further
    /// lines.
    pub async fn install(cluster: &Cluster, more: &str) -> anyhow::Result<Self> {
        let namespaces: Api<Namespace> = Api::all(cluster.client()?);
        let there = namespaces.get_opt(NAMESPACE).await?;
        anyhow::ensure!(there.is_none(), "the cluster has a namespace {NAMESPACE}: delete it if it is of no use, or use another cluster");

        let archive =
            env::var_os(IMAGE).with_context(|| format!("{IMAGE} is not set: run `just e2e`, which builds the image and sets it"))?;
        cluster.import_image(&PathBuf::from(archive))?;
        let (name, tag) = IMAGE_NAME;
        let lines = format!(
            "images: [{{ name: podpolicy, newName: {name}, newTag: '{tag}' }}]\nlabels: [{{ pairs: {{ {MARK}: 'true' }} }}]\n{more}"
        );
        let installation =
            Self { kubectl: cluster.kubectl().clone(), overlay: Overlay::new(&["components/evict", "components/restart"], &lines)? };
        installation.kubectl(&["apply", "--server-side", "-k", installation.overlay.path()]).await?;
        installation.rolled_out().await?;
        Ok(installation)
    }

    /// Waits until all replicas are of the newest template and ready.
    pub async fn rolled_out(&self) -> anyhow::Result<()> {
        self.kubectl(&["rollout", "status", "deployment/podpolicy", "--namespace", NAMESPACE, "--timeout=300s"]).await.map(drop)
    }

    /// The folder of its kustomization.
    pub fn folder(&self) -> &str {
        self.overlay.path()
    }

    /// What kubectl writes to its standard output. Fails where it warns, too: nothing here is worth a warning.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.kubectl.command();
        command.args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let failed = !output.status.success() || stderr.contains("Warning");
        anyhow::ensure!(!failed, "kubectl {} ended with {}: {stdout}{stderr}", arguments.join(" "), output.status);
        Ok(stdout.into_owned())
    }
}

/// The pods of the operator that are not on their way out.
pub async fn pods(client: &Client) -> anyhow::Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let mut pods = pods.list(&ListParams::default()).await?.items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(pods)
}

/// Waits until the Lease is held by another than `before`, and returns who holds it: a pod's name, and what tells its operator from an earlier
/// one in the same pod.
pub async fn leader(client: &Client, before: Option<&str>) -> anyhow::Result<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    eventually(&format!("an operator other than {before:?} to lead"), DEADLINE, async || {
        let lease = leases.get_opt("podpolicy").await?;
        let holder = lease.and_then(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty());
        Ok(match holder {
            Some(holder) if Some(holder.as_str()) != before => Seen::Done(holder),
            holder => Seen::NotYet(format!("{holder:?}")),
        })
    })
    .await
}

/// The process of the operator in this pod, on a node of our own.
pub async fn process(cluster: &Cluster, pod: &str) -> anyhow::Result<Process> {
    let node = cluster.node().context("processes can be reached on a node of our own only")?;
    let pods: Api<Pod> = Api::namespaced(cluster.client()?, NAMESPACE);
    let pod = pods.get(pod).await?;
    let status = pod.status.and_then(|status| status.container_statuses?.into_iter().next());
    let container = status.and_then(|status| status.container_id).context("its container does not run")?;
    let container = container.rsplit('/').next().unwrap_or_default().to_owned();
    node.process_of_container(&container)
}
