//! What the operator counts, for Prometheus. Labels have few values; none comes from a user.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The operator's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(crate) pod_writes: Family<Writes, Counter>,
    pub(crate) status_writes: Family<Writes, Counter>,
    pub(crate) queued: Gauge,
    pub(crate) pods: Gauge,
    pub(crate) policies: Gauge,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct Writes {
    /// `ok`, or the category of the error.
    pub(crate) result: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("podpolicy");
        let (pod_writes, status_writes) = (Family::default(), Family::default());
        let (queued, pods, policies) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("pod_writes", "Writes to pods, by result", pod_writes.clone());
        registry.register("status_writes", "Writes to the status of policies, by result", status_writes.clone());
        registry.register("pods_queued", "Pods that wait for a write or are being written", queued.clone());
        registry.register("pods", "Pods that are known", pods.clone());
        registry.register("policies", "Policies that are known, both kinds", policies.clone());
        Self { registry, pod_writes, status_writes, queued, pods, policies }
    }
}

impl Metrics {
    /// All metrics in the OpenMetrics text format.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes any text");
        text
    }
}
