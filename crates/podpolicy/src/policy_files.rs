//! Policies in files. A mistake is named by file, document and field. It never asks a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use podpolicy_api::{ClusterPodPolicy, GROUP, PodPolicy};
use podpolicy_engine::{NAME_LABEL, Policy};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::schema;

/// How the names of files in a folder end that are read.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// What files hold.
#[derive(Debug, Default)]
pub(crate) struct PolicyFiles {
    pub(crate) policies: Vec<Policy>,
    /// The labels of the namespaces among the files.
    pub(crate) namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// Reads files and folders, `-` for stdin. PodPolicies that name no namespace are in `namespace`.
pub(crate) fn read(paths: &[PathBuf], namespace: &str) -> Result<PolicyFiles> {
    let mut found = PolicyFiles::default();
    for path in paths {
        if path.as_os_str() == "-" {
            let text = io::read_to_string(io::stdin()).context("cannot read stdin")?;
            found.add("stdin", &text, namespace)?;
            continue;
        }
        let cannot_read = || format!("cannot read {}", path.display());
        let files = if fs::metadata(path).with_context(cannot_read)?.is_dir() { files_in(path)? } else { vec![path.clone()] };
        for file in files {
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            found.add(&file.display().to_string(), &text, namespace)?;
        }
    }
    ensure!(!found.policies.is_empty(), "the files hold no PodPolicy and no ClusterPodPolicy");
    Ok(found)
}

/// The files of a folder and of those in it, by name.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot_read = || format!("cannot read {}", folder.display());
    let entries: io::Result<Vec<_>> = fs::read_dir(folder).with_context(cannot_read)?.map(|entry| Ok(entry?.path())).collect();
    let mut entries = entries.with_context(cannot_read)?;
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        if entry.is_dir() {
            files.extend(files_in(&entry)?);
        } else if entry.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known)) {
            files.push(entry);
        }
    }
    Ok(files)
}

impl PolicyFiles {
    fn add(&mut self, file: &str, text: &str, namespace: &str) -> Result<()> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).with_context(|| format!("{file} is not YAML"))?;
        for (number, document) in (1..).zip(documents) {
            let title = || match (document["kind"].as_str(), document["metadata"]["name"].as_str()) {
                (Some(kind), Some(name)) => format!("{file}: document {number} ({kind} {name})"),
                _ => format!("{file}: document {number}"),
            };
            self.add_document(&document, namespace).with_context(title)?;
        }
        let mut seen = BTreeSet::new();
        let twice = self.policies.iter().map(Policy::id).find(|id| !seen.insert(*id));
        twice.map_or(Ok(()), |id| Err(anyhow!("{file}: {id} is there twice; remove one")))
    }

    fn add_document(&mut self, document: &Value, namespace: &str) -> Result<()> {
        let word = |field: &str| document[field].as_str().unwrap_or_default();
        match (word("apiVersion"), word("kind")) {
            (version, kind @ ("PodPolicy" | "ClusterPodPolicy")) if version.split('/').next() == Some(GROUP) => {
                schema::check(kind, version, document)?;
                self.policies.push(policy(kind, document, namespace)?);
            }
            ("v1", "Namespace") => {
                let name = document["metadata"]["name"].as_str().context("metadata.name: a name is required")?;
                let labels = document["metadata"]["labels"].as_object().into_iter().flatten();
                let mut labels: BTreeMap<_, _> =
                    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
                // The API server puts it there.
                labels.insert(NAME_LABEL.to_owned(), name.to_owned());
                self.namespaces.insert(name.to_owned(), labels);
            }
            _ => {}
        }
        Ok(())
    }
}

fn policy(kind: &str, document: &Value, namespace: &str) -> Result<Policy> {
    let policy = if kind == "PodPolicy" {
        let mut policy: PodPolicy = parsed(document)?;
        policy.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
        Policy::from_namespaced(&policy)
    } else {
        Policy::from_cluster(&parsed::<ClusterPodPolicy>(document)?)
    };
    if let [problem, ..] = policy.problems() {
        bail!("{problem}");
    }
    ensure!(!policy.id().name.is_empty(), "metadata.name: a name is required");
    Ok(policy)
}

fn parsed<K: DeserializeOwned>(document: &Value) -> Result<K> {
    Ok(serde_json::from_value(document.clone())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<PolicyFiles> {
        let mut files = PolicyFiles::default();
        files.add("a.yaml", text, "shop").map(|()| files)
    }

    fn policy(metadata: &str, spec: &str) -> String {
        format!("{{ apiVersion: podpolicy.dev/v1alpha1, kind: PodPolicy, metadata: {{ {metadata} }}, spec: {{ {spec} }} }}\n")
    }

    #[test]
    fn namespace_is_that_of_the_policy_or_else_the_given_one() {
        let text = policy("name: a", "selector: {}") + "---\n" + &policy("name: b, namespace: bank", "selector: {}");
        let ids: Vec<_> = read_text(&text).unwrap().policies.iter().map(|policy| policy.id().to_string()).collect();
        assert_eq!(ids, ["PodPolicy shop/a", "PodPolicy bank/b"]);
    }

    #[test]
    fn other_kinds_are_passed_over() {
        let text = "kind: Kustomization\n---\n# nothing\n---\n".to_owned() + &policy("name: a", "selector: {}");
        assert_eq!(read_text(&text).unwrap().policies.len(), 1);
    }

    #[test]
    fn mistakes_are_named_by_file_document_and_field() {
        let good = policy("name: a", "selector: {}");
        for (second, wanted) in [
            (policy("name: b", "selector: {}, lables: {}"), "a.yaml: document 2 (PodPolicy b): spec.lables: unknown field"),
            (policy("name: b", "labels: {}"), "a.yaml: document 2 (PodPolicy b): spec.selector: required"),
            (policy("name: b", "selector: {}, priority: high"), "a.yaml: document 2 (PodPolicy b): spec.priority: an integer is wanted"),
            (
                policy("name: b", "selector: {}, containers: [{ livenessProbe: { httpGet: { path: 5, port: 80 } } }]"),
                "a.yaml: document 2 (PodPolicy b): spec.containers[0].livenessProbe.httpGet.path: a string is wanted",
            ),
            (
                policy("name: b", "selector: {}, enforcement: Maybe"),
                "a.yaml: document 2 (PodPolicy b): spec.enforcement: one of Enforce, Audit is wanted",
            ),
            (policy("name: b", "selector: {}, priority: 2000"), "a.yaml: document 2 (PodPolicy b): spec.priority: at most 1000 is wanted"),
            (policy("", "selector: {}"), "a.yaml: document 2: metadata.name: a name is required"),
            (
                policy("name: b", "selector: { matchExpressions: [{ key: a, operator: In }] }"),
                "a.yaml: document 2 (PodPolicy b): spec.selector.matchExpressions[0].values: required for In and NotIn",
            ),
            (good.clone(), "a.yaml: PodPolicy shop/a is there twice"),
        ] {
            let error = read_text(&format!("{good}---\n{second}")).unwrap_err();
            assert!(format!("{error:#}").starts_with(wanted), "{error:#}");
        }
    }
}
