//! `podpolicy diff`: what `podpolicy render` would change, as a unified diff that `patch -p1` and `git apply` take.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use similar::TextDiff;

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
    let outcome = arguments.inputs.apply()?;
    let mut printed = String::new();
    for (file, rendered) in &outcome.files {
        let Some(text) = &rendered.text else { continue };
        let name = file.name.trim_start_matches("./").trim_start_matches('/');
        let diff = TextDiff::from_lines(file.manifest.text(), text);
        let (old, new) = (format!("a/{name}"), format!("b/{name}"));
        printed.push_str(&diff.unified_diff().context_radius(CONTEXT).header(&old, &new).to_string());
    }
    output::print(&printed)?;
    Ok(match (outcome.failed, printed.is_empty()) {
        (true, _) => ExitCode::from(2),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(1),
    })
}
