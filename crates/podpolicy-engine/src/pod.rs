//! The part of a pod that decisions look at, read from the Kubernetes shape. It never holds environment variables, volumes or
//! managed fields.

use std::{collections::BTreeMap, sync::Arc};

use podpolicy_api::{LifecycleHandler, Probe, StopSignal};
use serde::Deserialize;

use crate::{Feature, HookKind, ProbeKind, Running, Support};

/// Kubernetes' default grace period, in seconds: a pod that says nothing has it.
pub(crate) const DEFAULT_GRACE_PERIOD: i64 = 30;

/// A pod as decisions see it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(from = "wire::Pod")]
pub struct Pod {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID: another pod under the same name has another.
    pub uid: String,
    /// The version of the pod on the API server; empty on files.
    pub resource_version: String,
    /// All labels, whoever set them.
    pub labels: BTreeMap<String, String>,
    /// All annotations, the record included.
    pub annotations: BTreeMap<String, String>,
    /// Whether the pod can still be selected.
    pub life: Life,
    /// The controller that owns it; none for a bare pod. Pods of one owner can share it.
    pub owner: Option<Arc<Owner>>,
    /// How it runs.
    pub running: Running,
    /// What never changes on a live pod; pods of one workload can share it.
    pub template: Arc<PodTemplate>,
}

/// The controller that owns a pod: for the pods of a Deployment, one of its ReplicaSets.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Owner {
    /// Its kind.
    pub kind: String,
    /// Its name, in the pod's namespace.
    pub name: String,
    /// Its UID: another owner under the same name has another.
    pub uid: String,
}

/// Whether a pod can be selected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    /// Pending or running: policies select it.
    Live,
    /// Succeeded or failed: not selected; what gone policies wrote is still taken back.
    Ended,
    /// Being deleted, or the mirror of a static pod: never selected and never written.
    Untouchable,
}

/// The settings of a pod that Kubernetes allows only at creation.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PodTemplate {
    /// Whether the pod's containers are always started again (restartPolicy Always), unless they say something else themselves.
    pub always_restarts: bool,
    /// The operating system that the pod says it needs.
    pub os: Option<OperatingSystem>,
    /// Seconds that the pod gets to stop.
    pub grace_period: i64,
    /// Init containers first, then application containers, in the pod's order; no ephemeral ones.
    pub containers: Vec<Container>,
}

/// The operating systems that a pod can ask for (`spec.os.name`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum OperatingSystem {
    /// Linux.
    Linux,
    /// Windows.
    Windows,
}

/// A container as decisions see it. What most containers lack is boxed: it takes little room where it is absent.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Container {
    /// The container's name.
    pub name: String,
    /// What kind of container it is.
    pub kind: ContainerKind,
    /// Whether a restartPolicy of its own has it always started again; none where it has no restartPolicy of its own.
    pub restarts: Option<bool>,
    /// The names of its ports.
    pub port_names: Vec<String>,
    /// Its liveness probe.
    pub liveness: Option<Box<Probe>>,
    /// Its readiness probe.
    pub readiness: Option<Box<Probe>>,
    /// Its startup probe.
    pub startup: Option<Box<Probe>>,
    /// Whether it declares a lifecycle at all, be it one without hooks.
    pub has_lifecycle: bool,
    /// Its postStart hook.
    pub post_start: Option<Box<LifecycleHandler>>,
    /// Its preStop hook.
    pub pre_stop: Option<Box<LifecycleHandler>>,
    /// The signal that asks it to stop.
    pub stop_signal: Option<StopSignal>,
}

/// The kinds of containers.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ContainerKind {
    /// An application container.
    Application,
    /// An init container with restartPolicy Always.
    Sidecar,
    /// An ordinary init container, which never gets probes or hooks.
    Init,
}

impl PodTemplate {
    /// Whether the container is always started again. Native sidecars always are; application containers by their own restartPolicy, where
    /// the API server keeps it, and by the pod's otherwise.
    pub(crate) fn restarts(&self, container: &Container, support: &Support) -> bool {
        match container.kind {
            ContainerKind::Sidecar => true,
            ContainerKind::Application if support.has(Feature::ContainerRestartPolicy) => {
                container.restarts.unwrap_or(self.always_restarts)
            }
            ContainerKind::Application | ContainerKind::Init => self.always_restarts,
        }
    }

    pub(crate) fn container_mut(&mut self, name: &str) -> Option<&mut Container> {
        self.containers.iter_mut().find(|container| container.name == name)
    }
}

impl Container {
    pub(crate) fn probe_mut(&mut self, kind: ProbeKind) -> &mut Option<Box<Probe>> {
        match kind {
            ProbeKind::Liveness => &mut self.liveness,
            ProbeKind::Readiness => &mut self.readiness,
            ProbeKind::Startup => &mut self.startup,
        }
    }

    pub(crate) fn hook_mut(&mut self, kind: HookKind) -> &mut Option<Box<LifecycleHandler>> {
        match kind {
            HookKind::PostStart => &mut self.post_start,
            HookKind::PreStop => &mut self.pre_stop,
        }
    }

    /// Whether policies may give the container probes and hooks.
    pub fn is_eligible(&self) -> bool {
        match self.kind {
            ContainerKind::Application | ContainerKind::Sidecar => true,
            ContainerKind::Init => false,
        }
    }

    /// The probe of the given kind.
    pub fn probe(&self, kind: ProbeKind) -> Option<&Probe> {
        match kind {
            ProbeKind::Liveness => self.liveness.as_deref(),
            ProbeKind::Readiness => self.readiness.as_deref(),
            ProbeKind::Startup => self.startup.as_deref(),
        }
    }

