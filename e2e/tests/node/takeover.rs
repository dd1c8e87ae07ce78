//! The leader goes in several ways while it has work; the other replica takes over, and no pod is written twice. On a node of our own, whose
//! API server keeps a log of who changed which pod.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use podpolicy_api::PodPolicyStatus;
use podpolicy_e2e::installation::{self, NAMESPACE};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{Process, objects};
use serde_json::{Value, json};

use crate::scene::Scene;

/// So many that the leader is seen to be at work when it goes.
const PODS: usize = 400;

/// How the leader, which was stopped in the middle of its work, goes.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Its pod is deleted, without a grace period.
    Deleted,
    /// Its process is killed, and kubelet starts it again in its pod.
    Killed,
    /// Its process stays stopped, and goes on when another has taken over.
    Stopped,
    /// The Deployment replaces all replicas, as with a new version; the leader is not stopped for it.
    Replaced,
}

#[tokio::test]
async fn when_the_leader_goes_another_takes_over_and_no_pod_is_written_twice() -> anyhow::Result<()> {
    let scene = Scene::with_operator("takeover").await?;
    for number in 0..PODS {
        scene.pods.create(&PostParams::default(), &waiting(number)).await?;
    }
    for (round, end) in [End::Deleted, End::Killed, End::Stopped, End::Replaced].into_iter().enumerate() {
        let context = || format!("{end:?}");
        take_over(&scene, &format!("round-{round}"), end).await.with_context(context)?;
    }
    let installation = installation::shared().await;
    installation.rolled_out().await?;
    scene.end().await
}

/// A pod that no scheduler ever looks at, so that only policies write to it.
fn waiting(number: usize) -> Pod {
    let mut pod = objects::pod(&format!("web-{number}"), &[]);
    if let Some(spec) = &mut pod.spec {
        spec.scheduler_name = Some("nobody".to_owned());
    }
    pod
}

async fn take_over(scene: &Scene, round: &str, end: End) -> anyhow::Result<()> {
    let log = scene.cluster.node().context("the log is on a node of our own")?.audit_log();
    let before = fs::metadata(&log)?.len();
    let leader = installation::leader(&scene.client, None).await?;
    let pod = leader.split('_').next().unwrap_or_default().to_owned();
    let process = installation::process(scene.cluster, &pod).await?;
    let policy = json!({
        "apiVersion": "podpolicy.dev/v1alpha1",
        "kind": "PodPolicy",
        "metadata": { "name": round },
        "spec": { "selector": {}, "labels": { round: "done" } },
    });
    scene.apply(&policy).await?;
    eventually("some pods to be written", DEADLINE, async || Ok(Seen::when(labelled(scene, round).await? > 0, ()))).await?;
    if !matches!(end, End::Replaced) {
        // Stopped at once, however it goes: it would write all pods while the API server and kubelet see to its end.
        process.pause()?;
        let written = labelled(scene, round).await?;
        anyhow::ensure!(written < PODS, "the leader was stopped too late: all {PODS} pods were written");
    }
    go(scene, end, &pod, process).await?;

    let next = installation::leader(&scene.client, Some(&leader)).await?;
    eventually("all pods to be written", DEADLINE, async || {
        let count = labelled(scene, round).await?;
        Ok(Seen::when(count == PODS, count))
    })
    .await?;
    if let End::Stopped = end {
        process.resume()?;
        let logs = ["logs", &pod, "--namespace", NAMESPACE];
        eventually("the one that was stopped to see that it does not lead", DEADLINE, async || {
            // Its liveness probe may have come first.
            let knows = !process.is_alive() || installation::shared().await.kubectl(&logs).await?.contains("another operator may lead now");
            Ok(Seen::when(knows, ()))
        })
        .await?;
    }
    let all = |status: &PodPolicyStatus| status.pods.is_some_and(|pods| pods.compliant as usize == PODS);
    scene.status(round, "all pods", all).await?;

    let writes = eventually("all writes to be logged", DEADLINE, async || {
        let writes = writes(scene, &log, before)?;
        Ok(if writes.len() == PODS { Seen::Done(writes) } else { Seen::NotYet(format!("writes of {} pods", writes.len())) })
    })
    .await?;
    let twice: Vec<_> = writes.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "led by {leader} and then by {next}: {twice:?}");
    if let End::Replaced = end {
        // What earlier operators recorded is read by the new ones: they take it back, and nothing else.
        scene.policies.delete(round, &DeleteParams::default()).await?;
        eventually("the label to be taken back", DEADLINE, async || {
            let count = labelled(scene, round).await?;
            Ok(Seen::when(count == 0, count))
        })
        .await?;
        anyhow::ensure!(labelled(scene, "round-0").await? == PODS, "labels of other policies are gone");
    }
    Ok(())
}

/// How many pods have the label.
async fn labelled(scene: &Scene, key: &str) -> anyhow::Result<usize> {
    Ok(scene.pods.list_metadata(&ListParams::default().labels(key)).await?.items.len())
}

/// How often the operator has written each pod of the namespace, by what is in the log from this place on.
fn writes(scene: &Scene, log: &Path, from: u64) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(from))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let mut writes = BTreeMap::new();
    // What follows the last newline is being written.
    for line in text.lines().take(text.matches('\n').count()) {
        let event: Value = serde_json::from_str(line).with_context(|| format!("not an event: {line}"))?;
        let by_operator = event["user"]["username"] == format!("system:serviceaccount:{NAMESPACE}:podpolicy");
        let object = &event["objectRef"];
        let changed = event["verb"] == "patch" && event["responseStatus"]["code"] == 200 && object["subresource"].is_null();
        if by_operator && changed && object["namespace"] == scene.name() {
            *writes.entry(object["name"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    Ok(writes)
}

async fn go(scene: &Scene, end: End, pod: &str, process: Process) -> anyhow::Result<()> {
    match end {
        End::Deleted => {
            let pods: Api<Pod> = Api::namespaced(scene.client.clone(), NAMESPACE);
            pods.delete(pod, &DeleteParams::default().grace_period(0)).await?;
            eventually("its process to end", DEADLINE, async || Ok(Seen::when(!process.is_alive(), "it runs"))).await
        }
        End::Killed => process.kill(),
        End::Stopped => Ok(()),
        End::Replaced => {
            let installation = installation::shared().await;
            installation.kubectl(&["rollout", "restart", "deployment/podpolicy", "--namespace", NAMESPACE]).await?;
            installation.rolled_out().await
        }
    }
}
