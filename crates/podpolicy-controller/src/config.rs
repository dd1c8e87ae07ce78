//! How the operator is configured. Values only: where they come from is the binary's business.

use std::collections::BTreeSet;

use podpolicy_admission::webhook;
use podpolicy_engine::{KUBERNETES_NAMESPACES, PolicyKind, Settings, Support};

use crate::Election;

/// The namespaces of Kubernetes itself, in which no ClusterPodPolicy acts by default.
pub const DEFAULT_EXCLUDED_NAMESPACES: [&str; 3] = KUBERNETES_NAMESPACES;

/// The operator's own namespace, unless it has another.
pub const DEFAULT_OWN_NAMESPACE: &str = "podpolicy-system";

/// How the operator is configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is watched.
    pub watched: Watched,
    /// How many writes to pods may be under way at once. At least 1.
    pub concurrency: usize,
    /// The operator's own namespace, in which it tries what the API server can do.
    pub own_namespace: String,
    /// Namespaces in which no ClusterPodPolicy acts.
    pub excluded_namespaces: BTreeSet<String>,
    /// Label and annotation keys that no policy may set, beside those of Kubernetes.
    pub protected_keys: BTreeSet<String>,
    /// How pods are given their settings when they are created.
    pub admission: AdmissionMode,
    /// The webhook; none where API servers could not reach it.
    pub webhook: Option<webhook::Options>,
    /// How many pods of the cluster may be unavailable at once in rollouts. At least 1.
    pub rollout_max_unavailable: u32,
    /// What decides which of several operators acts; none where there is only one.
    pub election: Option<Election>,
}

/// How pods are given their settings when they are created.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AdmissionMode {
    /// By the API server itself, where it serves MutatingAdmissionPolicy v1; by the webhook elsewhere.
    Auto,
    /// By the API server itself.
    Native,
    /// By the webhook.
    Webhook,
    /// Not at all: labels and annotations follow on the live pod.
    None,
}

/// What is watched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Watched {
    /// The whole cluster.
    Cluster,
    /// Only these namespaces. ClusterPodPolicies are then left alone: they need rights on the whole cluster.
    /// NetworkPolicies of other namespaces are not seen, and of a namespace only its name is known: a peer that selects namespaces
    /// by other labels counts as reading them all.
    Namespaces(BTreeSet<String>),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            watched: Watched::Cluster,
            concurrency: 32,
            own_namespace: DEFAULT_OWN_NAMESPACE.to_owned(),
            excluded_namespaces: DEFAULT_EXCLUDED_NAMESPACES.map(str::to_owned).into(),
            protected_keys: BTreeSet::new(),
            admission: AdmissionMode::None,
            webhook: None,
            rollout_max_unavailable: 10,
            election: None,
        }
    }
}

impl Config {
    /// The name of the webhook's configuration. An operator of some namespaces only shares the cluster with others.
    pub(crate) fn webhook_name(&self) -> String {
        match (&self.webhook, &self.watched) {
            (Some(options), _) => options.name.clone(),
            (None, Watched::Cluster) => webhook::CONFIGURATION_NAME.to_owned(),
            (None, Watched::Namespaces(names)) => webhook::configuration_name(names),
        }
    }

    /// What the engine must know of it.
    pub(crate) fn settings(&self, unseen_selectors: BTreeSet<String>, unseen_kinds: BTreeSet<PolicyKind>, support: Support) -> Settings {
        Settings {
            excluded_namespaces: self.excluded_namespaces.clone(),
            protected_keys: self.protected_keys.clone(),
            unseen_selectors,
            unseen_kinds,
            support,
        }
    }
}
