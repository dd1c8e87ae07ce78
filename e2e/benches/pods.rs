//! How fast live pods become compliant, beside a bare sender of the same patches in the same run, and beside `kubectl label`.
//!
//! `just bench` runs it. It prints; it judges nothing. What counts is the ratio: both sides share the machine with the API
//! server, and absolute figures move from run to run. Sizes can be set: `BENCH_PODS`, `BENCH_POLICIES`, `BENCH_ROUNDS`.

#![allow(clippy::print_stdout, missing_docs, reason = "a benchmark prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use podpolicy_api::PodPolicy;
use podpolicy_e2e::{ControlPlane, Operator, Options, Requests, environment::number, objects, requests::Codes};
use serde_json::json;

/// How many writes are under way at once, on both sides. The operator's default.
const CONCURRENCY: usize = 32;
const DEADLINE: Duration = Duration::from_mins(10);
/// How long the operator is looked at when it has nothing to do.
const IDLE: Duration = Duration::from_secs(20);
/// Patched by the bare sender.
const FLOOR: &str = "bench-floor";
/// Patched by the operator.
const MANAGED: &str = "bench-managed";

struct Sizes {
    pods: usize,
    policies: usize,
    rounds: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let sizes = Sizes { pods: number("BENCH_PODS", 3000)?, policies: number("BENCH_POLICIES", 20)?, rounds: number("BENCH_ROUNDS", 5)? };
    let plane = ControlPlane::start(Options { crds: true, controller_manager: false }).await?;
    let client = plane.client();
    let log_level = std::env::var("BENCH_LOG").unwrap_or_else(|_| "warn".to_owned());
    let arguments = ["run", "--metrics-address", "127.0.0.1:0", "--log", &log_level, "--namespaces", MANAGED, "--admission", "none"];
    for namespace in [FLOOR, MANAGED] {
        let object =
            Namespace { metadata: kube::core::ObjectMeta { name: Some(namespace.to_owned()), ..Default::default() }, ..Default::default() };
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await?;
    }
    let operator = Operator::spawn(plane.kubeconfig_path(), &arguments, &[])?;
    first_status(&client).await?;
    let empty = resident(operator.process().id())?;
    println!("{} pods and {} policies in one namespace; {CONCURRENCY} writes under way at once", sizes.pods, sizes.policies);
    let started = Instant::now();
    create_pods(&client, FLOOR, &sizes).await?;
    create_pods(&client, MANAGED, &sizes).await?;
    println!("created the pods twice, once for each side, in {:.1} s", started.elapsed().as_secs_f64());
    let full = resident(operator.process().id())?;

