//! The files that paths stand for. Symbolic links in folders are not followed, so that nothing outside of them is read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use ignore::WalkBuilder;

/// How the names of files in a folder end that are read.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// A file that was named, or found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Whether it was found in a folder that was named.
    pub(super) in_folder: bool,
}

/// The files, in the order of the paths and by name in each folder.
pub(super) fn files(path: &Path) -> Result<Vec<Found>> {
    if !fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.is_dir() {
        return Ok(vec![Found { path: path.to_owned(), in_folder: false }]);
    }
    let mut found = Vec::new();
    for entry in WalkBuilder::new(path).require_git(false).follow_links(false).sort_by_file_name(std::ffi::OsStr::cmp).build() {
        let entry = entry.with_context(|| format!("cannot read {}", path.display()))?;
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        if is_file && entry.path().extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known)) {
            found.push(Found { path: entry.into_path(), in_folder: true });
        }
    }
    Ok(found)
}
