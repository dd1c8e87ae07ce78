//! Files to manifests. A file that cannot be read is told of, and the others go on.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use podpolicy_manifests::{Manifest, Position};

use super::{
    mistake::Mistake,
    walk::{self, Found},
};
use crate::output;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 256 * 1024 * 1024;

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// How messages name it.
    pub(crate) name: String,
    /// Where it is, without symbolic links; none for stdin.
    pub(crate) path: Option<PathBuf>,
    pub(crate) manifest: Manifest,
}

/// All files, and what is wrong with those that cannot be read.
pub(super) struct Reading {
    pub(super) files: Vec<Loaded>,
    pub(super) mistakes: Vec<Mistake>,
}

/// Reads files and folders, `-` for stdin. A file that is named twice is read once.
pub(super) fn read(paths: &[PathBuf]) -> Result<Reading> {
    let mut reading = Reading { files: Vec::new(), mistakes: Vec::new() };
    let mut seen = BTreeSet::new();
    for path in paths {
        if path.as_os_str() == "-" {
            reading.add("stdin", None, bounded(io::stdin()).context("cannot read stdin")?, false);
            continue;
        }
        for Found { path, in_folder } in walk::files(path)? {
            let name = path.display().to_string();
            let cannot_read = || format!("cannot read {name}");
            let canonical = fs::canonicalize(&path).with_context(cannot_read)?;
            if seen.insert(canonical.clone()) {
                let bytes = File::open(&path).and_then(bounded).with_context(cannot_read)?;
                reading.add(&name, Some(canonical), bytes, in_folder);
            }
        }
    }
    Ok(reading)
}

/// What stdin holds.
pub(super) fn stdin() -> Result<Manifest> {
    let Reading { files, mistakes } = read(&[PathBuf::from("-")])?;
    match (files.into_iter().next(), mistakes.into_iter().next()) {
        (_, Some(mistake)) => Err(mistake.into()),
        (Some(file), None) => Ok(file.manifest),
        (None, None) => bail!("stdin cannot be read"),
    }
}

/// All bytes, but no more than are too many.
fn bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Reading {
    fn add(&mut self, name: &str, path: Option<PathBuf>, bytes: Vec<u8>, in_folder: bool) {
        match text(name, bytes).and_then(|text| {
            let is_manifest = is_manifest(&text);
            Manifest::parse(text).map_err(|problem| (Mistake::at(name, problem.position, problem.message), is_manifest))
        }) {
            Ok(manifest) => self.files.push(Loaded { name: name.to_owned(), path, manifest }),
            Err((mistake, is_manifest)) => self.fail(mistake, in_folder, is_manifest),
        }
    }

    /// What lies in a folder need not be a manifest; what was named is meant to be one.
    fn fail(&mut self, mistake: Mistake, in_folder: bool, is_manifest: bool) {
        if in_folder && !is_manifest {
            output::warn(&format!("{mistake}; the file is passed over, because it seems to be no manifest"));
        } else {
            self.mistakes.push(mistake);
        }
    }
}

fn text(name: &str, bytes: Vec<u8>) -> Result<String, (Mistake, bool)> {
    if bytes.len() as u64 > LARGEST {
        return Err((Mistake::of_file(name, format!("larger than {} MiB; split it, or exclude it", LARGEST >> 20)), false));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..at]);
        let mistake = Mistake::at(name, Position::of(&before, before.len()), "not UTF-8: save it as UTF-8, or exclude it");
        (mistake, is_manifest(&before))
    })
}

/// Whether a text that cannot be read seems to be meant as a manifest; templates of Helm charts are not.
fn is_manifest(text: &str) -> bool {
    text.contains("apiVersion") && text.contains("kind") && !text.contains("{{")
}
