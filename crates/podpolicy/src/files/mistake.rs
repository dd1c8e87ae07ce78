//! A mistake in a file, as it is told: file, line, column, what is wrong, and the line itself.

use std::{fmt, io};

use podpolicy_manifests::Position;

use crate::output;

/// A mistake in a file.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) file: String,
    pub(crate) position: Option<Position>,
    pub(crate) message: String,
    line: Option<String>,
}

impl Mistake {
    /// A mistake that concerns the whole file.
    pub(crate) fn of_file(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), position: None, message: message.into(), line: None }
    }

    /// A file that cannot be read.
    pub(crate) fn unread(file: &str, error: &io::Error) -> Self {
        Self::of_file(file, format!("cannot be read: {}", output::cause(error)))
    }

    /// A mistake at a place.
    pub(crate) fn at(file: &str, position: Position, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), position: Some(position), message: message.into(), line: None }
    }

    /// The same mistake, with the line that it is in, unless that may hold credentials.
    #[must_use]
    pub(crate) fn with_line(mut self, text: &str) -> Self {
        let line = self
            .position
            .and_then(|position| text.lines().nth(position.line - 1))
            .map(|line| line.trim_start_matches('\u{feff}'))
            .filter(|line| !may_hold_credentials(line));
        self.line = line.map(str::to_owned);
        self
    }
}

/// The longest line that is shown, in bytes.
const LONGEST: usize = 400;

/// Whether a line is a whole object, or has the value of an environment variable or a header.
pub(crate) fn may_hold_credentials(line: &str) -> bool {
    line.len() > LONGEST || line.contains("value:") || line.contains("\"value\"")
}

/// All mistakes of some files.
#[derive(Debug)]
pub(crate) struct Mistakes(pub(crate) Vec<Mistake>);

/// Fails where there are mistakes.
pub(crate) fn none(mistakes: Vec<Mistake>) -> anyhow::Result<()> {
    if mistakes.is_empty() { Ok(()) } else { Err(Mistakes(mistakes).into()) }
}

impl std::error::Error for Mistake {}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<_> = self.0.iter().map(Mistake::to_string).collect();
        f.write_str(&told.join("\n"))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, position, message, line } = self;
        match position {
            Some(position) => write!(f, "{file}:{position}: {message}")?,
            None => write!(f, "{file}: {message}")?,
        }
        if let (Some(position), Some(line)) = (position, line) {
            let number = position.line.to_string();
            let (gap, before) = (" ".repeat(number.len()), " ".repeat(position.column - 1));
            write!(f, "\n{gap} |\n{number} | {line}\n{gap} | {before}^")?;
        }
        Ok(())
    }
}
