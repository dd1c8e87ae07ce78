//! What decisions need to know beyond policies and the pod: the namespace, who reads which label there, and how the operator
//! is configured.

use std::collections::{BTreeMap, BTreeSet};

use crate::{PolicyKind, Reader, Support};

/// The namespaces of Kubernetes itself.
pub const KUBERNETES_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// What is known of one namespace.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NamespaceFacts {
    /// The namespace's labels.
    pub labels: BTreeMap<String, String>,
    /// Who reads a label key, in order.
    pub readers: BTreeMap<String, Vec<Reader>>,
    /// The label keys that policies already carry on pods of the namespace: (policy as in records, key). A selector that
    /// appears later takes no label away.
    pub carried: BTreeSet<(String, String)>,
}

/// How the operator is configured, what it may see, and what the API server does with fields.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// Namespaces in which no ClusterPodPolicy acts.
    pub excluded_namespaces: BTreeSet<String>,
    /// Label and annotation keys that no policy may set, beside those of Kubernetes.
    pub protected_keys: BTreeSet<String>,
    /// Resources that could select pods and may not be listed, as `resource.group`: as long as there are some, nobody can
    /// tell whether a label has an impact.
    pub unseen_selectors: BTreeSet<String>,
    /// Kinds of policies that may exist and are not seen: none of them decides, and what they wrote stays as it is.
    pub unseen_kinds: BTreeSet<PolicyKind>,
    /// The newer fields that the API server keeps. All of them unless it is known to drop some.
    pub support: Support,
}
