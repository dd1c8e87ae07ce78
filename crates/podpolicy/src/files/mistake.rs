//! A mistake in a file, as it is told: file, line, column, what is wrong, and the line itself.

use std::fmt;

use podpolicy_manifests::Position;

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

    /// A mistake at a place.
    pub(crate) fn at(file: &str, position: Position, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), position: Some(position), message: message.into(), line: None }
    }

    /// The same mistake, with the line that it is in. Only for files that hold no credentials: policies do not.
    #[must_use]
    pub(crate) fn with_line(mut self, text: &str) -> Self {
        self.line = self.position.and_then(|position| text.lines().nth(position.line - 1)).map(str::to_owned);
        self
    }
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
