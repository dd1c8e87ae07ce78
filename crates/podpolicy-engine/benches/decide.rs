//! What one decision costs, by how many policies there are of which three select the pod: their number must not matter.
//! `cargo bench -p podpolicy-engine`; a substring as argument chooses among the scenarios.

#![allow(clippy::print_stdout, reason = "figures are what a benchmark is for")]

use std::{
    collections::{BTreeMap, HashMap},
    hint::black_box,
    sync::Arc,
    time::Instant,
};

use podpolicy_api::{ClusterPodPolicy, PodPolicy};
use podpolicy_engine::{NamespaceFacts, Pod, PodState, Policy, PolicyKind, Program, Reader, Settings};
use serde::Deserialize;
use serde_json::{Value as Json, json};

const SIZES: [usize; 3] = [3, 100, 10_000];
/// The sizes take turns, for a millisecond or two each, so that whatever else the machine does meets them all alike, and few rounds.
const ROUNDS: usize = 501;

fn main() {
    let chosen: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    println!("time per pod, three policies select it, medians of {ROUNDS} rounds\n");
    println!("{:<36} {:>9} {:>9} {:>7}", "scenario", "policies", "ns/pod", "ratio");
    for (kind, kind_name) in [(PolicyKind::PodPolicy, "PodPolicies"), (PolicyKind::ClusterPodPolicy, "ClusterPodPolicies")] {
        for (is_new, pod_name) in [(false, "compliant pod"), (true, "new pod")] {
            let name = format!("{kind_name}, {pod_name}");
            if chosen.iter().all(|part| name.contains(part.as_str())) {
                run(&name, kind, is_new);
            }
        }
    }
}

fn run(name: &str, kind: PolicyKind, is_new: bool) {
    let programs = SIZES.map(|size| program(kind, size));
    let pods = programs.each_ref().map(|program| if is_new { new_pods() } else { compliant_pods(program) });
    for (program, pods) in programs.iter().zip(&pods) {
        for outcome in pods.iter().map(|pod| program.decide(pod)) {
            let is_compliant = outcome.verdicts.iter().all(|verdict| verdict.state == PodState::Compliant);
            assert!(outcome.verdicts.len() == 3 && is_compliant != is_new, "three policies select each pod: {:?}", outcome.verdicts);
        }
    }
    let mut times = SIZES.map(|_| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        for ((program, pods), times) in programs.iter().zip(&pods).zip(&mut times) {
            times.push(nanoseconds_per_pod(program, pods));
        }
    }
    let medians = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    });
    for (size, median) in SIZES.iter().zip(medians) {
        println!("{name:<36} {size:>9} {median:>9.0} {:>7.2}", median / medians[0]);
    }
}

fn nanoseconds_per_pod(program: &Program, pods: &[Pod]) -> f64 {
    let start = Instant::now();
    for pod in pods {
        black_box(program.decide(black_box(pod)));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(u32::try_from(pods.len()).expect("a few pods"))
}

/// As many policies, of which three select the pods of the team `team-0`: its own, the one of its application's tier, and the
/// one for all. The others select other teams, applications and tiers, in the ways in which people write selectors.
fn program(kind: PolicyKind, size: usize) -> Program {
    let selectors = [json!({}), team(0), tier(0)].into_iter().chain((1..).map(other_selector)).take(size);
    let policies = selectors.enumerate().map(|(index, selector)| Arc::new(policy(kind, index, &selector)));
    let reader = Reader::new("Service", "shop", "web", false);
    let readers = BTreeMap::from([("app.kubernetes.io/name".to_owned(), vec![reader.clone()]), ("role".to_owned(), vec![reader])]);
    let facts = NamespaceFacts { labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]), readers, ..NamespaceFacts::default() };
    Program::new(policies, HashMap::from([("shop".to_owned(), Arc::new(facts))]), Settings::default())
}

fn team(index: usize) -> Json {
    json!({ "matchLabels": { "team": format!("team-{index}") } })
}

fn tier(index: usize) -> Json {
    json!({
        "matchLabels": { "app.kubernetes.io/name": format!("app-{index}") },
        "matchExpressions": [
            { "key": "tier", "operator": "In", "values": ["front", "back"] },
            { "key": "track", "operator": "NotIn", "values": ["canary"] },
        ],
    })
}

