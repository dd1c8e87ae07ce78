//! Any text as a manifest: no panic, no endless work, and what comes out of those that can be edited means what was decided.

#![no_main]

#[path = "../../crates/podpolicy-manifests/tests/given/mod.rs"]
mod given;
#[path = "../../crates/podpolicy-manifests/tests/invariants/mod.rs"]
mod invariants;

use given::{NAMESPACE, program};
use libfuzzer_sys::fuzz_target;
use podpolicy_manifests::{Manifest, render};

/// Policies that fill in, replace and tune; the first byte of the input says which.
const POLICIES: [&str; 3] = [
    r##"{apiVersion: podpolicy.dev/v1alpha1, kind: ClusterPodPolicy, metadata: {name: fill}, spec: {selector: {}, labels: {team: shop, "1": "no"},
        annotations: {note: "two\n\n  lines: \"# x\""}, terminationGracePeriodSeconds: 60, containers: [{
        readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 5}, lifecycle: {preStop: {exec: {command: [sh, -c, "a: b"]}}}}]}}"##,
    r##"{apiVersion: podpolicy.dev/v1alpha1, kind: ClusterPodPolicy, metadata: {name: replace}, spec: {selector: {}, precedence: Policy,
        labels: {a: "#1"}, annotations: {b: "- c"}, terminationGracePeriodSeconds: 45, containers: [{
        livenessProbe: {httpGet: {path: /alive, port: 8080}}, lifecycle: {preStop: {sleep: {seconds: 4}}}}]}}"##,
    r##"{apiVersion: podpolicy.dev/v1alpha1, kind: ClusterPodPolicy, metadata: {name: tune}, spec: {selector: {}, precedence: Policy,
        containers: [{livenessProbe: {periodSeconds: 17}, readinessProbe: {timeoutSeconds: 3, failureThreshold: 5}}]}}"##,
];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains("PodPolicy") {
        return;
    }
    let Ok(manifest) = Manifest::parse(text.to_owned()) else { return };
    let policies = POLICIES[usize::from(choice) % POLICIES.len()];
    let program = program(policies, &[&manifest]);
    let rendered = render(&manifest, &program, NAMESPACE);
    for problem in &rendered.problems {
        // Whatever is written strangely is refused with a reason of its own; this one is for mistakes of the editing.
        assert!(!problem.message.contains("please report it"), "{problem}");
    }
    let after = invariants::after(&manifest, &rendered);
    invariants::diff_tells_it_all(text, &rendered.diff(text, 3), &after);
    invariants::line_endings_stay(text, &after);
    if rendered.problems.is_empty() {
        invariants::is_done(&program, NAMESPACE, &after);
        invariants::means_what_was_decided(&manifest, &program, NAMESPACE, &after);
    }
});
