//! `podpolicy render`: manifests with the policies applied.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use podpolicy_manifests::terminated;

use super::{Inputs, write};
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
    let failed = if arguments.write { write_back(&arguments.inputs)? } else { print(&arguments.inputs)? };
    Ok(if failed { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

/// Writes what changes; whether something failed.
fn write_back(inputs: &Inputs) -> Result<bool> {
    let outcome = inputs.apply(|file, rendered| match (&file.path, rendered.text(file.manifest.text())) {
        (Some(path), Some(text)) if rendered.problems.is_empty() => write::replace(path, &text).map(|()| Some(file.name)),
        _ => Ok(None),
    })?;
    for changed in outcome.files {
        if let Some(name) = changed? {
            output::say(&format!("{name} changed"));
        }
    }
    Ok(outcome.failed)
}

/// Prints the texts, unless something failed: a part of the manifests would look like all of them to whatever reads stdout.
fn print(inputs: &Inputs) -> Result<bool> {
    let mut outcome = inputs.apply(|file, rendered| rendered.text(file.manifest.text()).unwrap_or_else(|| file.manifest.into_text()))?;
    if !outcome.failed {
        if let Some((_, before_last)) = outcome.files.split_last_mut() {
            for text in before_last {
                *text = terminated(std::mem::take(text));
            }
        }
        output::print_all(joined(&outcome.files))?;
    }
    Ok(outcome.failed)
}

/// The texts as one; those of several files are parted by document markers. All but the last end with their line.
fn joined(texts: &[String]) -> impl Iterator<Item = &str> {
    let mut before = None;
    texts.iter().filter(|text| !text.is_empty()).flat_map(move |text| {
        let text = if before.is_some() { text.trim_start_matches('\u{feff}') } else { text.as_str() };
        let has_marker = before.is_none() || text.starts_with("---") || text.starts_with('%');
        before = Some(text);
        [if has_marker { "" } else { "---\n" }, text]
    })
}
