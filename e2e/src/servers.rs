//! etcd and kube-apiserver, started through the `envtest` crate.
//!
//! envtest runs them as children of this process and gives neither their ids nor their directories; they are found in
//! `/proc`, among the children of this process only. Must never shut them down gracefully: nothing of theirs is kept.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::Context as _;
use envtest::{BinaryAssetsSettings, Environment, Server};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::process::Process;
use crate::watchdog::Watchdog;

/// How often to look for new children while envtest starts them.
const INTERVAL: Duration = Duration::from_millis(10);

/// One start at a time, so that new children are those of this start.
static STARTING: Mutex<()> = Mutex::const_new(());

/// Running etcd and kube-apiserver, killed when they are dropped.
#[derive(Debug)]
pub(crate) struct Servers {
    server: Server,
    etcd: Process,
    api_server: Process,
}

impl Servers {
    pub(crate) async fn start(binaries: &Path, watchdog: &mut Watchdog) -> anyhow::Result<Self> {
        let folder = binaries.to_str().context("the folder of the control plane's binaries is not UTF-8")?;
        let environment = Environment {
            binary_assets_settings: BinaryAssetsSettings {
                download_binary_assets: false,
                binary_assets_directory: Some(folder.to_owned()),
                ..BinaryAssetsSettings::default()
            },
            ..Environment::default()
        };

        let _starting = STARTING.lock().await;
        let certificates = certificate_directories();
        let mut children = NewChildren::default();
        let mut create = pin!(environment.create());
        let server = loop {
            tokio::select! {
                server = &mut create => break server,
                () = sleep(INTERVAL) => children.hand_over(watchdog)?,
            }
        };
        children.hand_over(watchdog)?;
        // With more than one, another process has started a control plane at the same time: leave all alone.
        let new: Vec<_> = certificate_directories().difference(&certificates).cloned().collect();
        if let [directory] = new.as_slice() {
            watchdog.remove(directory)?;
        }

        let server = server.context("etcd and kube-apiserver did not start; KUBEBUILDER_ATTACH_CONTROL_PLANE_OUTPUT=true shows why")?;
        let etcd = children.etcd.context("envtest has started no etcd that can be found in /proc")?;
        let api_server = children.api_server.context("envtest has started no kube-apiserver that can be found in /proc")?;
        Ok(Self { server, etcd, api_server })
    }

    /// The kubeconfig, as JSON.
    pub(crate) fn kubeconfig(&self) -> &str {
        self.server.as_ref()
    }

    pub(crate) fn etcd(&self) -> Process {
        self.etcd
    }

    pub(crate) fn api_server(&self) -> Process {
        self.api_server
    }
}

impl Drop for Servers {
    /// Kills them before envtest asks them to end: kube-apiserver would wait for the watches of its clients.
    fn drop(&mut self) {
        let patience = Instant::now() + Duration::from_secs(5);
        for process in [self.api_server, self.etcd] {
            // Fails when it has ended before, which is as good.
            let _ = process.kill();
        }
        while Instant::now() < patience && (self.api_server.is_alive() || self.etcd.is_alive()) {
            thread::sleep(INTERVAL);
        }
        // Then `server` is dropped, and envtest removes the directories.
    }
}

/// The servers that were started after this was made.
struct NewChildren {
    seen: HashSet<Process>,
    etcd: Option<Process>,
    api_server: Option<Process>,
}

impl Default for NewChildren {
    fn default() -> Self {
        Self { seen: Process::children().into_iter().collect(), etcd: None, api_server: None }
    }
}

impl NewChildren {
    /// Tells the watchdog of the servers that are new since the last call, and of their directories.
    fn hand_over(&mut self, watchdog: &mut Watchdog) -> anyhow::Result<()> {
        for process in Process::children() {
            if self.seen.contains(&process) {
                continue;
            }
            // Until it has become the server it looks like this process: the next call sees it again.
            let arguments = process.arguments();
            let directory = |flag: &str| arguments.iter().find_map(|argument| argument.strip_prefix(flag)).map(PathBuf::from);
            let (server, directory) = match arguments.first().map(|program| Path::new(program).file_name()) {
                Some(Some(name)) if name == "etcd" => (&mut self.etcd, directory("--data-dir=")),
                Some(Some(name)) if name == "kube-apiserver" => (&mut self.api_server, directory("--cert-dir=")),
                _ => continue,
            };
            self.seen.insert(process);
            watchdog.end(process)?;
            // Without one it is a server that only prints its flags.
            if let Some(directory) = directory {
                watchdog.remove(&directory)?;
                *server = Some(process);
            }
        }
        Ok(())
    }
}

/// Where envtest keeps certificates for webhooks, which it makes whether there are webhooks or not.
fn certificate_directories() -> HashSet<PathBuf> {
    let entries = fs::read_dir(env::temp_dir()).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("envtest-serving-certs-")).map(|entry| entry.path()).collect()
}
