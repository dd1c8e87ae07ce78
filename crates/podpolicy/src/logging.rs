//! Logs on stderr, for people or for machines.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

/// Starts logging. The filter is in the syntax of tracing: `info`, `podpolicy_controller=debug`.
pub(crate) fn start(format: LogFormat, filter: &str) -> Result<()> {
    // A watch or request that fails is explained once, by whoever asked; the libraries would print each try again, and without its address.
    let filter = EnvFilter::try_new(format!("kube_runtime::watcher=error,kube_client::client::builder=off,{filter}"))
        .with_context(|| format!("--log {filter:?} is not a log filter; try info, debug or podpolicy_controller=debug"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let is_colourful = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match format {
        LogFormat::Text => builder.with_ansi(is_colourful).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
