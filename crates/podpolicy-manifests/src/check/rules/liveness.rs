//! Liveness probes that kill containers which would have recovered, or have not yet begun.

use podpolicy_api::Probe;
use podpolicy_engine::{ProbeKind, defaulted};

use crate::{
    Rule, Severity,
    check::subject::{Placed, Spot, Subject},
};

/// How many seconds a container has to start, with the numbers that Kubernetes gives a liveness probe without any.
const USUAL_BUDGET: i64 = 30;

pub(super) const SAME_PROBES: Rule = Rule {
    id: "same-liveness-and-readiness",
    severity: Severity::Warning,
    summary: "liveness and readiness ask the same, and liveness gives up no later",
    why: "A container that is busy for a moment should get no requests until it has recovered. When liveness gives up as early as readiness, it is \
          killed instead, and the load goes to its neighbours, which are killed next.",
    remedy: "Give liveness a higher failureThreshold than readiness, or have it ask something that fails only where a restart helps.",
};

pub(super) const NO_STARTUP_BUDGET: Rule = Rule {
    id: "no-startup-budget",
    severity: Severity::Warning,
    summary: "liveness leaves a container less than 30 s to start, and there is no startup probe",
    why: "Without a startup probe, a liveness probe counts failures from the start. A container that starts slowly for once, on a busy node or with a \
          cold cache, is killed before it is up, again and again. Kubernetes' default numbers allow for 30 s (initialDelaySeconds + \
          periodSeconds * failureThreshold).",
    remedy: "Add a startupProbe with a failureThreshold that covers the slowest start, or raise liveness' failureThreshold.",
};

pub(super) fn same_probes(subject: &Subject<'_>) -> Vec<Spot> {
    let spot = |placed: Placed<'_>| {
        let probe = |kind| placed.container.probe(kind).cloned().map(defaulted);
        let (liveness, readiness) = (probe(ProbeKind::Liveness)?, probe(ProbeKind::Readiness)?);
        let patience = |probe: &Probe| number(probe.period_seconds) * number(probe.failure_threshold);
        let (kills, withholds) = (patience(&liveness), patience(&readiness));
        (is_same_question(&liveness, &readiness) && kills <= withholds).then(|| {
            let message = format!(
                "it asks what the readinessProbe asks, and gives up after {kills} s of failures, the readinessProbe after {withholds} s"
            );
            placed.spot(&["livenessProbe"], message)
        })
    };
    subject.running().filter_map(spot).collect()
}

pub(super) fn no_startup_budget(subject: &Subject<'_>) -> Vec<Spot> {
    let mut spots = Vec::new();
    for placed in subject.running().filter(|placed| placed.container.probe(ProbeKind::Startup).is_none()) {
        let Some(probe) = placed.container.probe(ProbeKind::Liveness).cloned().map(defaulted) else { continue };
        let budget = number(probe.initial_delay_seconds) + number(probe.period_seconds) * number(probe.failure_threshold);
        if budget < USUAL_BUDGET {
            let message = format!("there is no startupProbe, and this one kills a container that is not up {budget} s after its start");
            spots.push(placed.spot(&["livenessProbe"], message));
        }
    }
    spots
}

fn is_same_question(one: &Probe, other: &Probe) -> bool {
    one.has_handler()
        && (&one.http_get, &one.tcp_socket, &one.grpc, &one.exec) == (&other.http_get, &other.tcp_socket, &other.grpc, &other.exec)
}

fn number(given: Option<i32>) -> i64 {
    given.unwrap_or_default().into()
}
