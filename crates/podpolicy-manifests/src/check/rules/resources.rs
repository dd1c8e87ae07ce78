//! What containers ask of a node.

use crate::{
    Rule, Severity,
    check::subject::{Spot, Subject},
};

/// What every container should request.
const WANTED: [&str; 2] = ["cpu", "memory"];

pub(super) const NO_RESOURCE_REQUESTS: Rule = Rule {
    id: "no-resource-requests",
    severity: Severity::Warning,
    summary: "a container requests no CPU or no memory",
    why: "The scheduler puts the pod onto nodes that are full, and when a node runs out of memory the pod is among the first to be killed.",
    remedy: "Set resources.requests of the container; a limit without a request counts as one. Requests of the pod count for all of its containers.",
};

pub(super) fn no_resource_requests(subject: &Subject<'_>) -> Vec<Spot> {
    let of_pod = subject.template.spec.resources.as_ref();
    let mut spots = Vec::new();
    for placed in subject.running() {
        let requests =
            |resource: &&str| [of_pod, placed.container.resources.as_ref()].into_iter().flatten().any(|all| all.request(resource));
        let missing: Vec<_> = WANTED.into_iter().filter(|resource| !requests(resource)).collect();
        if !missing.is_empty() {
            spots.push(placed.spot(&["resources"], format!("it requests no {}", missing.join(" and no "))));
        }
    }
    spots
}
