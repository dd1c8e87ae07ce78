//! How long it takes to create a pod through the API server: with nothing, with the native backend and with the webhook, at 1, 10 and 50
//! policies in the namespace, all of which select the pod by conditions of their own.
//!
//! `just bench` runs it. It prints; it judges nothing. Rounds alternate, so that what else the machine does hits all alike; what counts is
//! the ratio. `BENCH_CREATES` says how many pods each round creates in each namespace, `BENCH_ROUNDS` how many rounds there are.

#![allow(clippy::print_stdout, missing_docs, reason = "a benchmark prints its figures")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::ObjectMeta,
};
use podpolicy_api::PodPolicy;
use podpolicy_e2e::{
    ControlPlane, Operator, Options,
    environment::{free_address, number},
    objects,
    policies::{status, verdict},
};
use serde_json::json;

/// How many policies the namespaces have.
const POLICIES: [usize; 4] = [0, 1, 10, 50];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (creates, rounds) = (number("BENCH_CREATES", 100)?, number("BENCH_ROUNDS", 5)?);
    let plane = ControlPlane::start(Options { crds: true, controller_manager: false }).await?;
    let client = plane.client();
    for count in POLICIES {
        let metadata = ObjectMeta { name: Some(namespace(count)), ..ObjectMeta::default() };
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await?;
        for number in 0..count {
            let policy = policy(number);
            let policies: Api<PodPolicy> = Api::namespaced(client.clone(), &namespace(count));
            policies.patch(&format!("policy-{number}"), &PatchParams::apply(objects::FIELD_MANAGER), &Patch::Apply(policy)).await?;
        }
    }
    println!("creating pods, {rounds} rounds of {creates} in each namespace; times in ms");
    let mut figures = BTreeMap::new();
    // The backends take turns as well: a machine that gets slower meanwhile would be taken for a slow backend.
    for _ in 0..rounds {
        for backend in ["native", "webhook"] {
            let mut operator = operator(&plane, backend)?;
            for count in POLICIES {
                ready(&client, count, backend).await?;
            }
            for count in POLICIES {
                let times = create(&client, &namespace(count), creates).await?;
                figures.entry((backend, count)).or_insert_with(Vec::new).extend(times);
            }
            operator.terminate()?;
            operator.wait(Duration::from_mins(1)).await?;
        }
    }
    println!("{:<10}{:>9}{:>8}{:>8}{:>18}{:>16}", "backend", "policies", "p50", "p99", "p50 / no policy", "p50 / 1 policy");
    for ((backend, count), times) in &mut figures.clone() {
        let p50 = |count| percentile(&mut figures.clone()[&(*backend, count)].clone(), 50);
        println!(
            "{backend:<10}{count:>9}{:>8.2}{:>8.2}{:>18.2}{:>16.2}",
            percentile(times, 50),
            percentile(times, 99),
            percentile(times, 50) / p50(0),
            percentile(times, 50) / p50(1),
        );
    }
    Ok(())
}

/// An operator that gives new pods their settings by the backend.
fn operator(plane: &ControlPlane, backend: &str) -> anyhow::Result<Operator> {
    let address = free_address()?.to_string();
    let url = format!("https://{address}/mutate");
    let secret_namespace = namespace(0);
    let arguments = ["run", "--metrics-address", "127.0.0.1:0", "--log", "warn", "--admission", backend];
    let webhook = ["--webhook-address", &address, "--webhook-url", &url, "--own-namespace", &secret_namespace];
    Operator::spawn(plane.kubeconfig_path(), &[&arguments[..], &webhook[..]].concat(), &[])
}

fn namespace(policies: usize) -> String {
    format!("bench-{policies}")
}

/// A policy that selects the pod by a condition that no other has, and gives it what others give it as well, and a label of its own.
fn policy(number: usize) -> serde_json::Value {
    json!({
        "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": { "name": format!("policy-{number}") },
        "spec": {
            "selector": { "matchExpressions": [{ "key": "app", "operator": "In", "values": ["web", format!("other-{number}")] }] },
            "labels": { format!("label-{}", number % 10): format!("value-{number}") },
            "annotations": { format!("example.com/note-{}", number % 10): format!("note {number}") },
            "terminationGracePeriodSeconds": 60,
            "containers": [{
                "readinessProbe": { "httpGet": { "path": format!("/ready-{number}"), "port": "http" } },
                "livenessProbe": { "tcpSocket": { "port": 8080 } },
                "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } },
            }],
        },
    })
}

/// Waits until the backend gives new pods their settings.
async fn ready(client: &Client, count: usize, backend: &str) -> anyhow::Result<()> {
    let policies: Api<PodPolicy> = Api::namespaced(client.clone(), &namespace(count));
    for number in 0..count {
        let is_by = |status: &podpolicy_api::PodPolicyStatus| {
            let by = status.admission.as_ref().map(|admission| format!("{:?}", admission.backend).to_lowercase());
            by.as_deref() == Some(backend) && verdict(status, "Ready").starts_with("True")
        };
        // A policy that always loses is ready as well.
        status(&policies, &format!("policy-{number}"), "ready", is_by).await?;
    }
    Ok(())
}

async fn create(client: &Client, namespace: &str, count: usize) -> anyhow::Result<Vec<f64>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut pod = objects::pod("unused", &[("app", "web"), ("tier", "front")]);
    pod.metadata.name = None;
    pod.metadata.generate_name = Some("pod-".to_owned());
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        pods.create(&PostParams::default(), &pod).await?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await?;
    Ok(times)
}

/// The value that so many percent of the values do not exceed.
fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent / 100).min(values.len() - 1)]
}