    let mut ratios = Vec::new();
    let mut busy = Vec::new();
    for round in 0..sizes.rounds {
        let before = Requests::settled(&client, "pods").await?;
        let floor = bare_sender(&client, &sizes, round).await?;
        let between = Requests::settled(&client, "pods").await?;
        let busy_before = processor_time(operator.process().id())?;
        let managed = policies(&client, &sizes, round).await?;
        let after = Requests::settled(&client, "pods").await?;
        busy.push(processor_time(operator.process().id())?.saturating_sub(busy_before).as_secs_f64());
        let sent = after.since(&between).count("PATCH", "pods", "", Codes::Any);
        let bare = between.since(&before).count("PATCH", "pods", "", Codes::Any);
        let ratio = managed.as_secs_f64() / floor.as_secs_f64();
        ratios.push(ratio);
        println!(
            "round {}: bare sender {:.2} s ({:.0} pods/s, {:.2} requests per pod); PodPolicy {:.2} s ({:.0} pods/s, {:.2} requests per pod); {ratio:.2} times",
            round + 1,
            floor.as_secs_f64(),
            rate(&sizes, floor),
            bare as f64 / sizes.pods as f64,
            managed.as_secs_f64(),
            rate(&sizes, managed),
            sent as f64 / sizes.pods as f64,
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("median: {:.2} times the bare sender", ratios[ratios.len() / 2]);
    let labelled = kubectl_label(&plane)?;
    println!("kubectl label on as many pods: {:.2} s ({:.0} pods/s)", labelled.as_secs_f64(), rate(&sizes, labelled));
    busy.sort_by(f64::total_cmp);
    println!(
        "processor time of the operator, median of all rounds: {:.2} s, {:.2} ms for each pod written",
        busy[busy.len() / 2],
        busy[busy.len() / 2] * 1000.0 / sizes.pods as f64
    );
    let settled = resident(operator.process().id())?;
    let busy_before = processor_time(operator.process().id())?;
    // Not a wait for something: how long is looked at.
    tokio::time::sleep(IDLE).await;
    let idle = processor_time(operator.process().id())?.saturating_sub(busy_before).as_secs_f64() / IDLE.as_secs_f64();
    println!("when nothing changes it takes {:.1} thousandths of a processor", idle * 1000.0);
    println!(
        "memory of the operator: {:.1} MiB without pods, {:.1} MiB with {} pods, {:.1} MiB after all rounds, {:.1} MiB at most: {:.1} KiB per cached pod",
        mib(empty),
        mib(full),
        sizes.pods,
        mib(settled),
        mib(memory(operator.process().id(), "VmHWM:")?),
        (full.saturating_sub(empty)) as f64 / 1024.0 / sizes.pods as f64,
    );
    Ok(())
}

fn rate(sizes: &Sizes, time: Duration) -> f64 {
    sizes.pods as f64 / time.as_secs_f64()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

/// The resident memory of a process, in bytes.
fn resident(process: u32) -> anyhow::Result<u64> {
    memory(process, "VmRSS:")
}

fn memory(process: u32, which: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(which)).with_context(|| format!("no {which}"))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

/// How long a process has kept processors busy.
fn processor_time(process: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"))?;
    let (_, after_name) = stat.rsplit_once(") ").context("no name in stat")?;
    // In user mode and in the kernel, of all threads, in hundredths of a second.
    let ticks: u64 = after_name.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn app(number: usize, sizes: &Sizes) -> String {
    format!("app-{}", number % sizes.policies)
}

/// Pods of a usual size: what kube-controller-manager and people put on them.
async fn create_pods(client: &Client, namespace: &str, sizes: &Sizes) -> anyhow::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    stream::iter(0..sizes.pods)
        .map(|number| {
            let api = api.clone();
            let app = app(number, sizes);
            async move {
                let mut pod = objects::pod(
                    &format!("web-{number}"),
                    &[("app", &app), ("app.kubernetes.io/component", "web"), ("pod-template-hash", "7d9f8c6b54")],
                );
                pod.annotations_mut().insert("prometheus.io/scrape".to_owned(), "true".to_owned());
                api.create(&PostParams::default(), &pod).await
            }
        })
        .buffer_unordered(CONCURRENCY)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(())
}

/// Sends what the operator would send, with nothing to decide: the time until a watch has seen every pod changed.
async fn bare_sender(client: &Client, sizes: &Sizes, round: usize) -> anyhow::Result<Duration> {
    let api: Api<Pod> = Api::namespaced(client.clone(), FLOOR);
    let pods: Vec<_> = api.list_metadata(&kube::api::ListParams::default()).await?.items;
    let patches: Vec<_> = pods.iter().map(|pod| (pod.name_any(), same_patch(pod, round))).collect();
    let seen = seen_on(client, FLOOR, sizes.pods, round);
    let started = Instant::now();
    let sent = stream::iter(patches)
        .map(|(name, patch)| {
            let api = api.clone();
            async move { api.patch_metadata(&name, &PatchParams::default(), &patch).await }
        })
        .buffer_unordered(CONCURRENCY)
        .try_for_each(|_| async { Ok(()) });
    let (sent, seen) = tokio::join!(async { sent.await.map_err(anyhow::Error::from) }, seen);
    sent?;
    seen?;
    Ok(started.elapsed())
}

/// As large as the operator's patch: the UID, a label, an annotation and the record, each tested before it is set.
fn same_patch(pod: &PartialObjectMeta<Pod>, round: usize) -> Patch<()> {
    let (label, oncall) = (format!("round-{round}"), format!("oncall-{round}@example.com"));
    let policy = format!("PodPolicy/{}", pod.labels().get("app").cloned().unwrap_or_default());
    let record = json!({
        "labels": { "round": { "by": policy, "value": label } },
        "annotations": { "example.com/oncall": { "by": policy, "value": oncall } },
    });
    let record = record.to_string();
    let mut operations = vec![json!({ "op": "test", "path": "/metadata/uid", "value": pod.uid() })];
    let annotations =
        [("example.com/oncall", "example.com~1oncall", &oncall), ("podpolicy.dev/applied", "podpolicy.dev~1applied", &record)];
    operations.push(json!({ "op": "test", "path": "/metadata/labels/round", "value": pod.labels().get("round") }));
    operations.push(json!({ "op": "add", "path": "/metadata/labels/round", "value": label }));
    for (key, escaped, value) in annotations {
        let path = format!("/metadata/annotations/{escaped}");
        operations.push(json!({ "op": "test", "path": path, "value": pod.annotations().get(key) }));
        operations.push(json!({ "op": "add", "path": path, "value": value }));
    }
    Patch::Json(serde_json::from_value(json!(operations)).expect("these are patch operations"))
}

/// Changes every policy at once: the time until a watch has seen every pod changed.
async fn policies(client: &Client, sizes: &Sizes, round: usize) -> anyhow::Result<Duration> {
    let api: Api<PodPolicy> = Api::namespaced(client.clone(), MANAGED);
    let seen = seen_on(client, MANAGED, sizes.pods, round);
    let started = Instant::now();
    let write = stream::iter(0..sizes.policies)
        .map(|number| {
            let (api, name) = (api.clone(), app(number, sizes));
            async move { api.patch(&name, &PatchParams::apply("bench").force(), &Patch::Apply(policy(&name, round))).await }
        })
        .buffer_unordered(CONCURRENCY)
        .try_for_each(|_| async { Ok(()) });
    let write = async { write.await.map_err(anyhow::Error::from) };
    let (written, seen) = tokio::join!(write, seen);
    written?;
    seen?;
    Ok(started.elapsed())
}

fn policy(name: &str, round: usize) -> serde_json::Value {
    json!({
        "apiVersion": "podpolicy.dev/v1alpha1",
        "kind": "PodPolicy",
        "metadata": { "name": name },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "labels": { "round": format!("round-{round}") },
            "annotations": { "example.com/oncall": format!("oncall-{round}@example.com") },
        },
    })
}

/// Waits until every pod of the namespace has the label of the round. Both sides are watched in the same way.
async fn seen_on(client: &Client, namespace: &str, pods: usize, round: usize) -> anyhow::Result<()> {
    let api: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().labels(&format!("round=round-{round}"));
    let mut seen = std::collections::HashSet::new();
    let events = watcher(api, config).default_backoff().applied_objects();
    let mut events = std::pin::pin!(events);
    let all = async {
        while seen.len() < pods {
            let pod = events.try_next().await?.context("the watch ended")?;
            seen.insert(pod.name_any());
        }
        anyhow::Ok(())
    };
    let outcome = tokio::time::timeout(DEADLINE, all).await;
    outcome.with_context(|| format!("{} of {pods} pods were seen within {DEADLINE:?}", seen.len()))?
}

/// Waits until the operator has written a status: it has listed everything.
async fn first_status(client: &Client) -> anyhow::Result<()> {
    let api: Api<PodPolicy> = Api::namespaced(client.clone(), MANAGED);
    let policy = objects::yaml(
        "
        apiVersion: podpolicy.dev/v1alpha1
        kind: PodPolicy
        metadata: { name: nobody }
        spec: { selector: { matchLabels: { nobody: has-this } } }
        ",
    );
    api.create(&PostParams::default(), &policy).await?;
    podpolicy_e2e::wait::object(&api, "nobody", "a status", DEADLINE, |policy: Option<&PodPolicy>| {
        policy.is_some_and(|policy| policy.status.as_ref().is_some_and(|status| status.pods.is_some()))
    })
    .await?;
    Ok(())
}

fn kubectl_label(plane: &ControlPlane) -> anyhow::Result<Duration> {
    let started = Instant::now();
    plane.kubectl_output(&["label", "pods", "--all", "-n", FLOOR, "bench=kubectl"])?;
    Ok(started.elapsed())
}
