//! Policies in files. A mistake is named by file, line, column and field. It never asks a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::{Result, anyhow, ensure};
use podpolicy_api::{ClusterPodPolicy, GROUP, PodPolicy};
use podpolicy_engine::{NAME_LABEL, Policy};
use podpolicy_manifests::{Document, Manifest, Object, Position, Step, objects};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{mistake::Mistake, read};
use crate::schema::{self, Wrong};

/// What files hold.
#[derive(Debug, Default)]
pub(crate) struct PolicyFiles {
    pub(crate) policies: Vec<Policy>,
    /// The labels of the namespaces among the files.
    pub(crate) namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The files that were read.
    pub(crate) paths: BTreeSet<PathBuf>,
}

/// Reads files and folders, `-` for stdin. PodPolicies that name no namespace are in `namespace`.
pub(crate) fn read(paths: &[PathBuf], namespace: &str) -> Result<PolicyFiles> {
    let mut found = PolicyFiles::default();
    found.read(paths, namespace)?;
    ensure!(!found.policies.is_empty(), "the files hold no PodPolicy and no ClusterPodPolicy");
    Ok(found)
}

/// What a cluster would say of a policy with commands, and files do not.
pub(crate) fn runs_commands(policy: &Policy) -> String {
    format!(
        "{} runs commands in pods; here that is allowed, and in a cluster the guard (config/guard) allows it only to who may create pods/exec",
        policy.id()
    )
}

/// That the files do not say which labels a namespace has, and a policy asks for them.
pub(crate) fn unknown_labels(choosy: &Policy, namespace: &str) -> String {
    format!(
        "{} selects namespaces by labels, and those of namespace {namespace} are not among the files: it counts as not selected; add the Namespace",
        choosy.id()
    )
}

impl PolicyFiles {
    /// Reads policies from files and folders.
    pub(crate) fn read(&mut self, paths: &[PathBuf], namespace: &str) -> Result<()> {
        let read::Reading { files, mistakes } = read::read(paths)?;
        if let Some(mistake) = mistakes.into_iter().next() {
            return Err(mistake.into());
        }
        for file in files {
            self.add(&file.name, &file.manifest, namespace)?;
            self.paths.extend(file.path);
        }
        Ok(())
    }

    /// Takes in the policies and namespaces of a file.
    pub(crate) fn add(&mut self, file: &str, manifest: &Manifest, namespace: &str) -> Result<()> {
        for document in manifest.documents() {
            let text = manifest.document_text(document);
            if !text.contains(GROUP) && !text.contains("Namespace") {
                continue;
            }
            // Documents that hold no policy may have mistakes of their own, which are told of where they matter.
            let Ok(value) = manifest.value(document) else {
                if manifest.text().contains(GROUP) {
                    manifest.value(document).map_err(|problem| Mistake::at(file, problem.position, problem.message))?;
                }
                continue;
            };
            self.add_value(file, (manifest, document), &[], &value, namespace)?;
        }
        let mut seen = BTreeSet::new();
        let twice = self.policies.iter().map(Policy::id).find(|id| !seen.insert(*id));
        twice.map_or(Ok(()), |id| Err(anyhow!("{file}: {id} is there twice; remove one")))
    }

    /// Takes in the policies and namespaces of a value, which is at that place in a document.
    pub(super) fn add_value(
        &mut self,
        file: &str,
        (manifest, document): (&Manifest, &Document),
        place: &[Step],
        value: &Value,
        namespace: &str,
    ) -> Result<()> {
        for mut object in objects(value) {
            if let Err(wrong) = self.add_object(&object, namespace) {
                object.path.splice(..0, place.iter().cloned());
                return Err(located(file, manifest, document, &object, &wrong).into());
            }
        }
        Ok(())
    }

