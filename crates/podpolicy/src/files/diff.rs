//! `podpolicy diff`: what `podpolicy render` would change, as a unified diff that `patch -p1` and `git apply` take.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Inputs;
use crate::output;

/// Lines around a change that are shown.
const CONTEXT: usize = 3;

/// What of the command line it reads.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    inputs: Inputs,
}

/// Prints the differences.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let outcome = arguments.inputs.apply(|file, rendered| {
        let hunks = rendered.diff(file.manifest.text(), CONTEXT);
        let name = file.name.trim_start_matches("./").trim_start_matches('/');
        if hunks.is_empty() { hunks } else { format!("--- a/{name}\n+++ b/{name}\n{hunks}") }
    })?;
    output::print_all(outcome.files.iter().map(String::as_str))?;
    Ok(match (outcome.failed, outcome.files.iter().all(String::is_empty)) {
        (true, _) => ExitCode::from(2),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(1),
    })
}
