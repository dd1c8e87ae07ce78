//! etcd and kube-apiserver, started through the `envtest` crate.
//!
//! envtest runs them as children of this process and gives neither their ids nor their directories; they are found in
//! `/proc`, among the children of this process only. Must never shut them down gracefully: nothing of theirs is kept.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::Context as _;
use envtest::{BinaryAssetsSettings, Environment, Server};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::process::Process;
use crate::watchdog::Watchdog;

/// How often to look for new children while envtest starts them.
const INTERVAL: Duration = Duration::from_millis(10);

/// Names the servers that the watchdog ends, in the directory of the control plane: one that was started just now is not yet among them.
pub const WATCHED: &str = "watched";

/// One start at a time, so that new children are those of this start.
static STARTING: Mutex<()> = Mutex::new(());

/// Running etcd and kube-apiserver, killed when they are dropped.
#[derive(Debug)]
pub(crate) struct Servers {
    server: Server,
    etcd: Process,
    api_server: Process,
    _watchdog: Watchdog,
}

impl Servers {
    /// Starts them; at their end the watchdog removes `directory`, too.
    ///
    /// In a thread of its own, because envtest cannot be called off: when nobody waits any more for this to come back, it
    /// is carried through all the same, and then what it has started is ended.
    pub(crate) async fn start(binaries: &Path, directory: &Path) -> anyhow::Result<Self> {
        let (binaries, directory) = (binaries.to_owned(), directory.to_owned());
        let (answer, started) = oneshot::channel();
        thread::spawn(move || {
            // Nobody may be waiting any more: then the servers come back, and are dropped.
            let _ = answer.send(Self::start_here(&binaries, &directory));
        });
        started.await.context("the thread that starts etcd and kube-apiserver has panicked")?
    }

    fn start_here(binaries: &Path, directory: &Path) -> anyhow::Result<Self> {
        let binaries = binaries.to_str().context("the folder of the control plane's binaries is not UTF-8")?;
        let environment = Environment {
            binary_assets_settings: BinaryAssetsSettings {
                download_binary_assets: false,
                binary_assets_directory: Some(binaries.to_owned()),
                ..BinaryAssetsSettings::default()
            },
            ..Environment::default()
        };

        // One that panicked has left nothing behind that matters here.
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut watchdog = Watchdog::start()?;
        watchdog.remove(directory)?;
        let certificates = certificate_directories();
        let mut children = NewChildren::from_now_on(directory)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let server = runtime.block_on(async {
            let mut create = pin!(environment.create());
            loop {
                tokio::select! {
                    server = &mut create => break anyhow::Ok(server),
                    () = sleep(INTERVAL) => children.hand_over(&mut watchdog)?,
                }
            }
        })?;
        children.hand_over(&mut watchdog)?;
        // With more than one, another process has started a control plane at the same time: leave all alone.
        let new: Vec<_> = certificate_directories().difference(&certificates).cloned().collect();
        if let [directory] = new.as_slice() {
            watchdog.remove(directory)?;
        }

        let server = server.context("etcd and kube-apiserver did not start; KUBEBUILDER_ATTACH_CONTROL_PLANE_OUTPUT=true shows why")?;
        let etcd = children.etcd.context("envtest has started no etcd that can be found in /proc")?;
        let api_server = children.api_server.context("envtest has started no kube-apiserver that can be found in /proc")?;
        Ok(Self { server, etcd, api_server, _watchdog: watchdog })
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
    this: Process,
    watched: PathBuf,
    seen: HashSet<Process>,
    etcd: Option<Process>,
    api_server: Option<Process>,
}

impl NewChildren {
    fn from_now_on(directory: &Path) -> anyhow::Result<Self> {
        let this = Process::this()?;
        Ok(Self { this, watched: directory.join(WATCHED), seen: this.children().into_iter().collect(), etcd: None, api_server: None })
    }

    /// Tells the watchdog of the servers that are new since the last call, and of their directories.
    fn hand_over(&mut self, watchdog: &mut Watchdog) -> anyhow::Result<()> {
        for process in self.this.children() {
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
                let mut watched = fs::OpenOptions::new().create(true).append(true).open(&self.watched)?;
                writeln!(watched, "{}", arguments[0])?;
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
