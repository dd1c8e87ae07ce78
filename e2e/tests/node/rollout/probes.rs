//! What a wrong liveness probe costs, and that a right one costs nothing.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use podpolicy_api::PodPolicyStatus;
use podpolicy_e2e::Fewest;
use podpolicy_e2e::pods::describe;
use podpolicy_e2e::policies::{condition, verdict};
use serde_json::{Value, json};

use super::{complete, deployment, policy, settled, uids, until};
use crate::manifest::{SERVE, web};
use crate::scene::Scene;

const REPLICAS: usize = 6;

/// As many as may be unavailable: of six, a Deployment's own 25 % are one as well.
const MOST_UNAVAILABLE: usize = 1;

fn probed(strategy: &str, path: &str, on_failure: &str) -> Value {
    let probe = json!({ "httpGet": { "path": path, "port": 8080 }, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 3 });
    policy(strategy, on_failure, json!({ "containers": [{ "livenessProbe": probe }] }))
}

fn has_probe(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.containers[0].liveness_probe.is_some())
}

#[tokio::test]
async fn wrong_liveness_probe_costs_one_pod_by_eviction_and_a_right_one_rolls_through() -> anyhow::Result<()> {
    wrong_probe_stops_and_a_right_one_rolls_through("Evict").await
}

#[tokio::test]
async fn wrong_liveness_probe_costs_a_restart_no_more_than_the_deployment_allows_and_a_right_one_rolls_through() -> anyhow::Result<()> {
    wrong_probe_stops_and_a_right_one_rolls_through("Restart").await
}

async fn wrong_probe_stops_and_a_right_one_rolls_through(strategy: &str) -> anyhow::Result<()> {
    let scene = Scene::with_operator(&format!("rollout-{}", strategy.to_lowercase())).await?;
    let mut container = web(SERVE);
    // A pod that is slow to answer, because the machine is, stays ready: what is counted is what rollouts do.
    container["readinessProbe"] =
        json!({ "httpGet": { "path": "/index.html", "port": 8080 }, "periodSeconds": 1, "timeoutSeconds": 30, "failureThreshold": 10 });
    let mut deployment = deployment(REPLICAS, &container);
    // Longer than the probe needs to kill: else the Deployment would take a pod that is ready for now for a good one.
    deployment["spec"]["minReadySeconds"] = 15.into();
    scene.apply(&deployment).await?;
    settled(&scene, REPLICAS, |_| true).await?;
    let before = uids(&scene.pods).await?;
    let fewest = Fewest::of(scene.pods.clone()).await?;
    let left = async || anyhow::Ok(uids(&scene.pods).await?.intersection(&before).count());

    scene.apply(&probed(strategy, "/absent", "Pause")).await?;
    let status = until(&scene, "the rollout to fail", |status| verdict(status, "Stalled") == "True RolloutFailed").await?;
    let message = &condition(&status, "Ready").context("there is one")?.message;
    assert!(message.contains("Deployment/web") && message.contains("container web"), "{message}");
    assert!(message.contains("Liveness probe failed: HTTP probe failed with statuscode: 404"), "{message}");
    assert_eq!(left().await?, REPLICAS - MOST_UNAVAILABLE, "no more were replaced");

    // The same again, with Revert: no hand is needed.
    scene.apply(&probed(strategy, "/absent/too", "Revert")).await?;
    let is_reverted = |status: &PodPolicyStatus| {
        let failure = status.rollout.as_ref().and_then(|rollout| rollout.failure.as_ref());
        failure.is_some_and(|failure| failure.exempt.is_some()) && verdict(status, "Stalled") == "True RolloutFailed"
    };
    until(&scene, "the rollout to be taken back", is_reverted).await?;
    settled(&scene, REPLICAS, |pod| !has_probe(pod)).await?;
    if strategy == "Evict" {
        assert_eq!(left().await?, REPLICAS - MOST_UNAVAILABLE, "no other was touched");
    }

    scene.apply(&probed(strategy, "/index.html", "Pause")).await?;
    complete(&scene).await?;
    let rolled = settled(&scene, REPLICAS, has_probe).await?;
    assert!(rolled.iter().all(|pod| !before.contains(&pod.uid().unwrap_or_default())), "{}", describe(&rolled));
    assert!(fewest.ready("web") >= REPLICAS - MOST_UNAVAILABLE, "there were only {} ready once", fewest.ready("web"));
    scene.end().await
}
