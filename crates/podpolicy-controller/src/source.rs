//! The resources that are watched, under the names that RBAC and messages use.

use std::fmt;

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::{ReplicationController, Service},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::discovery::ApiResource;

/// One resource in one scope.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Source {
    pub(crate) resource: Watchable,
    /// The namespace; none for the whole cluster.
    pub(crate) namespace: Option<String>,
}

/// The resources that are watched.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Watchable {
    PodPolicies,
    ClusterPodPolicies,
    Pods,
    Namespaces,
    /// One whose objects may select pods.
    Selecting(SelectingKind),
}

/// The kinds whose objects may select pods.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum SelectingKind {
    Service,
    NetworkPolicy,
    PodDisruptionBudget,
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
    ReplicationController,
}

impl SelectingKind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Service,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::Deployment,
        Self::ReplicaSet,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Job,
        Self::ReplicationController,
    ];

    pub(crate) fn api_resource(self) -> ApiResource {
        match self {
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::ReplicaSet => ApiResource::erase::<ReplicaSet>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            Self::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
            Self::Job => ApiResource::erase::<Job>(&()),
            Self::ReplicationController => ApiResource::erase::<ReplicationController>(&()),
        }
    }

    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::ReplicationController => "ReplicationController",
        }
    }
}

impl fmt::Display for Watchable {
    /// `resource.group`, as `kubectl auth can-i` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodPolicies => f.write_str("podpolicies.podpolicy.dev"),
            Self::ClusterPodPolicies => f.write_str("clusterpodpolicies.podpolicy.dev"),
            Self::Pods => f.write_str("pods"),
            Self::Namespaces => f.write_str("namespaces"),
            Self::Selecting(kind) => {
                let resource = kind.api_resource();
                if resource.group.is_empty() { f.write_str(&resource.plural) } else { write!(f, "{}.{}", resource.plural, resource.group) }
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} in namespace {namespace}", self.resource),
            None => write!(f, "{}", self.resource),
        }
    }
}
