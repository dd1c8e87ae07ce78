//! A Kubernetes control plane without nodes: etcd, kube-apiserver and, when asked, kube-controller-manager.
//!
//! Pods can be created and stay as they are; nothing runs them. Must never use a cluster that was there before, listen
//! elsewhere than on loopback, or leave a process or a directory behind.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::conditions::is_crd_established;
use kube::{Api, Client, Config, ResourceExt as _};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::binaries;
use crate::controller_manager::ControllerManager;
use crate::kubectl::Kubectl;
use crate::objects;
use crate::process::Process;
use crate::servers::Servers;
use crate::wait::{self, DEADLINE, Seen, eventually};

/// What a control plane has beside etcd and kube-apiserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The project's custom resource definitions, from `crds/`.
    pub crds: bool,
    /// kube-controller-manager. Without it only the test itself sends requests, but Deployments make no pods, and
    /// namespaces are never gone.
    pub controller_manager: bool,
}

impl Default for Options {
    /// Everything.
    fn default() -> Self {
        Self { crds: true, controller_manager: true }
    }
}

/// A running control plane. It ends with its directory when it is dropped, and when this process ends in whatever way.
#[derive(Debug)]
pub struct ControlPlane {
    // Dropped in this order: first who asks, then who answers, and the files last.
    controller_manager: Option<ControllerManager>,
    servers: Servers,
    config: Config,
    kubectl: Kubectl,
    directory: TempDir,
}

/// The control plane, with everything, that the tests of one test binary share; it ends with their process.
///
/// Each test makes a client and a namespace of its own. A test that counts requests needs a control plane of its own.
pub async fn shared() -> &'static ControlPlane {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    let start = || async { ControlPlane::start(Options::default()).await.unwrap_or_else(|error| panic!("no control plane: {error:#}")) };
    SHARED.get_or_init(start).await
}

impl ControlPlane {
    /// Starts one and waits until it answers. Builds the binaries first when they are not there, which takes long.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let binaries = binaries::of_control_plane(&[]).await?;
        let directory = tempfile::Builder::new().prefix("podpolicy-e2e-").tempdir().context("no temporary directory")?;
        let servers = Servers::start(&binaries, directory.path()).await?;
        let kubeconfig = directory.path().join("kubeconfig");
        write_private(&kubeconfig, servers.kubeconfig())?;
        let parsed: Kubeconfig = serde_json::from_str(servers.kubeconfig()).context("envtest gave no kubeconfig")?;
        let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await?;

        let controller_manager = options.controller_manager.then(|| {
            let log = directory.path().join("kube-controller-manager.log");
            ControllerManager::start(&binaries.join("kube-controller-manager"), &kubeconfig, log)
        });
        let controller_manager = controller_manager.transpose()?;
        let kubectl = Kubectl::new(binaries.join("kubectl"), kubeconfig, directory.path());
        let mut plane = Self { controller_manager, servers, config, kubectl, directory };
        if options.crds {
            plane.install_crds(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds")).await?;
        }
        let client = plane.client();
        if let Some(manager) = &mut plane.controller_manager {
            manager.ready(&client).await?;
        }
        Ok(plane)
    }

    /// Applies the custom resource definitions in the `*.yaml` files of a directory and waits until they are served.
    pub async fn install_crds(&self, directory: &Path) -> anyhow::Result<()> {
        let entries = fs::read_dir(directory).with_context(|| format!("{} cannot be read", directory.display()))?;
        let mut files: Vec<_> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
        files.sort();
        anyhow::ensure!(!files.is_empty(), "{} holds no *.yaml with custom resource definitions", directory.display());

        let client = self.client();
        for file in files {
            let text = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
            let applied = objects::apply(&client, "default", &text).await.with_context(|| format!("in {}", file.display()))?;
            for definition in applied {
                let definition = definition.try_parse().with_context(|| format!("{} holds something else", file.display()))?;
                served(&client, &definition).await?;
            }
        }
        Ok(())
    }

    /// A new client with all rights. It belongs to the Tokio runtime that it is made on, so each test makes its own.
    pub fn client(&self) -> Client {
        client(self.config())
    }

    /// A new client that acts as this user in these groups, with the rights that RBAC gives them.
    ///
    /// A service account is `system:serviceaccount:NAMESPACE:NAME`, in the groups `system:serviceaccounts`,
    /// `system:serviceaccounts:NAMESPACE` and `system:authenticated`.
    pub fn client_as(&self, user: &str, groups: &[&str]) -> Client {
        let mut config = self.config();
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect());
        client(config)
    }

    /// The configuration of a client with all rights.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// A kubeconfig file with all rights, for other programs. It goes when the control plane goes.
    pub fn kubeconfig_path(&self) -> &Path {
        self.kubectl.kubeconfig()
    }

    /// The kubectl of the same version, for this control plane. It neither reads nor writes the user's own files.
    pub fn kubectl(&self) -> Command {
        self.kubectl.command()
    }

    /// What kubectl writes to its standard output; an error with all that it writes when it fails.
    pub fn kubectl_output(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl.output(arguments)
    }

    /// etcd, for tests that pause or kill it.
    pub fn etcd(&self) -> Process {
        self.servers.etcd()
    }

    /// kube-apiserver, for tests that pause or kill it.
    pub fn api_server(&self) -> Process {
        self.servers.api_server()
    }

    /// kube-controller-manager, when it was asked for.
    pub fn controller_manager(&self) -> Option<Process> {
        self.controller_manager.as_ref().map(ControllerManager::process)
    }

    /// The directory of the kubeconfig and of logs. It goes when the control plane goes.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

fn client(config: Config) -> Client {
    Client::try_from(config).expect("envtest's certificates, which made the first client, make every other")
}

/// Waits until the objects of a custom resource definition can be listed; `Established` alone comes a moment too early.
async fn served(client: &Client, definition: &CustomResourceDefinition) -> anyhow::Result<()> {
    let name = definition.name_any();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    wait::object(&definitions, &name, &format!("{name} to be established"), DEADLINE, is_crd_established()).await?;
    for version in definition.spec.versions.iter().filter(|version| version.served) {
        let kind = GroupVersionKind::gvk(&definition.spec.group, &version.name, &definition.spec.names.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, &definition.spec.names.plural);
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        eventually(&format!("{name} {} to be served", version.name), DEADLINE, async || {
            Ok(match objects.list(&ListParams::default().limit(1)).await {
                Ok(_) => Seen::Done(()),
                Err(kube::Error::Api(status)) => Seen::NotYet(status.to_string()),
                Err(error) => return Err(error.into()),
            })
        })
        .await?;
    }
    Ok(())
}

/// Writes a file that only this user may read: whoever has a kubeconfig has all rights.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("{} could not be created", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("{} could not be written", path.display()))
}
