//! The pods that files describe, for `podpolicy explain -f`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use podpolicy_manifests::subjects;

use super::{
    Inputs, Options,
    mistake::{self, Mistake},
    read,
};
use crate::{
    explain::{Described, Explained},
    output,
};

/// How many pods a message names.
const MOST_NAMED: usize = 10;

/// Finds the pods in the files, and decides on them; with a name only those of that object.
pub(crate) fn find(files: Vec<PathBuf>, options: Options, name: Option<&str>) -> Result<Vec<Explained>> {
    let inputs = Inputs { options, paths: files };
    let read::Reading { files, mistakes } = read::read(&inputs.paths);
    mistake::none(mistakes)?;
    let program = inputs.program(&files)?;
    let (mut explained, mut passed_over) = (Vec::new(), Vec::new());
    for file in &files {
        let found = subjects(&file.manifest, &inputs.options.namespace);
        for subject in found.map_err(|problem| Mistake::at(&file.name, problem.position, problem.message))? {
            let title = format!("{}/{}", subject.kind, subject.pod.name);
            let in_namespace = format!("{}/{}", subject.pod.namespace, subject.pod.name);
            if name.is_some_and(|name| name != subject.pod.name && name != in_namespace && !name.eq_ignore_ascii_case(&title)) {
                passed_over.push(title);
                continue;
            }
            let outcome = program.decide(&subject.pod);
            let described = Described { kind: subject.kind, file: file.name.clone(), position: subject.position };
            let is_excluded = inputs.options.exclude_namespaces.contains(&subject.pod.namespace);
            explained.push(Explained { pod: subject.pod, outcome, described: Some(described), existing: None, is_excluded });
        }
    }
    match (name, passed_over.is_empty()) {
        (Some(name), false) => {
            ensure!(!explained.is_empty(), "the files have no {name}; they have {}", output::listed(&passed_over, MOST_NAMED));
        }
        _ => ensure!(!explained.is_empty(), "the files have no pod and nothing with a pod template"),
    }
    Ok(explained)
}
