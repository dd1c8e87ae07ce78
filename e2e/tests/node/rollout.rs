//! Rollouts to pods that really run: what a wrong probe costs, and that a right one costs nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use podpolicy_api::{PodPolicyStatus, RolloutPhase};
use podpolicy_e2e::policies::{condition, verdict};
use podpolicy_e2e::wait::{Seen, eventually};
use podpolicy_e2e::{History, pods};
use serde_json::{Value, json};

use crate::manifest::{SERVE, web};
use crate::scene::{Scene, is_ready};

/// How long a rollout over a few pods may take.
const PATIENCE: Duration = Duration::from_mins(5);

fn deployment(replicas: u32) -> Value {
    let mut container = web(SERVE);
    container["readinessProbe"] = json!({ "httpGet": { "path": "/index.html", "port": 8080 }, "periodSeconds": 1 });
    let labels = json!({ "app": "web" });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "terminationGracePeriodSeconds": 1, "containers": [container] } },
        },
    })
}

fn policy(path: &str, on_failure: &str) -> Value {
    json!({
        "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": { "name": "probed" },
        "spec": {
            "selector": {},
            "containers": [{ "livenessProbe": { "httpGet": { "path": path, "port": 8080 }, "periodSeconds": 1, "failureThreshold": 3 } }],
            "rollout": { "strategy": "Evict", "minReadySeconds": 1, "progressDeadlineSeconds": 120, "onFailure": on_failure },
        },
    })
}

async fn uids(pods: &Api<Pod>) -> anyhow::Result<BTreeSet<String>> {
    Ok(pods.list(&ListParams::default()).await?.iter().filter_map(kube::ResourceExt::uid).collect())
}

/// Waits until the policy's status holds, for as long as a rollout may take.
async fn until(scene: &Scene, what: &str, holds: impl Fn(&PodPolicyStatus) -> bool) -> anyhow::Result<PodPolicyStatus> {
    eventually(what, PATIENCE, async || {
        let policy = scene.policies.get("probed").await?;
        let status = policy.status.clone().unwrap_or_default();
        let speaks = status.observed_generation == policy.metadata.generation;
        Ok(if speaks && holds(&status) { Seen::Done(status) } else { Seen::NotYet(format!("{status:?}")) })
    })
    .await
}

#[tokio::test]
async fn wrong_liveness_probe_costs_one_pod_and_a_right_one_rolls_through() -> anyhow::Result<()> {
    let scene = Scene::with_operator("rollout").await?;
    scene.apply(&deployment(6)).await?;
    let all_ready = |pods: &[Pod]| pods.len() == 6 && pods.iter().all(is_ready);
    pods::when(&scene.pods, "app=web", "6 ready", all_ready).await?;
    let before = uids(&scene.pods).await?;
    let deployments: Api<Deployment> = Api::namespaced(scene.client.clone(), scene.name());
    let history = History::of(deployments, "web").await?;

    scene.apply(&policy("/absent", "Pause")).await?;
    let status = until(&scene, "the rollout to fail", |status| verdict(status, "Stalled") == "True RolloutFailed").await?;
    let message = &condition(&status, "Ready").unwrap().message;
    assert!(message.contains("Deployment/web") && message.contains("container web"), "{message}");
    assert!(message.contains("Liveness probe failed: HTTP probe failed with statuscode: 404"), "{message}");
    assert_eq!(uids(&scene.pods).await?.intersection(&before).count(), 5, "one pod was replaced");

    // The same again, with Revert: no hand is needed.
    scene.apply(&policy("/absent/too", "Revert")).await?;
    let is_reverted = |status: &PodPolicyStatus| {
        let failure = status.rollout.as_ref().and_then(|rollout| rollout.failure.as_ref());
        failure.is_some_and(|failure| failure.exempt.is_some()) && verdict(status, "Stalled") == "True RolloutFailed"
    };
    until(&scene, "the rollout to be taken back", is_reverted).await?;
    let reverted = pods::when(&scene.pods, "app=web", "6 ready", all_ready).await?;
    let has_probe = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.containers[0].liveness_probe.is_some());
    assert!(!reverted.iter().any(has_probe), "{}", pods::describe(&reverted));
    assert_eq!(uids(&scene.pods).await?.intersection(&before).count(), 5, "no other was touched");

    scene.apply(&policy("/index.html", "Pause")).await?;
    until(&scene, "the rollout to be complete", |status| {
        status.rollout.as_ref().is_some_and(|rollout| rollout.phase == RolloutPhase::Complete) && verdict(status, "Ready") == "True InForce"
    })
    .await?;
    let rolled = pods::when(&scene.pods, "app=web", "6 ready", all_ready).await?;
    assert!(rolled.iter().all(has_probe), "{}", pods::describe(&rolled));
    assert!(rolled.iter().all(|pod| !before.contains(&pod.uid().unwrap_or_default())));
    let ready = history.map(|deployment| deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default());
    assert!(ready.iter().all(|ready| *ready >= 5), "{ready:?}");
    scene.end().await
}
