//! Runs a control plane until it is told to stop: for demonstrations, and for a person who wants to try something out.
//!
//! Must never leave anything behind, except when it is asked to write the kubeconfig to a place of the caller's: that file
//! is removed at an ordinary end.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs, thread};

use anyhow::{Context as _, bail};
use podpolicy_e2e::{ControlPlane, Options};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

const USAGE: &str = "\
Runs etcd, kube-apiserver and kube-controller-manager with the project's CRDs, prints the path of a kubeconfig, and stops
on SIGTERM or Ctrl-C.

cargo run -p podpolicy-e2e --bin control-plane -- [OPTIONS]

  --kubeconfig PATH             write the kubeconfig there too
  --without-controller-manager  only etcd and kube-apiserver: Deployments make no pods
  --without-crds                without the project's CRDs
  --until-stdin-closes          stop when standard input ends, too
  --help                        print this
";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // When standard error is closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let Some(arguments) = Arguments::parse(env::args_os().skip(1))? else {
        return print(USAGE);
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stdin = stdin_closes(arguments.until_stdin_closes);
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stdin => {}
        }
    };
    tokio::select! {
        () = stop => Ok(()),
        ended = serve(&arguments) => ended,
    }
    // What `serve` held has been dropped, and so the control plane has ended.
}

/// Starts the control plane, says where it is, and keeps it until this future is dropped.
async fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let plane = ControlPlane::start(arguments.options).await?;
    let mut path = plane.kubeconfig_path().to_owned();
    let _copy = match &arguments.kubeconfig {
        None => None,
        Some(copy) => {
            fs::copy(&path, copy).with_context(|| format!("{} could not be written", copy.display()))?;
            path.clone_from(copy);
            Some(Copy(copy.clone()))
        }
    };
    print(&format!("{}\n", path.display()))?;
    std::future::pending().await
}

/// The kubeconfig at the caller's place, removed when it is dropped.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        // The caller may have removed it.
        let _ = fs::remove_file(&self.0);
    }
}

struct Arguments {
    options: Options,
    kubeconfig: Option<PathBuf>,
    until_stdin_closes: bool,
}

impl Arguments {
    /// `None` when help was asked for.
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> anyhow::Result<Option<Self>> {
        let mut parsed = Self { options: Options::default(), kubeconfig: None, until_stdin_closes: false };
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--kubeconfig") => parsed.kubeconfig = Some(arguments.next().context("--kubeconfig needs a path")?.into()),
                Some("--without-controller-manager") => parsed.options.controller_manager = false,
                Some("--without-crds") => parsed.options.crds = false,
                Some("--until-stdin-closes") => parsed.until_stdin_closes = true,
                Some("--help" | "-h") => return Ok(None),
                _ => bail!("{} is no option; --help lists them", argument.display()),
            }
        }
        Ok(Some(parsed))
    }
}

/// Comes back when standard input ends; never when that was not asked for.
async fn stdin_closes(wanted: bool) {
    if !wanted {
        return std::future::pending().await;
    }
    let (closed, wait) = oneshot::channel();
    // A thread of its own, which nobody waits for: a read from a terminal cannot be called off.
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut buffer = [0; 256];
        while matches!(input.read(&mut buffer), Ok(1..)) {}
        // Fails when the program is about to end anyway.
        let _ = closed.send(());
    });
    // An error means that the thread has ended, and so has standard input.
    let _ = wait.await;
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("standard output is closed")
}
