//! The numbers of probes.

use podpolicy_engine::{ProbeKind, defaulted};

use crate::{
    Rule, Severity,
    check::subject::{Spot, Subject},
};

pub(super) const TIMEOUT_OVER_PERIOD: Rule = Rule {
    id: "probe-timeout-over-period",
    severity: Severity::Warning,
    summary: "a probe waits longer for an answer than until the next attempt",
    why: "The kubelet makes one attempt after the other, so that the period does not hold: a container that hangs is noticed later than \
          periodSeconds * failureThreshold says.",
    remedy: "Make timeoutSeconds no larger than periodSeconds.",
};

pub(super) fn timeout_over_period(subject: &Subject<'_>) -> Vec<Spot> {
    let mut spots = Vec::new();
    for placed in subject.running() {
        for kind in ProbeKind::ALL {
            let Some(probe) = placed.container.probe(kind).cloned().map(defaulted) else { continue };
            let (timeout, period) = (probe.timeout_seconds.unwrap_or_default(), probe.period_seconds.unwrap_or_default());
            if timeout > period {
                let message = format!("a timeout of {timeout} s is longer than the period of {period} s");
                spots.push(placed.spot(&[kind.field_name(), "timeoutSeconds"], message));
            }
        }
    }
    spots
}
