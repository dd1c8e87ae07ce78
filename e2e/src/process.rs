//! A process, known by its id and the moment of its start, so that an id which the kernel has given away again is never
//! taken for the process that had it before. Read from `/proc`: Linux only.
//!
//! Must never look a process up by its name.

use std::fs;
use std::process::Child;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// A process that was running when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    id: u32,
    /// In clock ticks since the machine started, as in field 22 of `/proc/ID/stat`.
    started: u64,
}

impl Process {
    /// The process that asks.
    pub fn this() -> anyhow::Result<Self> {
        Self::of(std::process::id()).context("/proc/self cannot be read")
    }

    /// The process that has this id now; `None` when there is none, or only the remains that its parent has yet to collect.
    pub fn of(id: u32) -> Option<Self> {
        let (process, state) = Self::read(id)?;
        (state != 'Z' && state != 'X').then_some(process)
    }

    /// The process of a child that has not been waited for, whether it still runs or not.
    pub(crate) fn of_child(child: &Child) -> anyhow::Result<Self> {
        let (process, _) = Self::read(child.id()).with_context(|| format!("/proc/{} cannot be read", child.id()))?;
        Ok(process)
    }

    fn read(id: u32) -> Option<(Self, char)> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name, in parentheses, may itself hold spaces and parentheses.
        let (_, after_name) = stat.rsplit_once(") ")?;
        let mut fields = after_name.split(' ');
        let state = fields.next()?.chars().next()?;
        let started = fields.nth(18)?.parse().ok()?;
        Some((Self { id, started }, state))
    }

    /// Its id.
    pub fn id(self) -> u32 {
        self.id
    }

    /// When it started, in clock ticks since the machine started.
    pub(crate) fn started(self) -> u64 {
        self.started
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        Self::of(self.id) == Some(self)
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Stops it where it is (SIGSTOP): its connections stay open and nothing answers on them.
    pub fn pause(self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Process::pause`] (SIGCONT).
    pub fn resume(self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(self, signal: Signal) -> anyhow::Result<()> {
        anyhow::ensure!(self.is_alive(), "process {} has already ended", self.id);
        let pid = i32::try_from(self.id).ok().and_then(Pid::from_raw).context("a process id is a positive number")?;
        kill_process(pid, signal).with_context(|| format!("process {} could not be sent signal {signal:?}", self.id))
    }

    /// The command line; empty when it has ended.
    pub fn arguments(self) -> Vec<String> {
        let line = fs::read(format!("/proc/{}/cmdline", self.id)).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .filter(|argument| !argument.is_empty())
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect()
    }

    /// The control groups that it is in, as `/proc` lists them; empty when it has ended.
    pub fn cgroups(self) -> String {
        fs::read_to_string(format!("/proc/{}/cgroup", self.id)).unwrap_or_default()
    }

    /// Its children, started by whichever of its threads; none when it has ended.
    pub fn children(self) -> Vec<Self> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id)).into_iter().flatten().flatten();
        tasks
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
            .flat_map(|children| children.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
            .filter_map(Self::of)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn process_is_alive_until_it_is_killed_and_collected() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.is_alive());
        assert!(Process::this().unwrap().children().contains(&process));

        process.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
        assert!(process.kill().is_err());
    }

    #[test]
    fn same_id_with_another_start_is_another_process() {
        let this = Process::this().unwrap();
        let earlier = Process { started: this.started - 1, ..this };
        assert!(!earlier.is_alive());
    }
}
