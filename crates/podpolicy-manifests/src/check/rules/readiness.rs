//! Whether the pods behind a Service say when they are ready.

use podpolicy_engine::ProbeKind;

use crate::{
    Rule, Severity,
    check::{
        services::Service,
        subject::{Placed, Spot, Subject},
    },
};

pub(super) const NO_READINESS_PROBE: Rule = Rule {
    id: "no-readiness-probe",
    severity: Severity::Warning,
    summary: "a container behind a Service has no readiness probe",
    why: "Without one a container counts as ready as soon as its process runs. The Service sends it requests before it can answer them, at each \
          rollout and after each restart, and goes on when it hangs.",
    remedy: "Give the container a readinessProbe, or a policy that supplies one.",
};

/// The containers whose ports a Service asks for; where no container declares such a port, one with a probe is enough.
pub(super) fn no_readiness_probe(subject: &Subject<'_>) -> Vec<Spot> {
    // Pods that end are no servers.
    if !subject.always_restarts() {
        return Vec::new();
    }
    let has_probe = |placed: &Placed<'_>| placed.container.probe(ProbeKind::Readiness).is_some();
    let behind = |placed: &Placed<'_>, service: &Service| service.targets.iter().any(|target| placed.container.declares(target));
    let spot = |placed: Placed<'_>, service: &Service| {
        placed.spot(&[], format!("there is no readinessProbe, and Service {} sends requests to the pod", service.name))
    };
    let mut spots = Vec::new();
    for placed in subject.running().filter(|placed| !has_probe(placed)) {
        let service = subject.services.iter().find(|service| behind(&placed, service));
        spots.extend(service.map(|service| spot(placed, service)));
    }
    let undeclared = subject.services.iter().find(|service| !subject.running().any(|placed| behind(&placed, service)));
    if let (Some(service), true, false) = (undeclared, spots.is_empty(), subject.running().any(|placed| has_probe(&placed))) {
        spots.extend(subject.applications().next().map(|placed| spot(placed, service)));
    }
    spots
}