    fn add_object(&mut self, object: &Object<'_>, namespace: &str) -> Result<(), Wrong> {
        match (object.api_version, object.kind) {
            (version, kind @ ("PodPolicy" | "ClusterPodPolicy")) if version.split('/').next() == Some(GROUP) => {
                schema::check(kind, version, object.value)?;
                self.policies.push(policy(kind, object.value, namespace)?);
            }
            ("v1", "Namespace") => {
                if object.name.is_empty() {
                    return Err(Wrong::field("metadata.name", "a name is required"));
                }
                let labels = object.value["metadata"]["labels"].as_object().into_iter().flatten();
                let mut labels: BTreeMap<_, _> =
                    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
                // The API server puts it there.
                labels.insert(NAME_LABEL.to_owned(), object.name.to_owned());
                self.namespaces.insert(object.name.to_owned(), labels);
            }
            _ => {}
        }
        Ok(())
    }
}

/// The mistake with its place in the file. Policies hold no credentials, so the line is shown.
fn located(file: &str, manifest: &Manifest, document: &Document, object: &Object<'_>, wrong: &Wrong) -> Mistake {
    let path: Vec<Step> = object.path.iter().cloned().chain(wrong.path()).collect();
    let position = Position::of(manifest.text(), manifest.offset(document, &path));
    let title = if object.name.is_empty() { object.kind.to_owned() } else { format!("{} {}", object.kind, object.name) };
    Mistake::at(file, position, format!("{title}: {wrong}")).with_line(manifest.text())
}

fn policy(kind: &str, document: &Value, namespace: &str) -> Result<Policy, Wrong> {
    let policy = if kind == "PodPolicy" {
        let mut policy: PodPolicy = parsed(document)?;
        policy.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
        Policy::from_namespaced(&policy)
    } else {
        Policy::from_cluster(&parsed::<ClusterPodPolicy>(document)?)
    };
    if let [problem, ..] = policy.problems() {
        return Err(Wrong::of(problem));
    }
    if policy.id().name.is_empty() {
        return Err(Wrong::field("metadata.name", "a name is required"));
    }
    Ok(policy)
}

fn parsed<K: DeserializeOwned>(document: &Value) -> Result<K, Wrong> {
    serde_json::from_value(document.clone()).map_err(|error| Wrong::field("", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<PolicyFiles> {
        let mut files = PolicyFiles::default();
        files.add("a.yaml", &Manifest::parse(text.to_owned()).unwrap(), "shop").map(|()| files)
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
    fn mistakes_are_named_by_file_line_column_and_field() {
        let good = policy("name: a", "selector: {}");
        for (second, wanted) in [
            (policy("name: b", "selector: {}, lables: {}"), "a.yaml:3:101: PodPolicy b: spec.lables: unknown field; did you mean labels?"),
            (policy("name: b", "labels: {}"), "a.yaml:3:79: PodPolicy b: spec.selector: required"),
            (policy("name: b", "selector: {}, priority: high"), "a.yaml:3:101: PodPolicy b: spec.priority: an integer is wanted"),
            (
                policy("name: b", "selector: {}, containers: [{ livenessProbe: { httpGet: { path: 5, port: 80 } } }]"),
                "a.yaml:3:144: PodPolicy b: spec.containers[0].livenessProbe.httpGet.path: a string is wanted",
            ),
            (
                policy("name: b", "selector: {}, enforcement: Maybe"),
                "a.yaml:3:101: PodPolicy b: spec.enforcement: one of Enforce, Audit is wanted",
            ),
            (policy("name: b", "selector: {}, priority: 2000"), "a.yaml:3:101: PodPolicy b: spec.priority: at most 1000 is wanted"),
            (policy("", "selector: {}"), "a.yaml:3:56: PodPolicy: metadata.name: a name is required"),
            (
                policy("name: b", "selector: { matchExpressions: [{ key: a, operator: In }] }"),
                "a.yaml:3:118: PodPolicy b: spec.selector.matchExpressions[0].values: required for In and NotIn",
            ),
            (good.clone(), "a.yaml: PodPolicy shop/a is there twice"),
        ] {
            let error = read_text(&format!("{good}---\n{second}")).unwrap_err();
            let told = format!("{error:#}");
            let told = told.lines().next().unwrap();
            assert!(told.starts_with(wanted), "{told}");
        }
    }
}
