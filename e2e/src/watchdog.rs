//! Makes sure that what this process started ends with it, also after a panic, Ctrl-C or SIGKILL, when no Rust code runs
//! any more: a shell that holds the reading end of a pipe, and acts when the writing end closes.
//!
//! Must never end a process or remove a directory that it was not told about.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context as _;

use crate::process::Process;

/// Ends what it watches when it is dropped, or when this process ends without dropping it.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    /// `None` once it has been closed.
    orders: Option<ChildStdin>,
}

impl Watchdog {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", include_str!("watchdog.sh"), "podpolicy-e2e-watchdog"])
            // Away from Ctrl-C, from the folder of the test, and from the output that a caller may read to its end.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("the watchdog could not be started: is there a shell (sh)?")?;
        let orders = shell.stdin.take();
        Ok(Self { shell, orders })
    }

    /// Ends this process at the end.
    pub(crate) fn end(&mut self, process: Process) -> anyhow::Result<()> {
        self.order(&format!("end {} {}", process.id(), process.started()))
    }

    /// Removes this directory at the end, after the processes.
    pub(crate) fn remove(&mut self, directory: &Path) -> anyhow::Result<()> {
        let name = directory.to_str().filter(|name| name.starts_with('/') && !name.contains('\n'));
        let name = name.with_context(|| format!("{} cannot be watched: an absolute path in UTF-8 is needed", directory.display()))?;
        self.order(&format!("remove {name}"))
    }

    fn order(&mut self, order: &str) -> anyhow::Result<()> {
        let orders = self.orders.as_mut().context("the watchdog has been let go")?;
        // One write, so that a sudden end of this process leaves no half order.
        orders.write_all(format!("{order}\n").as_bytes()).context("the watchdog has ended")
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.orders.take());
        // It gives up by itself after a while; there is nobody left to tell how it went.
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_processes_and_removes_directories_when_dropped() {
        let directory = tempfile::Builder::new().prefix("podpolicy e2e ").tempdir().unwrap().keep();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Process::of(child.id()).unwrap();

        let mut watchdog = Watchdog::start().unwrap();
        watchdog.end(process).unwrap();
        watchdog.remove(&directory).unwrap();
        assert!(process.is_alive() && directory.exists());

        drop(watchdog);
        assert!(!process.is_alive());
        assert!(!directory.exists());
        child.wait().unwrap();
    }

    #[test]
    fn leaves_a_process_alone_that_started_at_another_time() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Process::of(child.id()).unwrap();

        let mut watchdog = Watchdog::start().unwrap();
        watchdog.order(&format!("end {} {}", process.id(), process.started() - 1)).unwrap();
        drop(watchdog);

        assert!(process.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
