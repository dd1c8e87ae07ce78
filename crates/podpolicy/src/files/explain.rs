//! The pods that files describe, for `podpolicy explain -f`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use podpolicy_controller::DEFAULT_EXCLUDED_NAMESPACES;
use podpolicy_manifests::subjects;

use super::{
    Inputs, Options,
    mistake::{self, Mistake},
    read,
};
use crate::explain::{Described, Explained};

/// The namespace of objects that name none, if not told otherwise.
const DEFAULT_NAMESPACE: &str = "default";

/// Finds the pods in the files, and decides on them; with a name only those of that object.
pub(crate) fn find(files: Vec<PathBuf>, policies: Vec<PathBuf>, namespace: Option<String>, name: Option<&str>) -> Result<Vec<Explained>> {
    let options = Options {
        policies,
        namespace: namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        exclude_namespaces: DEFAULT_EXCLUDED_NAMESPACES.map(str::to_owned).into(),
        protect_keys: Vec::new(),
    };
    let inputs = Inputs { options, paths: files };
    let read::Reading { files, mistakes } = read::read(&inputs.paths)?;
    mistake::none(mistakes)?;
    let program = inputs.program(&files)?;
    let (mut explained, mut passed_over) = (Vec::new(), Vec::new());
    for file in &files {
        let found = subjects(&file.manifest, &inputs.options.namespace);
        for subject in found.map_err(|problem| Mistake::at(&file.name, problem.position, problem.message))? {
            let title = format!("{}/{}", subject.kind, subject.pod.name);
            if name.is_some_and(|name| name != subject.pod.name && !name.eq_ignore_ascii_case(&title)) {
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
        (Some(name), false) => ensure!(!explained.is_empty(), "the files have no {name}; they have {}", passed_over.join(", ")),
        _ => ensure!(!explained.is_empty(), "the files have no pod and nothing with a pod template"),
    }
    Ok(explained)
}
