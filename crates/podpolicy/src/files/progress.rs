//! How far a command has come that takes long: a line on stderr, where that is a terminal, and gone when the work is done.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// What takes no longer than this says nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// How far the work on some files has come.
pub(super) struct Progress {
    what: &'static str,
    files: u64,
    started: Instant,
    bar: OnceLock<ProgressBar>,
}

impl Progress {
    /// `what` is done with the files, such as `reading`.
    pub(super) fn new(what: &'static str, files: usize) -> Self {
        Self { what, files: u64::try_from(files).unwrap_or(u64::MAX), started: Instant::now(), bar: OnceLock::new() }
    }

    /// So many files are done.
    pub(super) fn reached(&self, done: usize) {
        if self.bar.get().is_none() && self.started.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_init(|| {
            let style = ProgressStyle::with_template("podpolicy: {msg} {pos} of {len} files {wide_bar}").expect("the template is sound");
            ProgressBar::new(self.files).with_style(style).with_message(self.what)
        });
        bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
