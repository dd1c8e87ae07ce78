//! Manifests and policies in files, and what the policies make of the manifests. It never asks a cluster.

pub(crate) mod diff;
pub(crate) mod function;
pub(crate) mod mistake;
pub(crate) mod policies;
mod read;
pub(crate) mod render;
mod walk;
mod write;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, thread};

use anyhow::Result;
use clap::Args;
use podpolicy_controller::DEFAULT_EXCLUDED_NAMESPACES;
use podpolicy_engine::{Exec, Policy, Program, Settings};
use podpolicy_manifests::{Facts, Manifest, Rendered, objects};

use self::{policies::PolicyFiles, read::Loaded};
use crate::output;

/// What the commands on files have in common.
#[derive(Args, Debug)]
pub(crate) struct Inputs {
    #[command(flatten)]
    options: Options,

    /// A file or folder with manifests, or - for stdin
    ///
    /// In folders, files whose names end in .yaml, .yml or .json are read; what .gitignore names, hidden files and symbolic links are not.
    /// Services, NetworkPolicies, PodDisruptionBudgets and workloads say which labels are not to be set, Namespaces which labels they have.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

/// Which policies there are, and how they are read.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// A file or folder with policies; can be repeated
    ///
    /// Policies among the manifests apply as well.
    #[arg(short, long = "policy", value_name = "POLICY")]
    policies: Vec<PathBuf>,

    /// The namespace of objects that name none
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,

    /// Namespaces in which no ClusterPodPolicy acts, comma-separated
    #[arg(long, value_delimiter = ',', value_name = "NAMESPACE", default_values = DEFAULT_EXCLUDED_NAMESPACES)]
    exclude_namespaces: Vec<String>,

    /// Label and annotation keys that no policy may set, comma-separated, beside those of Kubernetes
    #[arg(long, value_delimiter = ',', value_name = "KEY")]
    protect_keys: Vec<String>,
}

/// What the policies make of the files.
pub(crate) struct Outcome {
    /// The files, each with what becomes of it, in their order.
    pub(crate) files: Vec<(Loaded, Rendered)>,
    /// Whether a file or document could not be read or edited; each has been told.
    pub(crate) failed: bool,
}

impl Inputs {
    /// Reads everything, and applies the policies. What there is to say goes to stderr.
    pub(crate) fn apply(&self) -> Result<Outcome> {
        let read::Reading { files, mistakes } = read::read(&self.paths)?;
        let mut failed = !mistakes.is_empty();
        for mistake in &mistakes {
            output::error(&mistake.to_string());
        }
        let program = self.program(&files)?;
        let rendered = in_parallel(&files, |file| podpolicy_manifests::render(&file.manifest, &program, &self.options.namespace));
        for (file, rendered) in files.iter().zip(&rendered) {
            for problem in &rendered.problems {
                failed = true;
                output::error(&format!("{}:{problem}", file.name));
            }
            for note in &rendered.notes {
                output::warn(&format!("{}:{}: {}: {}", file.name, note.problem.position, note.object, note.problem.message));
            }
        }
        Ok(Outcome { files: files.into_iter().zip(rendered).collect(), failed })
    }

    fn program(&self, files: &[Loaded]) -> Result<Program> {
        let Options { policies: paths, namespace, .. } = &self.options;
        let mut policies = PolicyFiles::default();
        policies.read(paths, namespace)?;
        let mut facts = Facts::default();
        for file in files {
            // Policies are often named by -p and among the PATHs as well.
            if !file.path.as_ref().is_some_and(|path| policies.paths.contains(path)) {
                policies.add(&file.name, &file.manifest, namespace)?;
            }
            gather(&mut facts, &file.manifest, namespace);
        }
        self.options.program(policies, facts)
    }
}

impl Options {
    /// The program that the policies make, with what is known of namespaces. What there is to say of them goes to stderr.
    fn program(&self, policies: PolicyFiles, mut facts: Facts) -> Result<Program> {
        anyhow::ensure!(!policies.policies.is_empty(), "there is no PodPolicy and no ClusterPodPolicy; name files with policies by -p");
        let PolicyFiles { policies, namespaces, paths: _ } = policies;
        for (name, labels) in namespaces {
            facts.add_namespace(&name, labels);
        }
        warn(&policies, &facts);
        let settings = Settings {
            excluded_namespaces: self.exclude_namespaces.iter().cloned().collect(),
            protected_keys: self.protect_keys.iter().cloned().collect(),
            ..Settings::default()
        };
        // Whoever may write manifests may write commands into them.
        let policies = policies.into_iter().map(|policy| Arc::new(policy.with_exec(Exec::Vouched)));
        Ok(Program::new(policies, facts.into_namespaces(), settings))
    }
}

fn warn(policies: &[Policy], facts: &Facts) {
    for policy in policies.iter().filter(|policy| policy.runs_commands()) {
        output::warn(&policies::runs_commands(policy));
    }
    let choosy = policies.iter().find(|policy| policy.namespace_selector().is_some());
    if let Some((choosy, unknown)) = choosy.zip(facts.unknown().next()) {
        output::warn(&policies::unknown_labels(choosy, unknown));
    }
}

/// What the objects say. Documents that cannot be read are told of when they are rendered.
fn gather(facts: &mut Facts, manifest: &Manifest, namespace: &str) {
    for document in manifest.documents() {
        let Ok(value) = manifest.value(document) else { continue };
        for object in objects(&value) {
            facts.add(&object, object.namespace.unwrap_or(namespace));
        }
    }
}

/// The results in the order of the items; all processors work.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let workers = thread::available_parallelism().map_or(1, std::num::NonZero::get).min(items.len().max(1));
    let work = &work;
    let mut results: BTreeMap<usize, R> = BTreeMap::new();
    thread::scope(|scope| {
        let started: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || {
                    items.iter().enumerate().skip(worker).step_by(workers).map(|(at, item)| (at, work(item))).collect::<Vec<_>>()
                })
            })
            .collect();
        for worker in started {
            results.extend(worker.join().expect("work on a file does not panic"));
        }
    });
    results.into_values().collect()
}
