//! Which cluster a command talks to, by kubectl's rules.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// What of the command line names the cluster.
#[derive(Args, Debug)]
pub(crate) struct Cluster {
    /// The kubeconfig file [default: $KUBECONFIG, ~/.kube/config, or the ServiceAccount of the pod]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig to use
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl Cluster {
    /// The cluster's address and credentials.
    pub(crate) async fn config(&self) -> Result<Config> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let unusable_context = || {
            let name = self.context.as_deref().unwrap_or("current-context");
            format!("--context {name} cannot be used; `kubectl config get-contexts` lists those that the kubeconfig has")
        };
        match &self.kubeconfig {
            Some(file) => {
                let unusable = || format!("--kubeconfig {} cannot be used; give the path of a kubeconfig file", file.display());
                let kubeconfig = Kubeconfig::read_from(file).with_context(unusable)?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.with_context(unusable_context).with_context(unusable)
            }
            None if self.context.is_some() => Config::from_kubeconfig(&options).await.with_context(unusable_context),
            None => match env::var_os("KUBECONFIG").filter(|files| !files.is_empty()) {
                Some(files) => {
                    let unusable = || format!("KUBECONFIG={} cannot be used; set it to the path of a kubeconfig file", files.display());
                    Config::from_kubeconfig(&options).await.with_context(unusable)
                }
                None => Config::infer()
                    .await
                    .context("no cluster: set KUBECONFIG, give --kubeconfig FILE, or run in a pod with a ServiceAccount"),
            },
        }
    }
}

/// How messages name it.
pub(crate) fn title(config: &Config) -> String {
    format!("the cluster at {}", config.cluster_url)
}

/// A client for it.
pub(crate) fn client(config: Config) -> Result<Client> {
    Client::try_from(config).context("the cluster's address or credentials cannot be used")
}
