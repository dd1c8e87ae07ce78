//! `podpolicy diff`: what `podpolicy render` would change, as a unified diff that `patch -p1` and `git apply` take.

use std::{env, fs, path::Path, process::ExitCode};

use anyhow::Result;
use clap::Args;

use super::{Inputs, read::Loaded};
use crate::output;

/// Lines around a change that are shown.
const CONTEXT: usize = 3;

/// What of the command line it reads.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    inputs: Inputs,
}

/// The name of a file in a patch, as git writes it: from the current folder on where it is below, in quotes where it has characters that would
/// end it, and with a tab after it where it has blanks.
fn named(side: &str, file: &Loaded, current: Option<&Path>) -> String {
    let below = current.and_then(|current| file.path.as_ref()?.strip_prefix(current).ok());
    let name = below.map_or_else(|| file.name.trim_start_matches('/').to_owned(), |path| path.display().to_string());
    let name = format!("{side}/{name}");
    if name.contains(|character: char| character.is_control() || matches!(character, '"' | '\\')) {
        let escaped = name.chars().map(|character| match character {
            '\t' => "\\t".to_owned(),
            '\n' => "\\n".to_owned(),
            '"' | '\\' => format!("\\{character}"),
            other if other.is_control() => format!("\\{:03o}", u32::from(other)),
            other => other.to_string(),
        });
        return format!("\"{}\"", escaped.collect::<String>());
    }
    let end = if name.contains(' ') { "\t" } else { "" };
    name + end
}

/// Prints the differences.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let current = env::current_dir().and_then(fs::canonicalize).ok();
    let outcome = arguments.inputs.apply(|file, rendered| {
        let hunks = rendered.diff(file.manifest.text(), CONTEXT);
        let named = |side| named(side, &file, current.as_deref());
        if hunks.is_empty() { hunks } else { format!("--- {}\n+++ {}\n{hunks}", named("a"), named("b")) }
    })?;
    // A part of the patch would look like all of it.
    if !outcome.failed {
        output::print_all(outcome.files.iter().map(String::as_str))?;
    }
    Ok(match (outcome.failed, outcome.files.iter().all(String::is_empty)) {
        (true, _) => ExitCode::from(2),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(1),
    })
}
