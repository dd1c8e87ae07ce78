//! The harness itself: that nothing is left of a node, in whatever way it ends.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use podpolicy_e2e::Process;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use tempfile::TempDir;

/// `cluster`, running, with its temporary files in a folder of their own.
struct Running {
    child: Child,
    state: PathBuf,
}

impl Running {
    fn start(temporary: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
        let mut child = command.env("TMPDIR", temporary).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("it was asked for")?).read_line(&mut line)?;
        let kubeconfig = line.trim_end().strip_prefix("export KUBECONFIG=").with_context(|| format!("no kubeconfig in {line:?}"))?;
        let state = Path::new(kubeconfig).parent().context("it is in a folder")?.to_owned();
        Ok(Self { child, state })
    }

    /// The first process of the node.
    fn init(&self) -> anyhow::Result<Process> {
        let owner = fs::read_to_string(self.state.join("owner"))?;
        let id = owner.split(' ').next().context("an id comes first")?.parse()?;
        Process::of(id).context("the node runs")
    }

    /// The folder, and the cgroups that have its name.
    fn traces(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut traces = vec![self.state.clone()];
        let name = self.state.file_name().context("a folder has a name")?;
        for mount in fs::read_to_string("/proc/self/mounts")?.lines() {
            let mut fields = mount.split(' ').skip(1);
            if let (Some(place), Some("cgroup" | "cgroup2")) = (fields.next(), fields.next()) {
                traces.push(Path::new(place).join(name));
            }
        }
        traces.retain(|trace| trace.exists());
        Ok(traces)
    }
}

/// All processes below this one.
fn descendants(process: Process) -> Vec<Process> {
    process.children().into_iter().flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}

async fn nothing_is_left(running: &Running, processes: &[Process]) -> anyhow::Result<()> {
    eventually("nothing to be left of the node", DEADLINE, async || {
        let alive: Vec<_> = processes.iter().filter(|process| process.is_alive()).map(|process| process.arguments()).collect();
        let traces = running.traces()?;
        Ok(Seen::when(alive.is_empty() && traces.is_empty(), (alive, traces)))
    })
    .await
}

#[tokio::test]
async fn nothing_is_left_of_a_node_whose_parent_is_killed_or_asked_to_end() -> anyhow::Result<()> {
    for kill in [true, false] {
        let temporary = TempDir::new()?;
        let mut running = Running::start(temporary.path())?;
        let parent = Process::of(running.child.id()).context("it runs")?;
        let mut processes = descendants(running.init()?);
        assert!(processes.len() >= 8, "etcd, containerd and six programs of Kubernetes");
        processes.push(running.init()?);
        assert!(running.traces()?.len() > 1);

        if kill {
            parent.kill()?;
        } else {
            parent.terminate()?;
        }
        let status = running.child.wait()?;
        assert_eq!(status.success(), !kill, "{status}");
        nothing_is_left(&running, &processes).await?;
        assert_eq!(fs::read_dir(temporary.path())?.count(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn node_that_is_killed_with_all_that_guards_it_is_cleaned_up_by_the_next() -> anyhow::Result<()> {
    let temporary = TempDir::new()?;
    let mut crashed = Running::start(temporary.path())?;
    let parent = Process::of(crashed.child.id()).context("it runs")?;
    let [run] = parent.children()[..] else { anyhow::bail!("it has one child, run.sh") };
    let processes = descendants(run);
    // First the one that would clean up.
    run.kill()?;
    parent.kill()?;
    crashed.child.wait()?;
    eventually("the processes to end", DEADLINE, async || Ok(Seen::when(!processes.iter().any(|process| process.is_alive()), &processes)))
        .await?;
    assert!(crashed.traces()?.len() > 1);

    let mut next = Running::start(temporary.path())?;
    assert_eq!(crashed.traces()?, Vec::<PathBuf>::new());
    Process::of(next.child.id()).context("it runs")?.terminate()?;
    next.child.wait()?;
    nothing_is_left(&next, &[]).await
}
