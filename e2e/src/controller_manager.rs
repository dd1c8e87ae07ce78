//! kube-controller-manager: makes pods out of Deployments, ends namespaces, keeps disruption budgets up to date.
//!
//! Must never run the controllers that act on nodes: there are none here, and pods without a node would be deleted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};

use crate::process::Process;
use crate::wait::{DEADLINE, Seen, eventually};
use crate::watchdog::Watchdog;

const CONTROLLERS: [&str; 15] = [
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "job-controller",
    "namespace-controller",
    "replicaset-controller",
    "replicationcontroller-controller",
    "resourcequota-controller",
    "serviceaccount-controller",
    "statefulset-controller",
];

/// A running kube-controller-manager, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct ControllerManager {
    child: Child,
    process: Process,
    log: PathBuf,
    _watchdog: Watchdog,
}

impl ControllerManager {
    pub(crate) fn start(binary: &Path, kubeconfig: &Path, log: PathBuf) -> anyhow::Result<Self> {
        let mut watchdog = Watchdog::start()?;
        let output = File::create(&log).with_context(|| format!("{} could not be written", log.display()))?;
        let child = Command::new(binary)
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--controllers={}", CONTROLLERS.join(",")))
            .args(["--leader-elect=false", "--secure-port=0"])
            // The default, 15 s, would be what tests with autoscalers wait for.
            .arg("--horizontal-pod-autoscaler-sync-period=1s")
            // The defaults, 20 a second, would be what tests with hundreds of pods wait for.
            .args(["--kube-api-qps=500", "--kube-api-burst=1000"])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{} could not be started", binary.display()))?;
        let process = Process::of_child(&child)?;
        watchdog.end(process)?;
        Ok(Self { child, process, log, _watchdog: watchdog })
    }

    pub(crate) fn process(&self) -> Process {
        self.process
    }

    /// Waits until its controllers work: one of them has made the default service account.
    pub(crate) async fn ready(&mut self, client: &Client) -> anyhow::Result<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        let (child, log) = (&mut self.child, &self.log);
        eventually("kube-controller-manager to work", DEADLINE * 2, || {
            let ended = child.try_wait();
            let accounts = &accounts;
            async move {
                if let Some(status) = ended? {
                    bail!("kube-controller-manager ended with {status}; its last lines:\n{}", last_lines(log));
                }
                Ok(match accounts.get_opt("default").await? {
                    Some(_) => Seen::Done(()),
                    None => Seen::NotYet(format!("no default service account; its last lines:\n{}", last_lines(log))),
                })
            }
        })
        .await
    }
}

impl Drop for ControllerManager {
    fn drop(&mut self) {
        // Fails when it has ended before, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
