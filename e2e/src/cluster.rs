//! A cluster whose pods run, for the tests that need one: a [`Node`] of our own, or a cluster that a person names.
//!
//! Must never use a cluster that nobody named: `KUBECONFIG` alone is not enough.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::binaries;
use crate::kubectl::Kubectl;
use crate::node::Node;
use crate::watchdog::Watchdog;

/// Names the context of the cluster to use, in the file that `KUBECONFIG` names. Unset: a node of our own.
pub const CONTEXT: &str = "PODPOLICY_E2E_CONTEXT";

/// The image with busybox; every cluster here has it.
pub const BUSYBOX: &str = "podpolicy.invalid/busybox:1";

/// The image with kubectl; see [`Cluster::provide`].
pub const KUBECTL: &str = "podpolicy.invalid/kubectl:1";

/// A cluster whose pods run.
#[derive(Debug)]
pub struct Cluster {
    kind: Kind,
    config: Config,
    kubectl: Kubectl,
    // The one that tests share is never dropped: then the watchdog removes the directory.
    _watchdog: Watchdog,
    _directory: TempDir,
}

#[derive(Debug)]
enum Kind {
    Own(Node),
    Named(String),
}

/// The cluster that the tests of one test binary share. One of our own ends with their process.
pub async fn shared() -> &'static Cluster {
    static SHARED: OnceCell<Cluster> = OnceCell::const_new();
    SHARED.get_or_init(|| async { Cluster::get().await.unwrap_or_else(|error| panic!("no cluster: {error:#}")) }).await
}

impl Cluster {
    /// The cluster that [`CONTEXT`] names, or else a node that is started now.
    pub async fn get() -> anyhow::Result<Self> {
        let (kind, kubeconfig) = match env::var(CONTEXT) {
            Err(_) => {
                let node = Node::start().await?;
                let kubeconfig = node.kubeconfig().to_owned();
                (Kind::Own(node), kubeconfig)
            }
            Ok(context) => {
                let file = env::var_os("KUBECONFIG").with_context(|| format!("context {context} of which file? set KUBECONFIG"))?;
                (Kind::Named(context), PathBuf::from(file))
            }
        };
        let directory = tempfile::Builder::new().prefix("podpolicy-e2e-").tempdir().context("no temporary directory")?;
        let mut watchdog = Watchdog::start()?;
        watchdog.remove(directory.path())?;
        let binary = binaries::of_control_plane(&["kubectl"]).await?.join("kubectl");
        let mut kubectl = Kubectl::new(binary, kubeconfig, directory.path());
        let mut options = KubeConfigOptions::default();
        if let Kind::Named(context) = &kind {
            kubectl = kubectl.with_context(context);
            options.context = Some(context.clone());
        }
        let parsed = Kubeconfig::read_from(kubectl.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(parsed, &options).await?;
        let cluster = Self { kind, config, kubectl, _watchdog: watchdog, _directory: directory };
        if let Kind::Named(_) = cluster.kind {
            cluster.provide(BUSYBOX).await?;
        }
        Ok(cluster)
    }

    /// A new client with all rights. It belongs to the Tokio runtime that it is made on, so each test makes its own.
    pub fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::try_from(self.config())?)
    }

    /// The configuration of a client with all rights.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// kubectl, of the version that our own node has.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The node, when it is our own.
    pub fn node(&self) -> Option<&Node> {
        match &self.kind {
            Kind::Own(node) => Some(node),
            Kind::Named(_) => None,
        }
    }

    /// Makes sure that pods can use one of the images here: [`BUSYBOX`] or [`KUBECTL`].
    pub async fn provide(&self, image: &str) -> anyhow::Result<()> {
        let name = image.strip_prefix("podpolicy.invalid/").and_then(|image| image.strip_suffix(":1"));
        let archive = format!("{}.tar", name.with_context(|| format!("{image} is no image of ours"))?);
        let archive = binaries::of_node(&[&archive]).await?.join(archive);
        self.import_image(&archive)
    }

    /// Makes an image known to the cluster, from an archive in the format of `docker save`. Pods need `imagePullPolicy: Never`.
    pub fn import_image(&self, archive: &Path) -> anyhow::Result<()> {
        let context = match &self.kind {
            Kind::Own(node) => return node.import_image(archive),
            Kind::Named(context) => context,
        };
        let mut import = if let Some(name) = context.strip_prefix("kind-") {
            let mut kind = Command::new("kind");
            kind.args(["load", "image-archive", "--name", name]);
            kind
        } else if let Some(name) = context.strip_prefix("k3d-") {
            let mut k3d = Command::new("k3d");
            k3d.args(["image", "import", "--cluster", name]);
            k3d
        } else {
            bail!("images can be brought into clusters of kind and k3d, and {context} is neither");
        };
        let status = import.arg(archive).status().context("kind or k3d could not be started")?;
        anyhow::ensure!(status.success(), "{} could not be brought into {context}: {status}", archive.display());
        Ok(())
    }
}
