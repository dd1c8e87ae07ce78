//! Policies that change in the middle of a rollout, and several of them on one workload.

use crate::scene::{Scene, grace};

#[tokio::test]
async fn policy_changed_half_way_goes_on_to_what_it_says_now() -> anyhow::Result<()> {
    let scene = Scene::with("evict-change", &[("web", 4)]).await?;
    let _operator = scene.operator().await?;
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.status("standard", "one pod updated", |status| status.rollout.as_ref().is_some_and(|rollout| rollout.updated >= 1)).await?;
    // The same settings: no pod twice.
    scene.policy("standard", &grace(60, "strategy: Evict, maxUnavailable: 2")).await?;
    scene.complete("standard").await?;
    assert_eq!((scene.evicted(), scene.graces().await?), (4, vec![60; 4]));
    scene.policy("standard", &grace(50, "strategy: Evict, maxUnavailable: 2")).await?;
    scene.complete("standard").await?;
    assert_eq!((scene.evicted(), scene.graces().await?), (8, vec![50; 4]));
    Ok(())
}

#[tokio::test]
async fn restart_goes_on_to_what_the_policy_says_now() -> anyhow::Result<()> {
    let scene = Scene::with("restart-change", &[("web", 3)]).await?;
    let _operator = scene.operator().await?;
    let fewest = scene.fewest().await?;
    scene.hold(60);
    scene.policy("standard", &grace(60, "strategy: Restart")).await?;
    scene.held("web", 60, 1).await?;
    // The same settings: no second restart.
    scene.policy("standard", &grace(60, "strategy: Restart, maxUnavailable: 2")).await?;
    scene.stands("standard", "False RollingOut", &["Deployment/web"]).await?;
    scene.release();
    scene.complete("standard").await?;
    assert_eq!((scene.stamped().len(), scene.kubelet.made("web"), scene.graces().await?), (1, 6, vec![60; 3]));
    // Others: those that are not ready yet go, and nobody waits for them.
    scene.hold(50);
    scene.policy("standard", &grace(50, "strategy: Restart")).await?;
    scene.held("web", 50, 1).await?;
    scene.policy("standard", &grace(40, "strategy: Restart")).await?;
    scene.complete("standard").await?;
    scene.ready("web", 3).await?;
    assert_eq!((scene.stamped().len(), scene.kubelet.made("web"), scene.graces().await?), (3, 10, vec![40; 3]));
    assert_eq!(fewest.ready("web"), 3, "a Deployment of three surges");
    Ok(())
}

#[tokio::test]
async fn policy_paused_half_way_stops_there_and_goes_on_without_doing_pods_twice() -> anyhow::Result<()> {
    let scene = Scene::with("evict-pause", &[("web", 3)]).await?;
    let _operator = scene.operator().await?;
    scene.hold(60);
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.held("web", 60, 1).await?;
    scene.policy("standard", &grace(60, "strategy: Evict, paused: true")).await?;
    scene.stands("standard", "False RolloutPaused", &["1 of 3"]).await?;
    scene.release();
    scene.ready("web", 3).await?;
    scene.pass().await?;
    assert_eq!(scene.evicted(), 1);
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.complete("standard").await?;
    assert_eq!((scene.evicted(), scene.kubelet.made("web")), (3, 6));
    Ok(())
}

#[tokio::test]
async fn two_policies_replace_each_pod_once_for_both() -> anyhow::Result<()> {
    let scene = Scene::with("evict-two", &[("web", 3)]).await?;
    scene.policy("one", &grace(60, "strategy: Evict")).await?;
    scene
        .policy(
            "two",
            "{ selector: {}, containers: [{ readinessProbe: { httpGet: { path: /, port: 80 } } }],
               rollout: { strategy: Evict, minReadySeconds: 1, progressDeadlineSeconds: 5 } }",
        )
        .await?;
    let _operator = scene.operator().await?;
    let fewest = scene.fewest().await?;
    scene.complete("one").await?;
    scene.complete("two").await?;
    assert_eq!((scene.evicted(), fewest.ready("web")), (3, 2));
    Ok(())
}

#[tokio::test]
async fn two_policies_with_any_strategies_replace_each_pod_once() -> anyhow::Result<()> {
    for (first, second, evicted, stamped) in [("Restart", "Restart", 0, 1), ("Evict", "Restart", 3, 0), ("Restart", "Evict", 0, 1)] {
        let scene = Scene::with("two-strategies", &[("web", 3)]).await?;
        let probe = "containers: [{ readinessProbe: { httpGet: { path: /, port: 80 } } }]";
        scene
            .policy("one", &format!("{{ selector: {{}}, priority: 1, {probe}, rollout: {{ strategy: {first}, minReadySeconds: 1 }} }}"))
            .await?;
        scene.policy("two", &grace(60, &format!("strategy: {second}"))).await?;
        let _operator = scene.operator().await?;
        scene.complete("one").await?;
        scene.complete("two").await?;
        let replaced = (scene.evicted(), scene.stamped().len(), scene.kubelet.made("web"));
        assert_eq!(replaced, (evicted, stamped, 6), "{first}, then {second}");
        assert_eq!(scene.graces().await?, [60; 3]);
    }
    Ok(())
}
