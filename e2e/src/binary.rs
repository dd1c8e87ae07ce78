//! The `podpolicy` binary as a child process, for tests of what only the whole program does: flags, signals, exit codes.
//!
//! Must never build the binary, and never end a process that it did not start.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;

use crate::process::Process;
use crate::wait::{Seen, eventually};
use crate::watchdog::Watchdog;

/// A running operator, killed when it is dropped and when the test process ends in whatever way.
///
/// What it wrote is printed when it is dropped; the test runner shows that only for tests that fail.
pub struct Operator {
    child: Child,
    process: Process,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    _watchdog: Watchdog,
}

impl Operator {
    /// Starts `podpolicy` with these arguments and, beside those of the test, these environment variables.
    ///
    /// The binary is `PODPOLICY_BIN`, or else the one that cargo has built beside the test.
    pub fn spawn(kubeconfig: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::spawn_program(&program()?, kubeconfig, arguments, environment)
    }

    /// The same with another program.
    pub fn spawn_program(program: &Path, kubeconfig: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut watchdog = Watchdog::start()?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            // Objects of the whole cluster, which would meet the pods of other tests.
            .env("PODPOLICY_ADMISSION", "none")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} could not be started", program.display()))?;
        let output = Arc::default();
        let readers = [
            child.stdout.take().map(|stdout| collect(stdout, Arc::clone(&output))),
            child.stderr.take().map(|stderr| collect(stderr, Arc::clone(&output))),
        ];
        let process = Process::of_child(&child)?;
        watchdog.end(process)?;
        Ok(Self { child, process, output, readers: readers.into_iter().flatten().collect(), _watchdog: watchdog })
    }

    /// What it has written so far to its standard output and its standard error, line by line as it came.
    pub fn output(&self) -> String {
        text(&self.output)
    }

    /// The process, for its id and for signals.
    pub fn process(&self) -> Process {
        self.process
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.process.terminate()
    }

    /// Waits until it has ended. Fails after `deadline` with what it wrote.
    pub async fn wait(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        let Self { child, output, .. } = self;
        let status = eventually("the operator to end", deadline, || {
            let status = child.try_wait();
            let written = text(output);
            async move {
                Ok(match status? {
                    Some(status) => Seen::Done(status),
                    None => Seen::NotYet(format!("it runs, and wrote:\n{written}")),
                })
            }
        })
        .await?;
        self.finish_reading();
        Ok(status)
    }

    fn finish_reading(&mut self) {
        for reader in self.readers.drain(..) {
            // A reader that panicked has nothing more to say.
            let _ = reader.join();
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // Fails when it has ended before, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.finish_reading();
        #[expect(clippy::print_stderr, reason = "the test runner keeps it for tests that fail")]
        {
            eprintln!("--- output of the operator\n{}--- end of the output", self.output());
        }
    }
}

/// Where the binary is: `PODPOLICY_BIN`, or else where cargo has built it beside the test.
pub fn program() -> anyhow::Result<PathBuf> {
    if let Some(path) = env::var_os("PODPOLICY_BIN") {
        return Ok(path.into());
    }
    // Tests are in target/debug/deps, binaries in target/debug.
    let test = env::current_exe().context("the path of the test is unknown")?;
    let folder = test.parent().context("the test is in no folder")?;
    let folder = if folder.file_name() == Some(OsStr::new("deps")) { folder.parent().unwrap_or(folder) } else { folder };
    let program = folder.join("podpolicy");
    anyhow::ensure!(program.exists(), "{} does not exist: run `cargo build -p podpolicy`, or set PODPOLICY_BIN", program.display());
    Ok(program)
}

/// Copies lines until the other end closes.
fn collect(source: impl Read + Send + 'static, output: Arc<Mutex<String>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.push_str(&String::from_utf8_lossy(&line));
            output.push('\n');
        }
    })
}

fn text(output: &Mutex<String>) -> String {
    output.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::DEADLINE;

    fn shell(script: &str) -> Operator {
        Operator::spawn_program(Path::new("sh"), Path::new("/kubeconfig"), &["-c", script], &[("COLOUR", "blue")]).unwrap()
    }

    #[tokio::test]
    async fn output_and_exit_status_are_those_of_the_program() {
        let mut operator = shell("echo $COLOUR; echo $KUBECONFIG >&2; exit 3");
        let status = operator.wait(DEADLINE).await.unwrap();
        assert_eq!(status.code(), Some(3));
        assert!(operator.output().contains("blue\n"));
        assert!(operator.output().contains("/kubeconfig\n"));
    }

    #[tokio::test]
    async fn terminate_lets_the_program_end_by_itself() {
        let mut operator = shell("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done");
        eventually("the trap", DEADLINE, || {
            let output = operator.output();
            async { Ok(Seen::when(output.contains("ready"), output)) }
        })
        .await
        .unwrap();
        operator.terminate().unwrap();
        assert!(operator.wait(DEADLINE).await.unwrap().success());
        assert!(operator.output().ends_with("bye\n"));
    }

    #[tokio::test]
    async fn program_that_goes_on_is_reported_with_its_output() {
        let mut operator = shell("echo busy; exec cat /dev/zero > /dev/null");
        let error = operator.wait(Duration::from_millis(200)).await.unwrap_err();
        assert!(error.to_string().contains("busy"), "{error}");
        let process = operator.process();
        drop(operator);
        assert!(!process.is_alive());
    }
}
