//! `podpolicy compile`: prints the MutatingAdmissionPolicy objects of policies in files, for clusters without the operator. It asks no
//! cluster.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use clap::Args;
use podpolicy_admission::cel::{self, Compilation, Covers, Omission};
use podpolicy_api::FindingReason;
use podpolicy_controller::DEFAULT_EXCLUDED_NAMESPACES;
use podpolicy_engine::{Exec, NamespaceFacts, Policy, PolicyKind, Program, Settings, Support, kubernetes::Version};

use crate::{
    files::policies::{self, PolicyFiles},
    output, words,
};

/// What of the command line it reads.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// A file or folder with policies, or - for stdin; can be repeated
    ///
    /// Namespaces among the files say which labels they have, for ClusterPodPolicies with a namespaceSelector. All other kinds are
    /// passed over.
    #[arg(short, long = "policy", value_name = "POLICY", required = true, num_args = 1..)]
    policies: Vec<PathBuf>,

    /// The namespace of PodPolicies that name none
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default", value_parser = words::namespace)]
    namespace: String,

    /// Namespaces in which no ClusterPodPolicy acts, comma-separated
    #[arg(long, value_delimiter = ',', value_name = "NAMESPACE", value_parser = words::one_namespace, default_values = DEFAULT_EXCLUDED_NAMESPACES)]
    exclude_namespaces: Vec<String>,

    /// Label and annotation keys that no policy may set, comma-separated, beside those of Kubernetes
    #[arg(long, value_delimiter = ',', value_name = "KEY", value_parser = words::one_key)]
    protect_keys: Vec<String>,

    /// The version of Kubernetes that the objects are for, such as 1.36, with the feature gates that are on by default there
    ///
    /// Fields that the API server does not know are left out: one of them would make it pass over all else in the object.
    #[arg(long, value_name = "VERSION", default_value_t = Version::NEWEST, value_parser = words::kubernetes_version)]
    kubernetes_version: Version,
}

/// Prints the objects; what cannot be compiled is said on stderr.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let files = policies::read(&arguments.policies, &arguments.namespace)?;
    let mut notes = notes(&files);
    let program = program(files, arguments);
    notes.extend(not_supported(&program));
    let Compilation { units, omissions } = cel::compile(&program);
    let mut text = String::new();
    for unit in &units {
        for object in [serde_saphyr::to_string(&unit.policy), serde_saphyr::to_string(&unit.binding)] {
            text.push_str("---\n");
            text.push_str(&object.with_context(|| format!("cannot write {} as YAML", unit.name))?);
        }
    }
    notes.into_iter().chain(omissions.iter().map(left_out)).for_each(|message| output::warn(&message));
    output::print(&text)
}

fn program(files: PolicyFiles, arguments: &Arguments) -> Program {
    let facts = |labels| Arc::new(NamespaceFacts { labels, ..NamespaceFacts::default() });
    let namespaces: HashMap<_, _> = files.namespaces.into_iter().map(|(name, labels)| (name, facts(labels))).collect();
    let settings = Settings {
        excluded_namespaces: words::given(arguments.exclude_namespaces.iter().cloned()),
        protected_keys: words::given(arguments.protect_keys.iter().cloned()),
        support: Support::of(arguments.kubernetes_version),
        ..Settings::default()
    };
    // Whoever applies the objects may mutate every pod anyway.
    let policies = files.policies.into_iter().map(|policy| Arc::new(policy.with_exec(Exec::Vouched)));
    Program::new(policies, namespaces, settings)
}

/// What a cluster would say of the policies, and files do not.
fn notes(files: &PolicyFiles) -> Vec<String> {
    let commands = files.policies.iter().filter(|policy| policy.runs_commands()).map(policies::runs_commands);
    commands.chain(unknown_labels(files)).collect()
}

/// What the API server would not keep.
fn not_supported(program: &Program) -> Vec<String> {
    let refused = |policy: &Arc<Policy>| {
        let findings = program.refused_everywhere(policy).into_iter().filter(|finding| finding.reason == FindingReason::NotSupported);
        findings.map(|finding| format!("{}: {} is left out: {}", policy.id(), finding.field, finding.message)).collect::<Vec<_>>()
    };
    program.policies().iter().flat_map(refused).collect()
}

/// Whose labels the files do not say, and a cluster would.
fn unknown_labels(files: &PolicyFiles) -> Option<String> {
    let choosy = files.policies.iter().find(|policy| policy.namespace_selector().is_some());
    let unknown = files.policies.iter().map(Policy::id).filter(|id| id.kind == PolicyKind::PodPolicy);
    let unknown = unknown.map(|id| &id.namespace).find(|namespace| !files.namespaces.contains_key(*namespace));
    let (choosy, unknown) = choosy.zip(unknown)?;
    Some(policies::unknown_labels(choosy, unknown))
}

fn left_out(Omission { policy, covers, message }: &Omission) -> String {
    match covers {
        Covers::Namespace(namespace) => format!("{policy} is left out in namespace {namespace}: {message}"),
        Covers::Others => format!("{policy} is left out: {message}"),
    }
}
