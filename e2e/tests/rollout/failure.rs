//! A pod that fails stops the rollout, and what the kubelet said is said.

use podpolicy_e2e::kubelet::Fate;

use crate::scene::{Scene, grace, has_probe, liveness, rollout};

#[tokio::test]
async fn wrong_liveness_probe_costs_one_pod_and_is_named() -> anyhow::Result<()> {
    let scene = Scene::with("fail-probe", &[("web", 6)]).await?;
    scene.kubelet.script(|pod| {
        let message = "Liveness probe failed: HTTP probe failed with statuscode: 404";
        if has_probe(pod) { Fate::Killed(message.to_owned()) } else { Fate::Ready }
    });
    let operator = scene.native().await?;
    scene.kubelet.watch_out();
    scene.policy("standard", &liveness("/wrong", "strategy: Evict, maxUnavailable: 50%")).await?;
    let words = ["PodPolicy", "standard", "Deployment/web", "container web", "Liveness probe failed", "statuscode: 404"];
    let status = scene.stands("standard", "False RolloutFailed", &words).await?;
    let failure = rollout(&status).failure.as_ref().unwrap();
    assert_eq!((failure.container.as_deref(), scene.evicted(), scene.kubelet.fewest("web")), (Some("web"), 1, 5));
    assert_eq!(podpolicy_e2e::policies::verdict(&status, "Stalled"), "True RolloutFailed");
    // Nor after a restart of the operator.
    operator.stop().await?;
    let _operator = scene.native().await?;
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
    let _operator = scene.native().await?;
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.stands("standard", "False RolloutFailed", &["was not ready within 5 s", "connection refused"]).await?;
    assert_eq!(scene.evicted(), 1);
    Ok(())
}
