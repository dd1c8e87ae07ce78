//! Paths under which there is nothing: a wrong one should not pass for one where all is well.

use std::{fs, path::PathBuf};

use podpolicy_manifests::objects;

use super::read::Loaded;
use crate::output;

/// Tells of each path under which no file has a manifest.
pub(super) fn warn(paths: &[PathBuf], files: &[Loaded]) {
    for path in paths {
        let is_stdin = path.as_os_str() == "-";
        let canonical = fs::canonicalize(path).ok().filter(|_| !is_stdin);
        let is_below = |file: &&Loaded| match (&canonical, &file.path) {
            (Some(path), Some(file)) => file.starts_with(path),
            (path, file) => path.is_none() && file.is_none(),
        };
        if !files.iter().filter(is_below).any(has_manifest) {
            let name = if is_stdin { "stdin".into() } else { path.to_string_lossy() };
            output::warn(&format!("no manifests in {name}"));
        }
    }
}

/// Whether there is an object in the file, or something that cannot be read, which is told of by itself.
fn has_manifest(file: &Loaded) -> bool {
    file.manifest.documents().iter().any(|document| file.manifest.value(document).map_or(true, |value| !objects(&value).is_empty()))
}
