//! How many requests a rollout takes, beside the fewest that can do it: with either strategy over many workloads on a real API server, with
//! real controllers and a kubelet that runs nothing.
//!
//! `just bench` runs it. It prints; it judges nothing. The fewest are counted in the same run, from what is there before the rollout. Sizes can
//! be set: `BENCH_WORKLOADS`, `BENCH_REPLICAS`.

#![allow(clippy::print_stdout, missing_docs, reason = "a benchmark prints its figures")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client, ResourceExt as _};
use podpolicy_api::{PodPolicy, RolloutPhase};
use podpolicy_e2e::environment::number;
use podpolicy_e2e::kubelet::FakeKubelet;
use podpolicy_e2e::objects::{FIELD_MANAGER, IMAGE};
use podpolicy_e2e::requests::{Codes, Request};
use podpolicy_e2e::wait::{Seen, eventually};
use podpolicy_e2e::{ControlPlane, Operator, Options, Requests};
use serde_json::json;

const NAMESPACE: &str = "bench-rollout";
const DEADLINE: Duration = Duration::from_mins(30);

/// How many requests of each kind that writes something, or asks for a dry run, a rollout takes; events apart.
struct Counts([(&'static str, u64); 6]);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (workloads, replicas) = (number("BENCH_WORKLOADS", 50)?, number("BENCH_REPLICAS", 10)?);
    let plane = ControlPlane::start(Options::default()).await?;
    let client = plane.client();
    let metadata = ObjectMeta { name: Some(NAMESPACE.to_owned()), ..ObjectMeta::default() };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await?;
    let _kubelet = FakeKubelet::start(&client, NAMESPACE);
    create_workloads(&client, workloads, replicas).await?;
    let arguments = ["run", "--metrics-address", "127.0.0.1:0", "--log", "warn", "--namespaces", NAMESPACE, "--admission", "native"];
    let _operator = Operator::spawn(plane.kubeconfig_path(), &arguments, &[])?;
    println!("rolling out to {} pods in {workloads} workloads", workloads * replicas);
    for (strategy, grace) in [("Evict", 60), ("Restart", 50)] {
        let Counts(fewest) = fewest(&client, strategy, grace).await?;
        let before = Requests::settled(&client, "pods").await?;
        let started = Instant::now();
        roll_out(&client, strategy, grace).await?;
        println!("strategy {strategy}: {:.1} s\n    {:<28}{:>8}{:>8}", started.elapsed().as_secs_f64(), "requests", "sent", "fewest");
        let Counts(sent) = sent(&Requests::settled(&client, "pods").await?.since(&before));
        for ((what, sent), (_, fewest)) in sent.into_iter().zip(fewest) {
            println!("    {what:<28}{sent:>8}{fewest:>8}");
        }
    }
    Ok(())
}

/// What the API server has counted. Controllers and kubelets send none of these.
fn sent(counted: &Requests) -> Counts {
    let objects = |request: &Request| request.resource.starts_with("mutatingadmissionpolic") && request.is_write();
    Counts([
        ("evictions", counted.count("POST", "pods", "eviction", Codes::Any)),
        ("stamps of workloads", counted.count("PATCH", "deployments", "", Codes::Any)),
        ("patches of pods", counted.count("PATCH", "pods", "", Codes::Any)),
        (
            "statuses of the policy",
            counted.matching(|request| request.resource == "podpolicies" && request.subresource == "status" && request.is_write()),
        ),
        ("objects for new pods", counted.matching(objects)),
        ("dry runs", counted.matching(|request| request.dry_run)),
    ])
}

/// The fewest requests for what is there. Each outdated pod is evicted once, or each workload that has one is stamped once. The status of a new
/// policy says first that nothing is known; then it is written when the spec has been decided on, when new pods get the settings, when the
/// rollout goes on to a workload, because whoever goes on after a crash must know, and when it is over; what is sent beside that tells of progress.
/// A policy and its binding are made for the namespace, of which a change changes one, and a dry run shows that it is in force.
async fn fewest(client: &Client, strategy: &str, grace: i64) -> anyhow::Result<Counts> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pods = pods.list(&ListParams::default()).await?.items;
    let outdated: Vec<_> =
        pods.iter().filter(|pod| pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds) != Some(grace)).collect();
    let apps: BTreeSet<_> = outdated.iter().filter_map(|pod| pod.labels().get("app")).collect();
    let (pods, workloads) = (u64::try_from(outdated.len())?, u64::try_from(apps.len())?);
    let policies: Api<PodPolicy> = Api::namespaced(client.clone(), NAMESPACE);
    let is_new = policies.list(&ListParams::default()).await?.items.is_empty();
    let (evictions, stamps) = if strategy == "Evict" { (pods, 0) } else { (0, workloads) };
    Ok(Counts([
        ("evictions", evictions),
        ("stamps of workloads", stamps),
        ("patches of pods", 0),
        ("statuses of the policy", workloads + if is_new { 4 } else { 3 }),
        ("objects for new pods", if is_new { 2 } else { 1 }),
        ("dry runs", 1),
    ]))
}

async fn create_workloads(client: &Client, workloads: usize, replicas: usize) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    for number in 0..workloads {
        let labels = json!({ "app": format!("web-{number}") });
        let deployment = serde_json::from_value(json!({
            "metadata": { "name": format!("web-{number}") },
            "spec": {
                "replicas": replicas, "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "web", "image": IMAGE }] } },
            },
        }))?;
        deployments.create(&PostParams::default(), &deployment).await?;
    }
    eventually("the pods to be ready", DEADLINE, async || {
        let ready = |deployment: &Deployment| deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
        let ready: Vec<_> = deployments.list(&ListParams::default()).await?.iter().map(ready).collect();
        Ok(Seen::when(ready.iter().all(|ready| usize::try_from(*ready).is_ok_and(|ready| ready == replicas)), ready))
    })
    .await
}

/// Gives all pods another grace period, and waits until they have it.
async fn roll_out(client: &Client, strategy: &str, grace: i64) -> anyhow::Result<()> {
    let policies: Api<PodPolicy> = Api::namespaced(client.clone(), NAMESPACE);
    let policy = json!({
        "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": { "name": "standard" },
        "spec": {
            "selector": {}, "terminationGracePeriodSeconds": grace,
            "rollout": { "strategy": strategy, "maxUnavailable": "100%", "minReadySeconds": 0 },
        },
    });
    policies.patch("standard", &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(policy)).await?;
    eventually(&format!("the rollout by {strategy} to be complete"), DEADLINE, async || {
        let policy = policies.get("standard").await?;
        let status = policy.status.clone().unwrap_or_default();
        let rollout = status.rollout.as_ref();
        let is_over = rollout.is_some_and(|it| it.phase == RolloutPhase::Complete && it.generation == policy.metadata.generation);
        Ok(Seen::when(is_over, status))
    })
    .await
}
