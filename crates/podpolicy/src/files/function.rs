//! `podpolicy function`: what kustomize and kpt run, with a ResourceList on stdin and stdout. It never touches a file.

use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;
use podpolicy_engine::Policy;
use podpolicy_manifests::{Document, Manifest, Rendered, Step, render, rewritten};
use serde_json::{Value, json};

use super::{Options, facts_of, mistake, policies::PolicyFiles, read};
use crate::{output, words};

/// How messages name the input.
const INPUT: &str = "stdin";

/// Where a ResourceList has the function's configuration.
const CONFIG: &str = "functionConfig";

/// What of the command line it reads.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options,
}

/// Prints the list with the policies applied to its items. After an error the items are as they were, and a result says why.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let manifest = read::stdin()?;
    let (document, list) = resource_list(&manifest)?;
    let (text, results) = match apply(&arguments.options, &manifest, document, &list) {
        Ok(rendered) => (
            rendered.text(manifest.text()),
            rendered
                .problems
                .iter()
                .map(|problem| failure(&problem.to_string()))
                .chain(rendered.notes.iter().map(|note| warning(&list, note)))
                .collect(),
        ),
        Err(error) => (None, vec![failure(&format!("{error:#}"))]),
    };
    let failed = results.iter().any(|result| result["severity"] == "error");
    // kustomize shows no results.
    results.iter().for_each(tell);
    let text = text.unwrap_or_else(|| manifest.text().to_owned());
    output::print(&with_results(text, results)?)?;
    Ok(if failed { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

/// The only document, and what it says.
fn resource_list(manifest: &Manifest) -> Result<(&Document, Value)> {
    let [document] = manifest.documents() else {
        bail!(
            "{INPUT} holds {} documents, and a ResourceList is wanted; for manifests there is podpolicy render -",
            manifest.documents().len()
        );
    };
    let value = manifest.value(document).map_err(|problem| anyhow::anyhow!("{INPUT}:{problem}"))?;
    let group = value["apiVersion"].as_str().and_then(|version| version.split('/').next()).unwrap_or_default();
    ensure!(
        value["kind"] == "ResourceList" && group == "config.kubernetes.io",
        "{INPUT} is no ResourceList of config.kubernetes.io, as kustomize and kpt write it; for manifests there is podpolicy render -"
    );
    Ok((document, value))
}

fn apply(options: &Options, manifest: &Manifest, document: &Document, list: &Value) -> Result<Rendered> {
    let options = options.with(&list[CONFIG])?;
    let namespace = &options.namespace;
    let mut policies = PolicyFiles::default();
    let mut mistakes = policies.read(&options.policies, namespace);
    mistakes.extend(policies.add(INPUT, manifest, namespace));
    let mut configured = PolicyFiles::default();
    let place = Step::keys([CONFIG]);
    mistakes.extend(configured.add_value(INPUT, (manifest, document), &place, &list[CONFIG], namespace));
    mistake::none(mistakes)?;
    // A policy can be an item as well, to be applied to the cluster.
    let ids: Vec<_> = configured.policies.iter().map(Policy::id).collect();
    policies.policies.retain(|policy| !ids.contains(&policy.id()));
    policies.policies.append(&mut configured.policies);
    let program = options.program(policies, facts_of(manifest, namespace))?;
    Ok(render(manifest, &program, namespace))
}

impl Options {
    /// The options with what a ConfigMap says in place of flags.
    fn with(&self, config: &Value) -> Result<Self> {
        let mut options = self.clone();
        match config["kind"].as_str() {
            None | Some("PodPolicy" | "ClusterPodPolicy") => return Ok(options),
            Some(list) if list.ends_with("List") => return Ok(options),
            Some("ConfigMap") => {}
            Some(kind) => bail!("{CONFIG}: a PodPolicy, a ClusterPodPolicy, a List of them or a ConfigMap is wanted, not {kind}"),
        }
        for (key, value) in config["data"].as_object().into_iter().flatten() {
            let value = value.as_str().with_context(|| format!("{CONFIG}.data.{key}: a string is wanted; put it in quotes"))?;
            let wrong = |error| anyhow!("{CONFIG}.data.{key}: {value:?}: {error}");
            let several = |parse: fn(&str) -> Result<String, String>| value.split(',').map(parse).collect::<Result<_, _>>().map_err(wrong);
            match key.as_str() {
                "namespace" => options.namespace = words::namespace(value).map_err(wrong)?,
                "exclude-namespaces" => options.exclude_namespaces = several(words::one_namespace)?,
                "protect-keys" => options.protect_keys = several(words::one_key)?,
                "kubernetes-version" => options.kubernetes_version = Some(words::kubernetes_version(value).map_err(wrong)?),
                _ => bail!("{CONFIG}.data.{key}: unknown; known are namespace, exclude-namespaces, protect-keys, kubernetes-version"),
            }
        }
        Ok(options)
    }
}

fn failure(message: &str) -> Value {
    json!({ "message": message, "severity": "error" })
}

/// A result with the item that it is about, and the file that the item came from.
fn warning(list: &Value, note: &podpolicy_manifests::Note) -> Value {
    let mut result = json!({ "message": format!("{}: {}", note.object, note.problem.message), "severity": "warning" });
    let item = note.path.iter().fold(list, |value, step| match step {
        Step::Key(key) => &value[key.as_str()],
        Step::Index(index) => &value[*index],
    });
    let metadata = &item["metadata"];
    for (key, value) in
        [("apiVersion", &item["apiVersion"]), ("kind", &item["kind"]), ("name", &metadata["name"]), ("namespace", &metadata["namespace"])]
    {
        if !value.is_null() {
            result["resourceRef"][key] = value.clone();
        }
    }
    if let Some(field) = &note.field {
        result["field"]["path"] = field.as_str().into();
    }
    let annotation = |name: &str| {
        ["internal.config.kubernetes.io", "config.kubernetes.io"]
            .iter()
            .find_map(|group| metadata["annotations"][format!("{group}/{name}")].as_str())
    };
    if let Some(path) = annotation("path") {
        result["file"]["path"] = path.into();
        if let Some(index) = annotation("index").and_then(|index| index.parse::<u64>().ok()) {
            result["file"]["index"] = index.into();
        }
    }
    result
}

fn tell(result: &Value) {
    let message = result["message"].as_str().unwrap_or_default();
    if result["severity"] == "error" { output::error(message) } else { output::warn(message) }
}

/// The list with these results after those that it has.
fn with_results(text: String, results: Vec<Value>) -> Result<String> {
    if results.is_empty() {
        return Ok(text);
    }
    let manifest = Manifest::parse(text).map_err(|problem| anyhow::anyhow!("{INPUT}:{problem}"))?;
    let (document, mut list) = resource_list(&manifest)?;
    match &mut list["results"] {
        Value::Array(earlier) => earlier.extend(results),
        other => *other = results.into(),
    }
    rewritten(&manifest, document, &list).map_err(|problem| anyhow::anyhow!("{INPUT}:{problem}"))
}
