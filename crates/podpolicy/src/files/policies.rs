//! Policies in files. A mistake is named by file, line, column and field. It never asks a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::{Result, ensure};
use podpolicy_api::{ClusterPodPolicy, GROUP, PodPolicy};
use podpolicy_engine::{NAME_LABEL, Policy, PolicyId};
use podpolicy_manifests::{Document, Manifest, Object, Position, Problem, Step, objects};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    mistake::{self, Mistake},
    nothing, read,
};
use crate::schema::{self, Wrong};

/// What files hold.
#[derive(Debug, Default)]
pub(crate) struct PolicyFiles {
    pub(crate) policies: Vec<Policy>,
    /// The labels of the namespaces among the files.
    pub(crate) namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The files that were read.
    pub(crate) paths: BTreeSet<PathBuf>,
    /// The policies that are there.
    seen: BTreeSet<PolicyId>,
}

/// Reads files and folders, `-` for stdin. PodPolicies that name no namespace are in `namespace`.
pub(crate) fn read(paths: &[PathBuf], namespace: &str) -> Result<PolicyFiles> {
    let mut found = PolicyFiles::default();
    mistake::none(found.read(paths, namespace))?;
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
    /// Reads policies from files and folders, and returns the mistakes in them.
    pub(crate) fn read(&mut self, paths: &[PathBuf], namespace: &str) -> Vec<Mistake> {
        let read::Reading { files, mut mistakes } = read::read(paths);
        if mistakes.is_empty() {
            nothing::warn(paths, &files);
        }
        for file in files {
            mistakes.extend(self.add(&file.name, &file.manifest, namespace));
            self.paths.extend(file.path);
        }
        mistakes
    }

    /// Takes in the policies and namespaces of a file, and returns the mistakes in it.
    pub(crate) fn add(&mut self, file: &str, manifest: &Manifest, namespace: &str) -> Vec<Mistake> {
        // Documents that hold no policy may have mistakes of their own, which are told of where they matter.
        let is_concerned = manifest.text().contains(GROUP);
        self.documents(file, manifest, namespace, |problem| is_concerned.then(|| Mistake::at(file, problem.position, problem.message)))
    }

    /// Takes in the policies and namespaces of a file that have no mistakes, and returns the mistakes of the others.
    pub(crate) fn take_in(&mut self, file: &str, manifest: &Manifest, namespace: &str) -> Vec<Mistake> {
        self.documents(file, manifest, namespace, |_| None)
    }

    fn documents(
        &mut self,
        file: &str,
        manifest: &Manifest,
        namespace: &str,
        unreadable: impl Fn(Problem) -> Option<Mistake>,
    ) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for document in manifest.documents() {
            let text = manifest.document_text(document);
            if !text.contains(GROUP) && !text.contains("Namespace") {
                continue;
            }
            match manifest.value(document) {
                Ok(value) => mistakes.extend(self.add_value(file, (manifest, document), &[], &value, namespace)),
                Err(problem) => mistakes.extend(unreadable(problem)),
            }
        }
        mistakes
    }

    /// Takes in the policies and namespaces of a value, which is at that place in a document, and returns the mistakes in it.
    pub(super) fn add_value(
        &mut self,
        file: &str,
        (manifest, document): (&Manifest, &Document),
        place: &[Step],
        value: &Value,
        namespace: &str,
    ) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for mut object in objects(value) {
            if let Err(wrong) = self.add_object(&object, namespace) {
                object.path.splice(..0, place.iter().cloned());
                let mut found: Vec<_> = wrong.iter().map(|wrong| located(file, manifest, document, &object, wrong)).collect();
                found.sort_by_key(|mistake| mistake.position);
                mistakes.extend(found);
            }
        }
        mistakes
    }

    fn add_object(&mut self, object: &Object<'_>, namespace: &str) -> Result<(), Vec<Wrong>> {
        match (object.api_version, object.kind) {
            (version, kind) if version.split('/').next() == Some(GROUP) => {
                let policy = policy(kind, schema::check(kind, version, object.value)?, namespace)?;
                if !self.seen.insert(policy.id().clone()) {
                    return Err(vec![Wrong::field("metadata.name", format!("{} is there twice; remove one", policy.id()))]);
                }
                self.policies.push(policy);
            }
            ("v1", "Namespace") => {
                if object.name.is_empty() {
                    return Err(vec![Wrong::field("metadata.name", "a name is required")]);
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
    let path: Vec<Step> = object.path.iter().chain(wrong.path()).cloned().collect();
    let position = Position::of(manifest.text(), manifest.offset(document, &path));
    let title = if object.name.is_empty() { object.kind.to_owned() } else { format!("{} {}", object.kind, object.name) };
    Mistake::at(file, position, one_line(&format!("{title}: {wrong}"))).with_line(manifest.text())
}

/// Names and keys may hold ends of lines and escapes of terminals, which are not passed on.
fn one_line(text: &str) -> String {
    let escaped = text.chars().map(|char| if char.is_control() { char.escape_debug().to_string() } else { char.to_string() });
    escaped.collect()
}

fn policy(kind: &str, document: Value, namespace: &str) -> Result<Policy, Vec<Wrong>> {
    let policy = if kind == "PodPolicy" {
        let mut policy: PodPolicy = parsed(document)?;
        policy.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
        Policy::from_namespaced(&policy)
    } else {
        Policy::from_cluster(&parsed::<ClusterPodPolicy>(document)?)
    };
    let problems: Vec<_> = policy.problems().iter().map(|problem| Wrong::of(problem)).collect();
    if problems.is_empty() { Ok(policy) } else { Err(problems) }
}

fn parsed<K: DeserializeOwned>(document: Value) -> Result<K, Vec<Wrong>> {
    serde_json::from_value(document).map_err(|error| vec![Wrong::field("", error.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<PolicyFiles> {
        let mut files = PolicyFiles::default();
        mistake::none(files.add("a.yaml", &Manifest::parse(text.to_owned()).unwrap(), "shop")).map(|()| files)
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
            (policy("name: b", "labels: {}"), "a.yaml:3:79: PodPolicy b: spec.selector: Required value"),
            (
                policy("name: b", "selector: {}, priority: high"),
                "a.yaml:3:101: PodPolicy b: spec.priority: must be of type integer, not \"high\"",
            ),
            (
                policy("name: b", "selector: {}, containers: [{ livenessProbe: { httpGet: { path: 5, port: 80 } } }]"),
                "a.yaml:3:144: PodPolicy b: spec.containers[0].livenessProbe.httpGet.path: must be of type string, not 5; put it in quotes",
            ),
            (
                policy("name: b", "selector: {}, enforcement: Maybe"),
                "a.yaml:3:101: PodPolicy b: spec.enforcement: unsupported value \"Maybe\"; supported values: \"Enforce\", \"Audit\"",
            ),
            (
                policy("name: b", "selector: {}, priority: 2000"),
                "a.yaml:3:101: PodPolicy b: spec.priority: should be less than or equal to 1000, not 2000",
            ),
            (policy("", "selector: {}"), "a.yaml:3:56: PodPolicy: metadata.name: a name is required"),
            (
                policy("name: b", "selector: { matchExpressions: [{ key: a, operator: In }] }"),
                "a.yaml:3:118: PodPolicy b: spec.selector.matchExpressions[0].values: values are required for the operators In and NotIn",
            ),
            (good.clone(), "a.yaml:3:68: PodPolicy a: metadata.name: PodPolicy shop/a is there twice"),
        ] {
            let error = read_text(&format!("{good}---\n{second}")).unwrap_err();
            let told = format!("{error:#}");
            let told = told.lines().next().unwrap();
            assert!(told.starts_with(wanted), "{told}");
        }
    }
}