fn other_selector(index: usize) -> Json {
    match index % 5 {
        0 => team(index),
        1 => tier(index),
        2 => json!({ "matchLabels": { "tier": "front", "app.kubernetes.io/instance": format!("app-{index}") } }),
        3 => {
            json!({ "matchExpressions": [{ "key": "team", "operator": "In", "values": [format!("team-{index}"), format!("squad-{index}")] }] })
        }
        _ => json!({ "matchExpressions": [{ "key": format!("feature-{index}"), "operator": "Exists" }] }),
    }
}

/// Each policy has labels and annotations of its own; the first three also meet on some, and set probes, hooks and the grace period.
fn policy(kind: PolicyKind, index: usize, selector: &Json) -> Policy {
    let mut spec = json!({
        "selector": selector,
        "priority": i64::try_from(index % 7).expect("a small number"),
        "labels": { "cost-center": format!("{}", index % 3), format!("from-{}", index % 50): "policy" },
        "annotations": { "example.com/oncall": format!("team-{index}@example.com"), "example.com/runbook": "example.com/book" },
        "terminationGracePeriodSeconds": 60,
        "containers": [
            {
                "names": ["web", "api-*"],
                "livenessProbe": { "httpGet": { "path": "/healthz", "port": "http" }, "periodSeconds": 5 },
                "readinessProbe": { "httpGet": { "path": "/ready", "port": "http" } },
            },
            { "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } } },
        ],
    });
    let mut metadata = json!({ "name": format!("policy-{index}") });
    match kind {
        PolicyKind::PodPolicy => {
            metadata["namespace"] = "shop".into();
            let manifest = json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": metadata, "spec": spec });
            Policy::from_namespaced(&PodPolicy::deserialize(manifest).expect("a policy"))
        }
        PolicyKind::ClusterPodPolicy => {
            if index.is_multiple_of(2) {
                spec["namespaceSelector"] = json!({ "matchLabels": { "env": "prod" } });
            }
            let manifest =
                json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "ClusterPodPolicy", "metadata": metadata, "spec": spec });
            Policy::from_cluster(&ClusterPodPolicy::deserialize(manifest).expect("a policy"))
        }
    }
}

/// Pods as a Deployment makes them, with a sidecar and nothing of what the policies ask for.
fn new_pods() -> Vec<Pod> {
    pods(&json!({
        "initContainers": [{ "name": "proxy", "restartPolicy": "Always" }, { "name": "migrate" }],
        "containers": [{ "name": "web", "ports": [{ "name": "http", "containerPort": 8080 }] }],
    }))
}

/// Such pods with all that the policies ask for, as most pods are most of the time.
fn compliant_pods(program: &Program) -> Vec<Pod> {
    let hooks = json!({ "preStop": { "sleep": { "seconds": 5 } } });
    let probe = |path: &str, period: i32| {
        json!({
            "httpGet": { "path": path, "port": "http", "scheme": "HTTP" },
            "timeoutSeconds": 1, "periodSeconds": period, "successThreshold": 1, "failureThreshold": 3,
        })
    };
    let mut pods = pods(&json!({
        "terminationGracePeriodSeconds": 60,
        "initContainers": [{ "name": "proxy", "restartPolicy": "Always", "lifecycle": hooks }, { "name": "migrate" }],
        "containers": [{
            "name": "web", "ports": [{ "name": "http", "containerPort": 8080 }], "lifecycle": hooks,
            "livenessProbe": probe("/healthz", 5), "readinessProbe": probe("/ready", 10),
        }],
    }));
    for pod in &mut pods {
        program.decide(pod).metadata.apply(pod);
    }
    pods
}

fn pods(spec: &Json) -> Vec<Pod> {
    let pod = |index: usize| {
        json!({
            "metadata": {
                "name": format!("web-{index}"), "namespace": "shop", "uid": format!("{index:032x}"),
                "labels": {
                    "app.kubernetes.io/name": "app-0", "app.kubernetes.io/instance": "web", "team": "team-0", "tier": "front",
                    "role": "web", "pod-template-hash": "5d4f8c7b9",
                },
                "annotations": { "prometheus.io/scrape": "true", "checksum/config": "b5bb9d8014a0f9b1d61e21e796d78dcc" },
            },
            "spec": spec,
        })
    };
    (0..50).map(|index| Pod::deserialize(pod(index)).expect("a pod")).collect()
}
