//! What the scripts build from source, once, into the cache of this user.
//!
//! Must never build anything itself, or take a program from elsewhere than where a script says.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;

/// The folder with etcd, kube-apiserver and the like, which are built if need be.
pub(crate) async fn of_control_plane(names: &[&str]) -> anyhow::Result<PathBuf> {
    built("control-plane/build.sh", names).await
}

/// The folder with what only a node has, which is built if need be: containerd, images.
pub(crate) async fn of_node(names: &[&str]) -> anyhow::Result<PathBuf> {
    built("node/build.sh", names).await
}

async fn built(script: &str, names: &[&str]) -> anyhow::Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    // Its standard error, where it says what it builds, goes to whoever waits.
    let build = tokio::process::Command::new(&script).args(names).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = build.await.with_context(|| format!("{} could not be started", script.display()))?;
    anyhow::ensure!(output.status.success(), "{} ended with {}; see above", script.display(), output.status);
    let folder = String::from_utf8(output.stdout).with_context(|| format!("{} printed no UTF-8", script.display()))?;
    Ok(folder.trim_end().into())
}
