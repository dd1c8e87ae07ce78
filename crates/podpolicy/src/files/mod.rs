//! Manifests and policies in files, and what the policies make of the manifests. It never asks a cluster.

pub(crate) mod check;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod function;
mod kustomize;
pub(crate) mod mistake;
mod nothing;
mod parallel;
pub(crate) mod policies;
mod progress;
mod read;
pub(crate) mod render;
mod walk;
mod write;

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use clap::Args;
use podpolicy_controller::DEFAULT_EXCLUDED_NAMESPACES;
use podpolicy_engine::{Exec, Policy, Program, Settings, Support, kubernetes::Version};
use podpolicy_manifests::{Facts, Manifest, Note, Rendered};

use self::{parallel::in_parallel, policies::PolicyFiles, read::Loaded};
use crate::{output, words};

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
    #[arg(short, long, value_name = "NAMESPACE", default_value = DEFAULT_NAMESPACE, value_parser = words::namespace)]
    namespace: String,

    /// Namespaces in which no ClusterPodPolicy acts, comma-separated
    #[arg(long, value_delimiter = ',', value_name = "NAMESPACE", value_parser = words::one_namespace, default_values = DEFAULT_EXCLUDED_NAMESPACES)]
    exclude_namespaces: Vec<String>,

    /// Label and annotation keys that no policy may set, comma-separated, beside those of Kubernetes
    #[arg(long, value_delimiter = ',', value_name = "KEY", value_parser = words::one_key)]
    protect_keys: Vec<String>,

    /// The version of Kubernetes that the manifests are for, such as 1.33 or v1.33.4, with the feature gates that are on by default there
    /// [default: 1.37; policies may use what has to be switched on]
    #[arg(long, value_name = "VERSION", value_parser = words::kubernetes_version)]
    kubernetes_version: Option<Version>,
}

/// What became of the files.
pub(crate) struct Outcome<T> {
    /// What was made of each, in their order.
    pub(crate) files: Vec<T>,
    /// Whether a file or document could not be read or edited; each has been told.
    pub(crate) failed: bool,
}

impl Inputs {
    /// Reads everything, applies the policies, and makes something of each file. What there is to say goes to stderr.
    ///
    /// A file is gone from memory once something is made of it.
    pub(crate) fn apply<T: Send>(&self, finish: impl Fn(Loaded, &mut Rendered) -> T + Sync) -> Result<Outcome<T>> {
        let read::Reading { files, mistakes } = read::read(&self.paths);
        let mut failed = !mistakes.is_empty();
        for mistake in &mistakes {
            output::error(&mistake.to_string());
        }
        if mistakes.is_empty() {
            nothing::warn(&self.paths, &files);
        }
        let program = self.program(&files)?;
        let done = in_parallel("applying policies to", files, |file| {
            let name = file.name.clone();
            let mut rendered = podpolicy_manifests::render(&file.manifest, &program, &self.options.namespace);
            let made = finish(file, &mut rendered);
            (name, rendered.problems, rendered.notes, made)
        });
        let mut made = Vec::with_capacity(done.len());
        for (name, problems, notes, file) in done {
            failed |= !problems.is_empty();
            for problem in &problems {
                output::error(&format!("{name}:{problem}"));
            }
            for Note { problem, object, .. } in &notes {
                output::warn(&format!("{name}:{}: {object}: {}", problem.position, problem.message));
            }
            made.push(file);
        }
        Ok(Outcome { files: made, failed })
    }

    fn program(&self, files: &[Loaded]) -> Result<Program> {
        let Options { policies: paths, namespace, .. } = &self.options;
        let mut policies = PolicyFiles::default();
        let mut mistakes = policies.read(paths, namespace);
        let mut facts = Facts::default();
        for file in files {
            // Policies are often named by -p and among the PATHs as well.
            if !file.path.as_ref().is_some_and(|path| policies.paths.contains(path)) {
                mistakes.extend(policies.add(&file.name, &file.manifest, namespace));
            }
        }
        mistake::none(mistakes)?;
        for found in in_parallel("looking for selectors in", files, |file| facts_of(&file.manifest, namespace)) {
            facts.merge(found);
        }
        self.options.program(policies, facts)
    }
}

/// The namespace of objects that name none, if not told otherwise.
const DEFAULT_NAMESPACE: &str = "default";

impl Options {
    /// What was given, and the defaults for what was not.
    pub(crate) fn new(
        policies: Vec<PathBuf>,
        namespace: Option<String>,
        exclude_namespaces: Option<Vec<String>>,
        protect_keys: Vec<String>,
        kubernetes_version: Option<Version>,
    ) -> Self {
        let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let exclude_namespaces = exclude_namespaces.unwrap_or_else(|| DEFAULT_EXCLUDED_NAMESPACES.map(str::to_owned).into());
        Self { policies, namespace, exclude_namespaces, protect_keys, kubernetes_version }
    }

    /// The program that the policies make, with what is known of namespaces. What there is to say of them goes to stderr.
    fn program(&self, policies: PolicyFiles, mut facts: Facts) -> Result<Program> {
        anyhow::ensure!(!policies.policies.is_empty(), "there is no PodPolicy and no ClusterPodPolicy; name files with policies by -p");
        let PolicyFiles { policies, namespaces, .. } = policies;
        for (name, labels) in namespaces {
            facts.add_namespace(&name, labels);
        }
        warn(&policies, &facts);
        Ok(self.decided_by(policies, facts))
    }

    /// The program that the policies make, be they none. All commands on files make theirs here, for `kubernetes_version`.
    fn decided_by(&self, policies: Vec<Policy>, facts: Facts) -> Program {
        let settings = Settings {
            excluded_namespaces: words::given(self.exclude_namespaces.iter().cloned()),
            protected_keys: words::given(self.protect_keys.iter().cloned()),
            // Files do not say which feature gates are on.
            support: self.kubernetes_version.map_or_else(Support::all, Support::of),
            ..Settings::default()
        };
        // Whoever may write manifests may write commands into them.
        let policies = policies.into_iter().map(|policy| Arc::new(policy.with_exec(Exec::Vouched)));
        Program::new(policies, facts.into_namespaces(), settings)
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

/// What the objects of a text say.
fn facts_of(manifest: &Manifest, namespace: &str) -> Facts {
    let mut facts = Facts::default();
    facts.add_manifest(manifest, namespace);
    facts
}
