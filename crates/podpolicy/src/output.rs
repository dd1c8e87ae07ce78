//! What goes to stdout, and what to stderr.

use std::{
    fmt,
    io::{BufWriter, ErrorKind, Write as _, stdout},
};

use anyhow::{Context as _, Result};

/// Prints the text as it is; a reader that stops reading is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    print_all([text])
}

/// Prints the texts one after the other.
pub(crate) fn print_all<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let mut stdout = BufWriter::new(stdout().lock());
    match texts.into_iter().try_for_each(|text| stdout.write_all(text.as_bytes())).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The first of some things, and how many more there are: `a, b and 2 more`.
pub(crate) fn listed<T: fmt::Display>(things: &[T], most: usize) -> String {
    let named = things.iter().take(most).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let more = things.len().saturating_sub(most);
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// A table as kubectl prints them: columns as wide as they must be, no lines.
pub(crate) struct Table {
    table: comfy_table::Table,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING).set_header(header);
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        Self { table }
    }

    pub(crate) fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        self.table.add_row(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.lines().try_for_each(|line| writeln!(f, "{}", line.trim_end()))
    }
}

/// What an error says, without the numbers of the system's.
pub(crate) fn cause(error: &dyn fmt::Display) -> String {
    let mut text = error.to_string();
    while let Some(start) = text.find(" (os error ") {
        let end = text[start..].find(')').map_or(text.len(), |end| start + end + 1);
        text.replace_range(start..end, "");
    }
    text
}

/// Tells of a mistake.
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