    /// The hook of the given kind.
    pub fn hook(&self, kind: HookKind) -> Option<&LifecycleHandler> {
        match kind {
            HookKind::PostStart => self.post_start.as_deref(),
            HookKind::PreStop => self.pre_stop.as_deref(),
        }
    }
}

/// The shape in which Kubernetes sends a pod, as far as it is read.
mod wire {
    use std::{collections::BTreeMap, sync::Arc};

    use jiff::Timestamp;
    use podpolicy_api::{LifecycleHandler, Probe, StopSignal};
    use serde::Deserialize;

    use crate::{Running, running};

    use super::{ContainerKind, DEFAULT_GRACE_PERIOD, Life, OperatingSystem, Owner, PodTemplate};

    const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Pod {
        #[serde(default)]
        metadata: Metadata,
        #[serde(default)]
        spec: Spec,
        #[serde(default)]
        status: running::Status,
    }

    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        #[serde(default)]
        name: String,
        #[serde(default)]
        namespace: String,
        #[serde(default)]
        uid: String,
        #[serde(default)]
        resource_version: String,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
        creation_timestamp: Option<Timestamp>,
        deletion_timestamp: Option<String>,
        owner_references: Option<Vec<OwnerReference>>,
    }

    #[derive(Deserialize)]
    struct OwnerReference {
        controller: Option<bool>,
        kind: String,
        name: String,
        uid: String,
    }

    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        node_name: Option<String>,
        restart_policy: Option<RestartPolicy>,
        os: Option<Os>,
        termination_grace_period_seconds: Option<i64>,
        init_containers: Option<Vec<Container>>,
        containers: Option<Vec<Container>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Container {
        #[serde(default)]
        name: String,
        restart_policy: Option<RestartPolicy>,
        ports: Option<Vec<Port>>,
        liveness_probe: Option<Box<Probe>>,
        readiness_probe: Option<Box<Probe>>,
        startup_probe: Option<Box<Probe>>,
        lifecycle: Option<Lifecycle>,
    }

    #[derive(Deserialize)]
    enum RestartPolicy {
        Always,
        #[serde(other)]
        Other,
    }

    #[derive(Deserialize)]
    struct Os {
        #[serde(default)]
        name: String,
    }

    #[derive(Deserialize)]
    struct Port {
        name: Option<String>,
    }

    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Lifecycle {
        post_start: Option<Box<LifecycleHandler>>,
        pre_stop: Option<Box<LifecycleHandler>>,
        stop_signal: Option<StopSignal>,
    }

    impl From<Pod> for super::Pod {
        fn from(pod: Pod) -> Self {
            let Pod { metadata, spec, status } = pod;
            let annotations = metadata.annotations.unwrap_or_default();
            let ended = status.has_ended();
            let life = if metadata.deletion_timestamp.is_some() || annotations.contains_key(MIRROR_ANNOTATION) {
                Life::Untouchable
            } else if ended {
                Life::Ended
            } else {
                Life::Live
            };
            let is_scheduled = spec.node_name.is_some();
            let template = PodTemplate::from(spec);
            let is_sidecar = |name: &str| {
                let containers = &template.containers;
                containers.iter().any(|container| container.name == name && container.kind == ContainerKind::Sidecar)
            };
            Self {
                running: Running::new(metadata.creation_timestamp, is_scheduled, status, is_sidecar),
                namespace: metadata.namespace,
                name: metadata.name,
                uid: metadata.uid,
                resource_version: metadata.resource_version,
                labels: metadata.labels.unwrap_or_default(),
                annotations,
                life,
                owner: controller(metadata.owner_references.unwrap_or_default()),
                template: Arc::new(template),
            }
        }
    }

    fn controller(references: Vec<OwnerReference>) -> Option<Arc<Owner>> {
        references
            .into_iter()
            .find(|reference| reference.controller == Some(true))
            .map(|OwnerReference { controller: _, kind, name, uid }| Arc::new(Owner { kind, name, uid }))
    }

    impl From<Spec> for PodTemplate {
        fn from(spec: Spec) -> Self {
            let init = spec.init_containers.unwrap_or_default().into_iter().map(|container| {
                let kind = match container.restart_policy {
                    Some(RestartPolicy::Always) => ContainerKind::Sidecar,
                    Some(RestartPolicy::Other) | None => ContainerKind::Init,
                };
                container.into_container(kind)
            });
            let application = spec.containers.unwrap_or_default().into_iter();
            Self {
                always_restarts: matches!(spec.restart_policy, None | Some(RestartPolicy::Always)),
                os: spec.os.and_then(|os| match os.name.as_str() {
                    "linux" => Some(OperatingSystem::Linux),
                    "windows" => Some(OperatingSystem::Windows),
                    _ => None,
                }),
                grace_period: spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_PERIOD),
                containers: init.chain(application.map(|container| container.into_container(ContainerKind::Application))).collect(),
            }
        }
    }

    impl Container {
        fn into_container(self, kind: ContainerKind) -> super::Container {
            let has_lifecycle = self.lifecycle.is_some();
            let lifecycle = self.lifecycle.unwrap_or_default();
            super::Container {
                name: self.name,
                kind,
                restarts: self.restart_policy.map(|policy| matches!(policy, RestartPolicy::Always)),
                port_names: self.ports.unwrap_or_default().into_iter().filter_map(|port| port.name).collect(),
                liveness: self.liveness_probe,
                readiness: self.readiness_probe,
                startup: self.startup_probe,
                has_lifecycle,
                post_start: lifecycle.post_start,
                pre_stop: lifecycle.pre_stop,
                stop_signal: lifecycle.stop_signal,
            }
        }
    }
}
