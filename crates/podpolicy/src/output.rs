//! What goes to stdout, and what to stderr.

use std::io::{ErrorKind, Write as _, stdout};

use anyhow::{Context as _, Result};

/// Prints the text as it is; a reader that stops reading is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    match stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Tells of a mistake that the command goes on after.
#[allow(clippy::print_stderr, reason = "messages of a command line go to stderr")]
pub(crate) fn error(message: &str) {
    eprintln!("podpolicy: error: {message}");
}

/// Tells of something that the user should look at.
#[allow(clippy::print_stderr, reason = "messages of a command line go to stderr")]
pub(crate) fn warn(message: &str) {
    eprintln!("podpolicy: warning: {message}");
}

/// Tells of what was done.
#[allow(clippy::print_stderr, reason = "messages of a command line go to stderr")]
pub(crate) fn say(message: &str) {
    eprintln!("podpolicy: {message}");
}
