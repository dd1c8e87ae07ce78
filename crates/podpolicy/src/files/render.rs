//! `podpolicy render`: manifests with the policies applied.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;

use super::{Inputs, Outcome, write};
use crate::output;

/// What of the command line it reads.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    inputs: Inputs,

    /// Edit the files in place instead of printing them
    ///
    /// Only files that change are written, each in one step, and never one with an error in it.
    #[arg(short, long)]
    write: bool,
}

/// Prints or writes the manifests.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let is_stdin = |path: &std::path::PathBuf| path.as_os_str() == "-";
    ensure!(!arguments.write || !arguments.inputs.paths.iter().any(is_stdin), "stdin cannot be edited in place; leave out --write");
    let outcome = arguments.inputs.apply()?;
    if arguments.write {
        write_back(&outcome)?;
    } else if !outcome.failed {
        // A part of the manifests would look like all of them to whatever reads stdout.
        output::print(&joined(&outcome))?;
    }
    Ok(if outcome.failed { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

fn write_back(outcome: &Outcome) -> Result<()> {
    for (file, rendered) in &outcome.files {
        if let (Some(path), Some(text), true) = (&file.path, &rendered.text, rendered.problems.is_empty()) {
            write::replace(path, text)?;
            output::say(&format!("{} changed", file.name));
        }
    }
    Ok(())
}

/// The texts as one; those of several files are parted by document markers.
fn joined(outcome: &Outcome) -> String {
    let mut joined = String::new();
    for (file, rendered) in &outcome.files {
        let text = rendered.text.as_deref().unwrap_or(file.manifest.text());
        if joined.is_empty() {
            joined.push_str(text);
            continue;
        }
        if !joined.ends_with('\n') {
            joined.push('\n');
        }
        let text = text.trim_start_matches('\u{feff}');
        if !text.starts_with("---") && !text.starts_with('%') {
            joined.push_str("---\n");
        }
        joined.push_str(text);
    }
    joined
}
