//! A Kubernetes cluster of one real node: its pods run, are probed, and are told to end. Built from source, root only.
//!
//! `node/run.sh` starts and ends it; this holds on to it from outside. Must never touch a process or a folder of the node's by itself:
//! all of them go when the standard input of `run.sh` ends, which is when this process ends in whatever way.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

use crate::process::Process;
use crate::tunnel::Tunnel;

/// Where kube-apiserver is for those in the node's network namespace, as in `node/init.sh`.
const API_SERVER: &str = "192.0.2.1:6443";

/// A running node. It ends, with all that ran on it, when it is dropped, and when this process ends in whatever way.
#[derive(Debug)]
pub struct Node {
    init: Process,
    directory: PathBuf,
    kubeconfig: PathBuf,
    tunnel: Tunnel,
    _run: Run,
}

impl Node {
    /// Starts one and waits until it is ready. Builds what it needs first when that is not there, which takes long.
    pub async fn start() -> anyhow::Result<Self> {
        let mut run = Run::start()?;
        let output = run.0.stdout.take().context("standard output was asked for")?;
        let line = tokio::task::spawn_blocking(|| first_line(output)).await??;
        let Some((init, directory)) = line.trim_end().split_once(' ') else {
            bail!("the node did not start; see above");
        };
        let init = Process::of(init.parse()?).context("the node has ended again")?;
        let directory = PathBuf::from(directory);
        let tunnel = Tunnel::dig(init, API_SERVER.parse()?)?;
        let kubeconfig = directory.join("kubeconfig");
        write_kubeconfig(&directory, &tunnel, &kubeconfig)?;
        Ok(Self { init, directory, kubeconfig, tunnel, _run: run })
    }

    /// A kubeconfig file with all rights, for use outside. It goes when the node goes.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The folder of the kubeconfig, of the programs' logs (`logs/`) and of the containers' (`pods/`). It goes when the node goes.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The first process of the node: when it ends, all others do.
    pub fn init(&self) -> Process {
        self.init
    }

    /// Makes an image known to the node, from an archive in the format of `docker save`. Pods need `imagePullPolicy: Never`.
    pub fn import_image(&self, archive: &Path) -> anyhow::Result<()> {
        let file = File::open(archive).with_context(|| format!("{} cannot be read", archive.display()))?;
        let mut import = Command::new("nsenter");
        // Paths in there are others, so the archive comes through standard input.
        import
            .args(["--target", &self.init.id().to_string(), "--mount", "--pid", "--net"])
            .args(["/run/runtime/ctr", "--namespace", "k8s.io", "images", "import", "-"])
            .stdin(file);
        let output = import.output().context("nsenter could not be started")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{} could not be imported: {}", archive.display(), stderr.trim_end());
        Ok(())
    }

    /// The first process of the container with this id: its parent is none of the container's.
    pub fn process_of_container(&self, container: &str) -> anyhow::Result<Process> {
        let mut below = self.init.children();
        while let Some(process) = below.pop() {
            if process.cgroups().contains(container) {
                return Ok(process);
            }
            below.extend(process.children());
        }
        bail!("no process of container {container} runs on the node")
    }

    /// The log of kube-apiserver of who changed which pod: one JSON object a line, in the order of the answers.
    pub fn audit_log(&self) -> PathBuf {
        self.directory.join("logs/audit.log")
    }

    /// Where kube-apiserver is for those outside.
    pub fn api_server(&self) -> std::net::SocketAddr {
        self.tunnel.entrance()
    }
}

/// `run.sh`, told to end when this is dropped.
#[derive(Debug)]
struct Run(Child);

impl Run {
    fn start() -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/run.sh");
        let child = Command::new(&script)
            // Away from Ctrl-C: it is to end when we have ended.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} could not be started", script.display()))?;
        Ok(Self(child))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It has cleaned up by then; there is nobody left to tell how it went.
        let _ = self.0.wait();
    }
}

fn first_line(output: impl Read) -> std::io::Result<String> {
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok(line)
}

/// Writes the kubeconfig of the node's administrator with the paths and the address that count outside.
fn write_kubeconfig(directory: &Path, tunnel: &Tunnel, file: &Path) -> anyhow::Result<()> {
    let directory_name = directory.to_str().context("the folder of the node is not UTF-8")?;
    let inside = fs::read_to_string(directory.join("admin.kubeconfig")).context("the node has no kubeconfig")?;
    let outside = inside.replace(API_SERVER, &tunnel.entrance().to_string()).replace("/run/node", directory_name);
    fs::write(file, outside).with_context(|| format!("{} could not be written", file.display()))
}
