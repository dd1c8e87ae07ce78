//! Files to manifests. A file that cannot be read is told of, and the others go on.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, bail};
use podpolicy_manifests::{Manifest, Position};

use super::{
    mistake::Mistake,
    parallel::in_parallel,
    walk::{self, Found},
};
use crate::output;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 256 * 1024 * 1024;

/// How messages name what comes by stdin.
const STDIN: &str = "stdin";

/// How many files a message names.
const MOST_NAMED: usize = 5;

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
pub(super) fn read(paths: &[PathBuf]) -> Reading {
    let mut reading = Reading { files: Vec::new(), mistakes: Vec::new() };
    let mut sources = Vec::new();
    let mut seen = HashSet::new();
    for path in paths {
        if path.as_os_str() == "-" {
            sources.push(None);
        } else {
            // As a text, because the hash of a path looks at each of its parts.
            let mut is_new = |file: &Found| seen.insert(file.canonical.clone().into_os_string());
            match walk::files(path) {
                Ok(files) => sources.extend(files.into_iter().filter(|file| is_new(file)).map(Some)),
                Err(mistake) => reading.mistakes.push(mistake),
            }
        }
    }
    let mut others = Vec::new();
    for read in in_parallel("reading", sources, |source| source.map_or_else(load_stdin, load)) {
        match read {
            Load::Manifest(file) => reading.files.push(file),
            Load::Other(name) => others.push(name),
            Load::Mistake(mistake) => reading.mistakes.push(mistake),
            Load::Unreadable(mistake) => {
                output::warn(&format!("{mistake}; the file is passed over, because it seems to be no manifest"));
            }
        }
    }
    if let [first @ .., last] = others.as_slice() {
        let named = first.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>();
        let last = if first.len() > MOST_NAMED { format!("{} more", others.len() - MOST_NAMED) } else { last.clone() };
        let listed = if named.is_empty() { last } else { format!("{} and {last}", named.join(", ")) };
        output::warn(&format!("passed over, because they hold no Kubernetes object: {listed}"));
    }
    reading
}

/// What a file turns out to be.
enum Load {
    Manifest(Loaded),
    /// Another kind of file, found in a folder.
    Other(String),
    Mistake(Mistake),
    /// A file found in a folder that cannot be read, and does not look like a manifest.
    Unreadable(Mistake),
}

fn load_stdin() -> Load {
    static IS_READ: AtomicBool = AtomicBool::new(false);
    if IS_READ.swap(true, Ordering::Relaxed) {
        return Load::Mistake(Mistake::of_file(STDIN, "- is given twice, and stdin can be read once"));
    }
    match bounded(io::stdin(), 0) {
        Ok(bytes) if bytes.trim_ascii().is_empty() => {
            Load::Mistake(Mistake::of_file(STDIN, "nothing came; did the command before the pipe fail?"))
        }
        Ok(bytes) => parsed(STDIN.to_owned(), None, bytes, false),
        Err(error) => Load::Mistake(Mistake::unread(STDIN, &error)),
    }
}

fn load(Found { path, canonical, in_folder }: Found) -> Load {
    let name = walk::name(&path);
    let read = |file: File| {
        let expected = file.metadata()?.len();
        bounded(file, expected)
    };
    match File::open(&path).and_then(read) {
        Ok(bytes) => parsed(name, Some(canonical), bytes, in_folder),
        Err(error) => Load::Mistake(Mistake::unread(&name, &error)),
    }
}

/// What lies in a folder need not be a manifest; what was named is meant to be one.
fn parsed(name: String, path: Option<PathBuf>, bytes: Vec<u8>, in_folder: bool) -> Load {
    let manifest = text(&name, bytes).and_then(|text| {
        let is_manifest = in_folder && is_manifest(&text);
        Manifest::parse(text).map_err(|problem| (Mistake::at(&name, problem.position, problem.message), is_manifest))
    });
    match manifest {
        Ok(manifest) => {
            let documents = manifest.documents();
            let is_other = in_folder && !documents.is_empty() && !documents.iter().any(|document| manifest.is_object(document));
            if is_other { Load::Other(name) } else { Load::Manifest(Loaded { name, path, manifest }) }
        }
        Err((mistake, is_manifest)) if in_folder && !is_manifest => Load::Unreadable(mistake),
        Err((mistake, _)) => Load::Mistake(mistake),
    }
}

/// What stdin holds.
pub(super) fn stdin() -> Result<Manifest> {
    let Reading { files, mistakes } = read(&[PathBuf::from("-")]);
    match (files.into_iter().next(), mistakes.into_iter().next()) {
        (_, Some(mistake)) => Err(mistake.into()),
        (Some(file), None) => Ok(file.manifest),
        (None, None) => bail!("stdin cannot be read"),
    }
}

/// All bytes, but no more than are too many; so many are expected.
fn bounded(source: impl Read, expected: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(expected.min(LARGEST)).unwrap_or_default());
    source.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
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
