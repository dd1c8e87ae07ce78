//! The files that paths stand for. Symbolic links in folders are not followed, so that nothing outside of them is read.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ignore::WalkBuilder;

use super::{kustomize, mistake::Mistake};
use crate::output;

/// How the names of files in a folder end that are read.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The file that makes a folder a Helm chart.
const CHART: &str = "Chart.yaml";

/// A file that was named, or found.
#[derive(Debug)]
pub(super) struct Found {
    /// As messages name it.
    pub(super) path: PathBuf,
    /// Without symbolic links.
    pub(super) canonical: PathBuf,
    /// Whether it was found in a folder that was named.
    pub(super) in_folder: bool,
}

/// How messages name a file.
pub(super) fn name(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

/// The files, in the order of the paths and by name in each folder. What is no manifest by its place, in a Helm chart or as a part of a
/// kustomization, is passed over, and a warning says so.
pub(super) fn files(path: &Path) -> Result<Vec<Found>, Mistake> {
    let unread = |error: &io::Error| Mistake::unread(&name(path), error);
    let root = fs::canonicalize(path).map_err(|error| unread(&error))?;
    if !fs::metadata(path).map_err(|error| unread(&error))?.is_dir() {
        return Ok(vec![Found { path: path.to_owned(), canonical: root, in_folder: false }]);
    }
    if path.join(CHART).is_file() {
        return Err(Mistake::of_file(
            &name(path),
            format!(
                "a Helm chart, whose templates are no manifests yet: render it first (helm template {} | podpolicy render -)",
                path.display()
            ),
        ));
    }
    let charts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&charts);
    let mut found = Vec::new();
    let walk = WalkBuilder::new(path)
        .require_git(false)
        .follow_links(false)
        // In one folder the whole paths are in the order of the names, and names would have to be looked for in the paths.
        .sort_by_file_path(|a, b| a.as_os_str().cmp(b.as_os_str()))
        .filter_entry(move |entry| {
            let is_chart = entry.file_type().is_some_and(|kind| kind.is_dir()) && entry.path().join(CHART).is_file();
            if is_chart {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(entry.path().display().to_string());
            }
            !is_chart
        })
        .build();
    for entry in walk {
        let entry = entry.map_err(|error| Mistake::of_file(&name(path), format!("cannot be read: {}", output::cause(&error))))?;
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        if is_file && entry.path().extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known)) {
            let canonical = entry.path().strip_prefix(path).map_or_else(|_| entry.path().to_owned(), |inner| root.join(inner));
            found.push(Found { path: entry.into_path(), canonical, in_folder: true });
        }
    }
    for chart in charts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        output::warn(&format!("{chart} is a Helm chart and is passed over; render it first (helm template {chart} | podpolicy render -)"));
    }
    kustomize::without_parts(&mut found);
    Ok(found)
}
