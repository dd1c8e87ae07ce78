//! The rules about pods as they will be. Each says what it finds; none knows about files, annotations or other rules.

mod image;
mod labels;
mod liveness;
mod ports;
mod readiness;
mod resources;
mod stopping;
mod timing;

use super::{
    Rule,
    subject::{Spot, Subject},
};

/// What finds what a rule is about.
type Find = fn(&Subject<'_>) -> Vec<Spot>;

/// Each rule, and what finds what it is about.
pub(super) const ON_PODS: [(&Rule, Find); 11] = [
    (&readiness::NO_READINESS_PROBE, readiness::no_readiness_probe),
    (&liveness::SAME_PROBES, liveness::same_probes),
    (&liveness::NO_STARTUP_BUDGET, liveness::no_startup_budget),
    (&timing::TIMEOUT_OVER_PERIOD, timing::timeout_over_period),
    (&ports::UNKNOWN_PORT_NAME, ports::unknown_port_name),
    (&ports::UNDECLARED_PORT, ports::undeclared_port),
    (&stopping::PRE_STOP_FILLS_GRACE, stopping::pre_stop_fills_grace),
    (&stopping::LONG_GRACE_PERIOD, stopping::long_grace_period),
    (&image::STALE_LATEST, image::stale_latest),
    (&labels::NO_NAME_LABEL, labels::no_name_label),
    (&resources::NO_RESOURCE_REQUESTS, resources::no_resource_requests),
];
