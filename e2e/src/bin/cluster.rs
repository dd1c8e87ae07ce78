//! Runs a cluster of one real node until Ctrl-C or SIGTERM: for a person who wants to try something out.
//!
//! Must never leave anything behind.

use std::io::{self, Write as _};

use anyhow::Context as _;
use podpolicy_e2e::Node;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = serve() => ended,
    }
    // What `serve` held has been dropped, and so the node has ended.
}

/// Starts the node, says how to reach it, and keeps it until this future is dropped.
async fn serve() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let mut stdout = io::stdout().lock();
    let line = writeln!(stdout, "export KUBECONFIG={}", node.kubeconfig().display()).and_then(|()| stdout.flush());
    drop(stdout);
    line.context("standard output is closed")?;
    std::future::pending().await
}
