//! A pod as it will be once the policies are applied, as far as rules look at it.

use std::collections::BTreeMap;

use podpolicy_api::{Lifecycle, Probe};
use podpolicy_engine::{Field, HookKind, Outcome, ProbeKind, STOP_SIGNAL, Source};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::services::{Service, Target};
use crate::Step;

/// A pod, and what is known around it.
pub(super) struct Subject<'a> {
    pub(super) template: Template,
    /// What the policies have decided.
    pub(super) outcome: &'a Outcome,
    /// The Services that select it.
    pub(super) services: Vec<&'a Service>,
}

/// What a rule has to say about one field.
pub(super) struct Spot {
    /// Where the field is, from the pod or pod template on.
    pub(super) path: Vec<Step>,
    /// The same, as users read it.
    pub(super) field: String,
    pub(super) message: String,
    /// The field of the engine that it is in, which says whether a policy has set it.
    pub(super) of: Option<Field>,
}

/// Metadata and spec of a pod.
#[derive(Deserialize)]
pub(super) struct Template {
    pub(super) metadata: Option<Metadata>,
    pub(super) spec: Spec,
}

#[derive(Deserialize)]
pub(super) struct Metadata {
    pub(super) labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) restart_policy: Option<String>,
    pub(super) termination_grace_period_seconds: Option<i64>,
    pub(super) resources: Option<Resources>,
    containers: Vec<Container>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    #[serde(default)]
    pub(super) name: String,
    pub(super) image: Option<String>,
    pub(super) image_pull_policy: Option<String>,
    restart_policy: Option<String>,
    ports: Option<Vec<ContainerPort>>,
    pub(super) resources: Option<Resources>,
    liveness_probe: Option<Probe>,
    readiness_probe: Option<Probe>,
    startup_probe: Option<Probe>,
    lifecycle: Option<Lifecycle>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    name: Option<String>,
    container_port: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct Resources {
    requests: Option<Map<String, Json>>,
    limits: Option<Map<String, Json>>,
}

/// A container and where it is.
#[derive(Clone, Copy)]
pub(super) struct Placed<'a> {
    pub(super) container: &'a Container,
    list: &'static str,
    index: usize,
}

impl Subject<'_> {
    /// Application containers, and init containers that keep running beside them.
    pub(super) fn running(&self) -> impl Iterator<Item = Placed<'_>> {
        self.all().filter(|placed| placed.list == "containers" || placed.container.restart_policy.as_deref() == Some("Always"))
    }

    /// Application containers.
    pub(super) fn applications(&self) -> impl Iterator<Item = Placed<'_>> {
        self.all().filter(|placed| placed.list == "containers")
    }

    /// All containers.
    pub(super) fn all(&self) -> impl Iterator<Item = Placed<'_>> {
        let placed = |list| move |(index, container)| Placed { container, list, index };
        let spec = &self.template.spec;
        let init = spec.init_containers.iter().flatten().enumerate().map(placed("initContainers"));
        init.chain(spec.containers.iter().enumerate().map(placed("containers")))
    }

    /// The pod's labels.
    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.template.metadata.as_ref()?.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether containers that end are always started again.
    pub(super) fn always_restarts(&self) -> bool {
        self.template.spec.restart_policy.as_deref().is_none_or(|policy| policy == "Always")
    }

    /// The policy that has set the field, in the words "PodPolicy standard".
    pub(super) fn set_by(&self, field: &Field) -> Option<String> {
        self.outcome.fields.iter().find(|outcome| outcome.field == *field).and_then(|outcome| match &outcome.source {
            Source::Policy(policy) => Some(policy.replace('/', " ")),
            Source::Workload => None,
        })
    }
}

impl Template {
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        self.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default()
    }
}

impl Placed<'_> {
    /// A finding about a field of the container.
    pub(super) fn spot(&self, fields: &[&str], message: impl Into<String>) -> Spot {
        let keys = |keys: &[&str]| Step::keys(keys.iter().copied());
        let mut path = keys(&["spec", self.list]);
        path.push(Step::Index(self.index));
        path.extend(keys(fields));
        let name = &self.container.name;
        let field = [&format!("{}[{name}]", self.list)[..]].iter().chain(fields).copied().collect::<Vec<_>>().join(".");
        Spot { path, field, message: message.into(), of: self.field(fields) }
    }

    /// The field of the engine that these fields are in.
    fn field(&self, fields: &[&str]) -> Option<Field> {
        let container = self.container.name.clone();
        if let Some(kind) = ProbeKind::ALL.into_iter().find(|kind| fields.first() == Some(&kind.field_name())) {
            return Some(Field::Probe { container, kind });
        }
        if fields.get(1) == Some(&STOP_SIGNAL) {
            return Some(Field::StopSignal { container });
        }
        let kind = HookKind::ALL.into_iter().find(|kind| fields.get(1) == Some(&kind.field_name()))?;
        Some(Field::Hook { container, kind })
    }
}

impl Container {
    pub(super) fn probe(&self, kind: ProbeKind) -> Option<&Probe> {
        match kind {
            ProbeKind::Liveness => self.liveness_probe.as_ref(),
            ProbeKind::Readiness => self.readiness_probe.as_ref(),
            ProbeKind::Startup => self.startup_probe.as_ref(),
        }
    }

    pub(super) fn hook(&self, kind: HookKind) -> Option<&podpolicy_api::LifecycleHandler> {
        let lifecycle = self.lifecycle.as_ref()?;
        match kind {
            HookKind::PostStart => lifecycle.post_start.as_ref(),
            HookKind::PreStop => lifecycle.pre_stop.as_ref(),
        }
    }

    /// Whether the container says that it has the port.
    pub(super) fn declares(&self, target: &Target) -> bool {
        self.ports.iter().flatten().any(|port| match target {
            Target::Number(number) => port.container_port == Some(*number),
            Target::Name(name) => port.name.as_ref() == Some(name),
        })
    }

    /// The ports that the container says it has, as users read them.
    pub(super) fn declared(&self) -> String {
        let port = |port: &ContainerPort| match (&port.name, port.container_port) {
            (Some(name), Some(number)) => Some(format!("{name} ({number})")),
            (Some(name), None) => Some(name.clone()),
            (None, number) => number.map(|number| number.to_string()),
        };
        let ports: Vec<_> = self.ports.iter().flatten().filter_map(port).collect();
        if ports.is_empty() { "no port".to_owned() } else { ports.join(", ") }
    }
}

impl Resources {
    /// Whether something is requested; a limit is a request where there is no other.
    pub(super) fn request(&self, resource: &str) -> bool {
        let is_given =
            |map: &Option<Map<String, Json>>| map.as_ref().is_some_and(|map| map.get(resource).is_some_and(|value| !value.is_null()));
        is_given(&self.requests) || is_given(&self.limits)
    }
}
