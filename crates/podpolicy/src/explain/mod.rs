//! `podpolicy explain`: each field of a pod, where its value comes from, and what was kept, overridden or refused. The pod is one that a
//! cluster has, or one that a file describes.

mod fields;
mod live;
mod print;

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use podpolicy_engine::{Outcome, Pod, PolicyId, kubernetes::Version};
use podpolicy_manifests::Position;

pub(crate) use self::print::state;
use crate::{cluster::Cluster, files, output, words};

/// What of the command line it reads.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The pod's name; with --filename that of an object in the files, such as web, shop/web or Deployment/web
    #[arg(value_name = "POD", required_unless_present = "files")]
    pod: Option<String>,

    /// The pod's namespace [default: that of the kubeconfig's context]; with --filename that of objects that name none [default: default]
    #[arg(short, long, value_name = "NAMESPACE", value_parser = words::namespace)]
    namespace: Option<String>,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,

    /// A file or folder with manifests, or - for stdin, to explain the pods in it; can be repeated. No cluster is asked
    #[arg(short, long = "filename", id = "files", value_name = "FILE", conflicts_with_all = ["kubeconfig", "context"])]
    files: Vec<PathBuf>,

    /// With --filename, a file or folder with policies; can be repeated
    ///
    /// Policies among the files apply as well.
    #[arg(short, long = "policy", value_name = "POLICY", requires = "files")]
    policies: Vec<PathBuf>,

    /// With --filename, namespaces in which no ClusterPodPolicy acts, comma-separated [default: those of the operator]
    #[arg(long, value_delimiter = ',', value_name = "NAMESPACE", value_parser = words::one_namespace, requires = "files")]
    exclude_namespaces: Option<Vec<String>>,

    /// With --filename, label and annotation keys that no policy may set, comma-separated, beside those of Kubernetes
    #[arg(long, value_delimiter = ',', value_name = "KEY", value_parser = words::one_key, requires = "files")]
    protect_keys: Vec<String>,

    /// With --filename, the version of Kubernetes that the manifests are for, such as 1.33 [default: the newest known]
    #[arg(long, value_name = "VERSION", value_parser = words::kubernetes_version, requires = "files")]
    kubernetes_version: Option<Version>,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

/// A pod, and what the policies make of it.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) pod: Pod,
    pub(crate) outcome: Outcome,
    /// Where a file describes it; none for a pod that a cluster has.
    pub(crate) described: Option<Described>,
    /// The policies that exist; none where not all can be seen.
    pub(crate) existing: Option<BTreeSet<PolicyId>>,
    /// Whether no ClusterPodPolicy acts in its namespace.
    pub(crate) is_excluded: bool,
}

/// Where a file describes a pod.
#[derive(Debug)]
pub(crate) struct Described {
    /// The kind of the object.
    pub(crate) kind: String,
    pub(crate) file: String,
    pub(crate) position: Position,
}

/// Explains the pod, or the pods of the files.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let Arguments { pod, namespace, output: format, files, policies, exclude_namespaces, protect_keys, kubernetes_version, cluster } =
        arguments;
    if files.is_empty() {
        let explained = live::find(pod.as_deref().unwrap_or_default(), namespace, &cluster)?;
        return output::print(&match format {
            Format::Text => print::text(&explained),
            Format::Json => format!("{:#}\n", print::json(&explained)),
        });
    }
    let options = files::Options::new(policies, namespace, exclude_namespaces, protect_keys, kubernetes_version);
    let explained = files::explain::find(files, options, pod.as_deref())?;
    output::print(&match format {
        Format::Text => explained.iter().map(print::text).collect::<Vec<_>>().join("\n"),
        Format::Json => format!("{:#}\n", explained.iter().map(print::json).collect::<serde_json::Value>()),
    })
}
