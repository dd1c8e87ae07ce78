//! The how-tos in docs/ do what they say: their commands are run as a reader would type them, one page after the other, against
//! a real API server and the real operator. A page's commands are its `sh` blocks; its checks are commands too
//! (`kubectl wait`, `test`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use podpolicy_controller::{AdmissionMode, Config};
use podpolicy_e2e::kubelet::FakeKubelet;
use podpolicy_e2e::{ControlPlane, InProcess, Options, program};

/// The pages with commands that need nothing but a cluster with the operator. `install.md` has a test of its own, and `tools.md` needs kustomize and helm.
const PAGES: [&str; 9] = [
    "labels-and-annotations.md",
    "settings-at-creation.md",
    "rollout.md",
    "exec.md",
    "metrics.md",
    "explain.md",
    "files.md",
    "check.md",
    "kubernetes-versions.md",
];

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_every_how_to_work() -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options::default()).await?;
    let operator = InProcess::start(plane.client(), Config { admission: AdmissionMode::Auto, ..Config::default() }).await?;
    // Its pods are to be ready.
    let _kubelet = FakeKubelet::start(&plane.client(), "rolling");
    for page in PAGES {
        run(&plane, page, None)?;
    }
    run(&plane, "tools.md", Some(&manifest_tools()?))?;
    operator.stop().await
}

/// No operator runs: there is no node for it, and none of these commands waits for one.
#[tokio::test(flavor = "multi_thread")]
async fn commands_to_install_and_uninstall_work() -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options { crds: false, ..Options::default() }).await?;
    run(&plane, "install.md", Some(&manifest_tools()?))
}

/// The folder with kustomize and helm, which are built if need be.
fn manifest_tools() -> anyhow::Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifest-tools/build.sh");
    let output = Command::new(&script).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{} ended with {}; see above", script.display(), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().into())
}

/// What the `sh` blocks of a page say, in order.
fn commands(page: &str) -> String {
    let mut script = String::new();
    let mut in_block = false;
    for line in page.lines() {
        match (in_block, line.trim()) {
            (false, "```sh") => in_block = true,
            (true, "```") => in_block = false,
            (true, _) => {
                script.push_str(line);
                script.push('\n');
            }
            (false, _) => {}
        }
    }
    script
}

/// Runs a page's commands, with the tools in this folder beside kubectl and podpolicy.
fn run(plane: &ControlPlane, page: &str, tools: Option<&Path>) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let file = root.join("docs").join(page);
    let text = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    let script = commands(&text);
    ensure!(["kubectl ", "podpolicy "].iter().any(|program| script.contains(program)), "docs/{page} has no commands to run");
    let kubectl = plane.kubectl();
    let binaries = Path::new(kubectl.get_program()).parent().context("kubectl is in a folder")?;
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let program = program()?;
    let folders = [Some(binaries), program.parent(), tools].into_iter().flatten().map(Path::to_owned).chain(std::env::split_paths(&usual));
    let mut bash = Command::new("bash");
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        bash.env(variable, plane.directory().join("helm"));
    }
    let output = bash
        .args(["-euxo", "pipefail", "-c", &script])
        .current_dir(root)
        .env("KUBECONFIG", plane.kubeconfig_path())
        .env("PATH", std::env::join_paths(folders)?)
        .stdin(Stdio::null())
        .output()
        .context("bash does not start")?;
    ensure!(
        output.status.success(),
        "the commands of docs/{page} failed:\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn only_sh_blocks_are_commands() {
    let page = "text\n```sh\nkubectl get pods\n```\n```yaml\nkind: Pod\n```\n```sh\ntrue\n```\n";
    assert_eq!(commands(page), "kubectl get pods\ntrue\n");
}
