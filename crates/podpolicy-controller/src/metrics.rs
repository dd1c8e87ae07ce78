//! What the operator counts, for Prometheus. Labels have few values; none comes from a user. Nothing here decides anything.
//!
//! The help texts are the manual: `docs/metrics.md` is made of what is served. What can be counted is there from the start, as zero, so
//! that a rate can be taken of the first.

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use podpolicy_admission::webhook::Observer;
use podpolicy_api::FindingReason;
use podpolicy_engine::PolicyKind;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use crate::{
    apply::WriteError,
    observe::Failure,
    rollout::{Step, StepError},
    source::Source,
    world::{AtCreationState, Census, PodOutcome, Readiness},
};

/// From a write that is answered at once to one that waits for the API server for minutes.
const RECONCILE_BUCKETS: [f64; 12] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// An answer takes less than a millisecond; the limit of a request is 5 seconds.
const REQUEST_BUCKETS: [f64; 10] = [0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 5.0];

/// The operator's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    leader: Gauge,
    policies: Family<PolicyLabels, Gauge>,
    pods: Family<OutcomeLabel, Gauge>,
    findings: Family<ReasonLabel, Gauge>,
    queued: Gauge,
    pod_writes: Family<ResultLabel, Counter>,
    status_writes: Family<ResultLabel, Counter>,
    reconciles: Family<ResultLabel, Counter>,
    reconcile_duration: Histogram,
    watch_failures: Family<WatchLabels, Counter>,
    events: Family<ResultLabel, Counter>,
    rollout_evictions: Family<ResultLabel, Counter>,
    rollout_restarts: Family<ResultLabel, Counter>,
    rollout_failures: Counter,
    backend: Family<BackendLabel, Gauge>,
    at_creation: Family<StateLabel, Gauge>,
    webhook_requests: Family<CodeLabel, Counter>,
    webhook_duration: Histogram,
    certificate_expiry: Family<NoLabels, Gauge>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct BuildLabels {
    version: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct PolicyLabels {
    kind: &'static str,
    ready: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReasonLabel {
    reason: String,
}

/// `ok`, or the category of the error.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct WatchLabels {
    resource: String,
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct BackendLabel {
    backend: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct CodeLabel {
    code: u16,
}

/// A family of none or one.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct NoLabels {}

/// What came of telling an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EventResult {
    /// The API server has it.
    Ok,
    /// There were too many.
    Dropped,
    /// The API server did not take it.
    Failed,
}

impl EventResult {
    const ALL: [Self; 3] = [Self::Ok, Self::Dropped, Self::Failed];

    fn label(self) -> ResultLabel {
        let result = match self {
            Self::Ok => "ok",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        };
        ResultLabel { result }
    }
}

/// Who gives pods their settings at creation, as far as this replica knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BackendNow {
    Native,
    Webhook,
    None,
    Unknown,
}

impl BackendNow {
    const ALL: [Self; 4] = [Self::Native, Self::Webhook, Self::None, Self::Unknown];

    fn label(self) -> BackendLabel {
        let backend = match self {
            Self::Native => "native",
            Self::Webhook => "webhook",
            Self::None => "none",
            Self::Unknown => "unknown",
        };
        BackendLabel { backend }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("podpolicy"),
            leader: Gauge::default(),
            policies: Family::default(),
            pods: Family::default(),
            findings: Family::default(),
            queued: Gauge::default(),
            pod_writes: Family::default(),
            status_writes: Family::default(),
            reconciles: Family::default(),
            reconcile_duration: Histogram::new(RECONCILE_BUCKETS),
            watch_failures: Family::default(),
            events: Family::default(),
            rollout_evictions: Family::default(),
            rollout_restarts: Family::default(),
            rollout_failures: Counter::default(),
            backend: Family::default(),
            at_creation: Family::default(),
            webhook_requests: Family::default(),
            webhook_duration: Histogram::new(REQUEST_BUCKETS),
            certificate_expiry: Family::default(),
        };
        metrics.set_census(&Census::default(), BackendNow::Unknown);
        for result in std::iter::once("ok").chain(WriteError::CATEGORIES) {
            for family in [&metrics.pod_writes, &metrics.status_writes, &metrics.reconciles] {
                drop(family.get_or_create(&ResultLabel { result }));
            }
        }
        for result in std::iter::once("ok").chain(StepError::CATEGORIES) {
            for family in [&metrics.rollout_evictions, &metrics.rollout_restarts] {
                drop(family.get_or_create(&ResultLabel { result }));
            }
        }
        for result in EventResult::ALL {
            drop(metrics.events.get_or_create(&result.label()));
        }
        for code in [200, 400, 408, 413, 503] {
            drop(metrics.webhook_requests.get_or_create(&CodeLabel { code }));
        }
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register("build", "The version that runs", Info::new(BuildLabels { version: env!("CARGO_PKG_VERSION") }));
        registry.register("leader", "1 where this replica leads and writes, 0 where it stands by", self.leader.clone());
        registry.register("policies", "Policies that are known, by kind and by the status of their condition Ready", self.policies.clone());
        registry.register(
            "pods",
            "Pods that are known, by how they stand with the policies that enforce: the worst counts; failing are those whose last write \
             failed, unselected those that no such policy selects",
            self.pods.clone(),
        );
        registry.register("findings", "Findings on pods, by reason; of NotAtCreation, policies that are left out", self.findings.clone());
        registry.register("pods_queued", "Pods that wait for a write or are being written", self.queued.clone());
        registry.register("pod_writes", "Writes to pods, by result", self.pod_writes.clone());
        registry.register("status_writes", "Writes to the status of policies, by result", self.status_writes.clone());
        registry.register(
            "reconciles",
            "Changes of policies or their pods that were followed up to the status, by result",
            self.reconciles.clone(),
        );
        registry.register(
            "rollout_evictions",
            "Evictions by rollouts, by result; blocked are those that a disruption budget does not allow now",
            self.rollout_evictions.clone(),
        );
        registry.register("rollout_restarts", "Restarts of workloads by rollouts, by result", self.rollout_restarts.clone());
        registry.register("rollout_failures", "Rollouts that stopped because a replaced pod failed", self.rollout_failures.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "Time from a change of a policy or its pods until the policy's status says what came of it",
            Unit::Seconds,
            self.reconcile_duration.clone(),
        );
        registry.register("watch_failures", "Failures of watches, by resource and reason", self.watch_failures.clone());
        registry.register("events", "Events about policies, by result; dropped are those beyond the limit", self.events.clone());
        registry.register(
            "admission_backend",
            "1 for who gives pods their settings when they are created; unknown where another replica leads",
            self.backend.clone(),
        );
        registry.register("admission_policies", "Policies by how they stand at the creation of pods", self.at_creation.clone());
        registry.register(
            "webhook_requests",
            "Requests to the admission webhook of this replica, by HTTP status",
            self.webhook_requests.clone(),
        );
        registry.register_with_unit(
            "webhook_request_duration",
            "Time that the admission webhook of this replica took to answer",
            Unit::Seconds,
            self.webhook_duration.clone(),
        );
        registry.register_with_unit(
            "webhook_certificate_expiry_timestamp",
            "When the certificate that the admission webhook of this replica serves ends; absent while it serves none",
            Unit::Seconds,
            self.certificate_expiry.clone(),
        );
        self
    }

    /// All metrics in the OpenMetrics text format.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes any text");
        text
    }

    pub(crate) fn rollout_step(&self, step: &Step, error: Option<&StepError>) {
        let label = ResultLabel { result: error.map_or("ok", StepError::category) };
        match step {
            Step::Evict { .. } => self.rollout_evictions.get_or_create(&label).inc(),
            Step::Restart { .. } => self.rollout_restarts.get_or_create(&label).inc(),
            Step::Explain { .. } => self.rollout_failures.inc(),
        };
    }

    pub(crate) fn watches(&self, sources: &[Source]) {
        for source in sources {
            for reason in ["forbidden", "not_served", "other"] {
                drop(self.watch_failures.get_or_create(&WatchLabels { resource: source.resource.to_string(), reason }));
            }
        }
    }

    pub(crate) fn watch_failed(&self, source: &Source, failure: &Failure) {
        let reason = match failure {
            Failure::Forbidden { .. } => "forbidden",
            Failure::NotServed => "not_served",
            Failure::Other(_) => "other",
        };
        self.watch_failures.get_or_create(&WatchLabels { resource: source.resource.to_string(), reason }).inc();
    }

    pub(crate) fn set_leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    pub(crate) fn set_queued(&self, pods: usize) {
        self.queued.set(gauge(pods));
    }

    pub(crate) fn set_census(&self, census: &Census, backend: BackendNow) {
        for kind in [PolicyKind::PodPolicy, PolicyKind::ClusterPodPolicy] {
            for ready in Readiness::ALL {
                let count = census.policies.get(&(kind, ready)).copied().unwrap_or_default();
                self.policies.get_or_create(&PolicyLabels { kind: name(kind), ready: ready.name() }).set(gauge(count));
            }
        }
        for outcome in PodOutcome::ALL {
            let count = census.pods.get(&outcome).copied().unwrap_or_default();
            self.pods.get_or_create(&OutcomeLabel { outcome: outcome.name() }).set(gauge(count));
        }
        for reason in FindingReason::ALL {
            let count = census.findings.get(&reason).copied().unwrap_or_default();
            self.findings.get_or_create(&ReasonLabel { reason: reason.to_string() }).set(gauge(count));
        }
        for state in AtCreationState::ALL {
            let count = census.at_creation.get(&state).copied().unwrap_or_default();
            self.at_creation.get_or_create(&StateLabel { state: state.name() }).set(gauge(count));
        }
        for each in BackendNow::ALL {
            self.backend.get_or_create(&each.label()).set((each == backend).into());
        }
    }

    pub(crate) fn pod_written(&self, error: Option<&WriteError>) {
        self.pod_writes.get_or_create(&result(error)).inc();
    }

    pub(crate) fn status_written(&self, error: Option<&WriteError>) {
        self.status_writes.get_or_create(&result(error)).inc();
    }

    pub(crate) fn reconciled(&self, took: Duration) {
        self.reconciles.get_or_create(&result(None)).inc();
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    pub(crate) fn reconcile_failed(&self, error: &WriteError) {
        self.reconciles.get_or_create(&result(Some(error))).inc();
    }

    pub(crate) fn event(&self, result: EventResult) {
        self.events.get_or_create(&result.label()).inc();
    }
}

impl Observer for Metrics {
    fn answered(&self, code: StatusCode, took: Duration) {
        self.webhook_requests.get_or_create(&CodeLabel { code: code.as_u16() }).inc();
        self.webhook_duration.observe(took.as_secs_f64());
    }

    fn certificate_served(&self, expiry: Timestamp) {
        self.certificate_expiry.get_or_create(&NoLabels {}).set(expiry.as_second());
    }
}

fn result(error: Option<&WriteError>) -> ResultLabel {
    ResultLabel { result: error.map_or("ok", WriteError::category) }
}

fn name(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::PodPolicy => "PodPolicy",
        PolicyKind::ClusterPodPolicy => "ClusterPodPolicy",
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
