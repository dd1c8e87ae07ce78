//! kubectl as a person would use it, for what a client in Rust does not show: `exec`, `port-forward`, `explain`.
//!
//! Must never read or write the user's own files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// A kubectl for one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    binary: PathBuf,
    kubeconfig: PathBuf,
    context: Option<String>,
    cache: PathBuf,
}

impl Kubectl {
    /// One for the current context of a kubeconfig file; what it keeps goes into `directory`.
    pub(crate) fn new(binary: PathBuf, kubeconfig: PathBuf, directory: &Path) -> Self {
        Self { binary, kubeconfig, context: None, cache: directory.join("kubectl-cache") }
    }

    /// The same for another context.
    pub(crate) fn with_context(self, context: &str) -> Self {
        Self { context: Some(context.to_owned()), ..self }
    }

    /// The kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A command that lacks only its arguments.
    pub fn command(&self) -> Command {
        let mut kubectl = Command::new(&self.binary);
        kubectl.env("KUBECONFIG", &self.kubeconfig).env("KUBECACHEDIR", &self.cache).env("KUBERC", "off").stdin(Stdio::null());
        if let Some(context) = &self.context {
            kubectl.args(["--context", context]);
        }
        kubectl
    }

    /// What it writes to its standard output; an error with all that it writes when it fails.
    pub fn output(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command().args(arguments).output().context("kubectl could not be started")?;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            bail!("kubectl {} ended with {}: {stdout}{}", arguments.join(" "), output.status, stderr.trim_end());
        }
        Ok(stdout.into_owned())
    }
}
