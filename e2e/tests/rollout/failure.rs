//! A pod that fails stops the rollout, and what the kubelet said is said.

use podpolicy_api::PodPolicyStatus;
use podpolicy_controller::AdmissionMode;
use podpolicy_e2e::backend::lacks_native;
use podpolicy_e2e::kubelet::Fate;
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::shared;

use crate::scene::{Scene, grace, has_probe, liveness, rollout};

#[tokio::test]
async fn wrong_liveness_probe_costs_one_pod_and_is_named() -> anyhow::Result<()> {
    let scene = Scene::with("fail-probe", &[("web", 6)]).await?;
    scene.kubelet.script(|pod| {
        let message = "Liveness probe failed: HTTP probe failed with statuscode: 404";
        if has_probe(pod) { Fate::Killed(message.to_owned()) } else { Fate::Ready }
    });
    let operator = scene.operator().await?;
    let fewest = scene.fewest().await?;
    scene.policy("standard", &liveness("/wrong", "strategy: Evict, maxUnavailable: 50%")).await?;
    let words = ["PodPolicy", "standard", "Deployment/web", "container web", "Liveness probe failed", "statuscode: 404"];
    let status = scene.stands("standard", "False RolloutFailed", &words).await?;
    let failure = rollout(&status).failure.as_ref().unwrap();
    assert_eq!((failure.container.as_deref(), scene.evicted(), fewest.ready("web")), (Some("web"), 1, 5));
    assert_eq!(verdict(&status, "Stalled"), "True RolloutFailed");
    scene.told("RolloutFailed", &words).await?;
    let counted = operator.metrics.to_text();
    for line in ["podpolicy_rollout_failures_total 1\n", "podpolicy_rollout_evictions_total{result=\"ok\"} 1\n"] {
        assert!(counted.contains(line), "{line} is not in\n{counted}");
    }
    // Nor after a restart of the operator.
    operator.stop().await?;
    let _operator = scene.operator().await?;
    scene.pass().await?;
    assert_eq!(scene.evicted(), 1);
    // A person corrects the policy: the broken pod goes first.
    scene.kubelet.script(|_| Fate::Ready);
    scene.policy("standard", &liveness("/right", "strategy: Evict")).await?;
    scene.complete("standard").await?;
    assert_eq!(scene.evicted(), 7);
    Ok(())
}

#[tokio::test]
async fn pod_that_is_not_ready_in_time_stops_the_rollout() -> anyhow::Result<()> {
    let scene = Scene::with("fail-ready", &[("web", 3)]).await?;
    let old = scene.uids("web").await?;
    scene.kubelet.script(move |pod| {
        let is_old = pod.metadata.uid.as_ref().is_some_and(|uid| old.contains(uid));
        if is_old { Fate::Ready } else { Fate::NeverReady("Readiness probe failed: connection refused".to_owned()) }
    });
    let _operator = scene.operator().await?;
    scene.policy("standard", &grace(60, "strategy: Evict, progressDeadlineSeconds: 5")).await?;
    scene.stands("standard", "False RolloutFailed", &["was not ready within 5 s", "connection refused"]).await?;
    assert_eq!(scene.evicted(), 1);
    Ok(())
}

#[tokio::test]
async fn revert_brings_the_workload_back_by_the_api_server() -> anyhow::Result<()> {
    if lacks_native(shared().await).await? {
        return Ok(());
    }
    revert_brings_the_workload_back("revert-native", AdmissionMode::Native, "Evict").await
}

#[tokio::test]
async fn revert_brings_the_workload_back_by_the_webhook() -> anyhow::Result<()> {
    revert_brings_the_workload_back("revert-webhook", AdmissionMode::Webhook, "Evict").await
}

#[tokio::test]
async fn revert_brings_a_restarted_workload_back() -> anyhow::Result<()> {
    revert_brings_the_workload_back("revert-restart", AdmissionMode::Auto, "Restart").await
}

async fn revert_brings_the_workload_back(prefix: &str, admission: AdmissionMode, strategy: &str) -> anyhow::Result<()> {
    let scene = Scene::with(prefix, &[("web", 6)]).await?;
    scene.kubelet.script(|pod| if has_probe(pod) { Fate::Killed("Liveness probe failed: 404".to_owned()) } else { Fate::Ready });
    let operator = scene.operator_with(scene.config(admission)?).await?;
    let fewest = scene.fewest().await?;
    scene.policy("standard", &liveness("/wrong", &format!("strategy: {strategy}, onFailure: Revert"))).await?;
    scene.stands("standard", "False RolloutFailed", &["Liveness probe failed: 404", "is exempt from the policy"]).await?;
    let is_stalled = |status: &PodPolicyStatus| verdict(status, "Stalled") == "True RolloutFailed";
    scene.status("standard", "nothing left to revert", is_stalled).await?;
    let pods = scene.ready("web", 6).await?;
    assert!(!pods.iter().any(has_probe), "{}", podpolicy_e2e::pods::describe(&pods));
    // A Deployment that rolls by itself takes a pod that was ready once for a good one.
    if strategy == "Evict" {
        assert_eq!((scene.evicted(), fewest.ready("web")), (2, 5));
    }
    // The exemption outlives the operator.
    operator.stop().await?;
    let _operator = scene.operator_with(scene.config(admission)?).await?;
    scene.pass().await?;
    assert!(!scene.ready("web", 6).await?.iter().any(has_probe));
    // Another template is tried again.
    scene.kubelet.script(|_| Fate::Ready);
    scene.kubectl(&["set", "env", "deployment/web", "PATH_IS=right"]).await?;
    scene.complete("standard").await?;
    let pods = scene.ready("web", 6).await?;
    assert!(pods.iter().all(has_probe), "{}", podpolicy_e2e::pods::describe(&pods));
    Ok(())
}
