//! The how-tos in docs/ do what they say: their commands are run as a reader would type them, one page after the other, against
//! a real API server and the real operator. A page's commands are its `sh` blocks; its checks are commands too
//! (`kubectl wait`, `test`).

use std::{fs, path::Path, process::Stdio};

use anyhow::{Context as _, ensure};
use podpolicy_controller::{AdmissionMode, Config};
use podpolicy_e2e::{ControlPlane, InProcess, Options};

/// The pages with commands that need nothing but a cluster with the operator.
const PAGES: [&str; 2] = ["labels-and-annotations.md", "settings-at-creation.md"];

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_every_how_to_work() -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options::default()).await?;
    let operator = InProcess::start(plane.client(), Config { admission: AdmissionMode::Auto, ..Config::default() }).await?;
    for page in PAGES {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
        let text = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let script = commands(&text);
        ensure!(script.contains("kubectl "), "docs/{page} has no commands to run");
        run(&plane, page, &script)?;
    }
    operator.stop().await
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

fn run(plane: &ControlPlane, page: &str, script: &str) -> anyhow::Result<()> {
    let kubectl = plane.kubectl();
    let binaries = Path::new(kubectl.get_program()).parent().context("kubectl is in a folder")?;
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default());
    let output = std::process::Command::new("bash")
        .args(["-euxo", "pipefail", "-c", script])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env("KUBECONFIG", plane.kubeconfig_path())
        .env("PATH", path)
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
