//! Workloads that are scaled in the middle of a rollout, by a person or by an autoscaler.

use podpolicy_e2e::{objects, pods};

use crate::scene::{Scene, grace};

/// Has the HorizontalPodAutoscaler of `web` go to so many replicas: outside of its bounds it asks for no metrics.
async fn autoscale(scene: &Scene, replicas: usize) -> anyhow::Result<()> {
    let autoscaler = format!(
        "{{ apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {{ name: web }}, spec: {{
            scaleTargetRef: {{ apiVersion: apps/v1, kind: Deployment, name: web }}, minReplicas: {replicas}, maxReplicas: {replicas} }} }}"
    );
    objects::apply(&scene.client, scene.name(), &autoscaler).await.map(drop)
}

async fn scale(scene: &Scene, replicas: usize) -> anyhow::Result<()> {
    scene.kubectl(&["scale", "deployment/web", &format!("--replicas={replicas}")]).await.map(drop)
}

#[tokio::test]
async fn autoscaler_is_followed_up_and_down() -> anyhow::Result<()> {
    let scene = Scene::with("scale-auto", &[("web", 3)]).await?;
    let _operator = scene.operator().await?;
    scene.hold(60);
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.held("web", 60, 1).await?;
    autoscale(&scene, 5).await?;
    // The new ones come with the settings.
    scene.held("web", 60, 3).await?;
    scene.release();
    scene.ready("web", 5).await?;
    scene.complete("standard").await?;
    assert_eq!((scene.evicted(), scene.kubelet.made("web"), scene.graces().await?), (3, 8, vec![60; 5]));

    scene.hold(50);
    scene.policy("standard", &grace(50, "strategy: Evict")).await?;
    scene.held("web", 50, 1).await?;
    autoscale(&scene, 2).await?;
    pods::when(&scene.pods, "app=web", "two", |pods| pods.len() == 2).await?;
    scene.release();
    scene.complete("standard").await?;
    scene.ready("web", 2).await?;
    // The one that was not ready has gone first.
    assert_eq!((scene.evicted(), scene.kubelet.made("web"), scene.graces().await?), (6, 11, vec![50; 2]));
    Ok(())
}

#[tokio::test]
async fn workload_without_replicas_is_done_with() -> anyhow::Result<()> {
    let scene = Scene::with("scale-zero", &[("web", 3)]).await?;
    let _operator = scene.operator().await?;
    scene.hold(60);
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.held("web", 60, 1).await?;
    scale(&scene, 0).await?;
    scene.complete("standard").await?;
    scene.release();
    scale(&scene, 3).await?;
    scene.ready("web", 3).await?;
    scene.complete("standard").await?;
    assert_eq!((scene.evicted(), scene.graces().await?), (1, vec![60; 3]));
    Ok(())
}

#[tokio::test]
async fn restarted_workload_that_is_scaled_is_stamped_once() -> anyhow::Result<()> {
    let scene = Scene::with("scale-restart", &[("web", 3)]).await?;
    let _operator = scene.operator().await?;
    scene.hold(60);
    scene.policy("standard", &grace(60, "strategy: Restart")).await?;
    scene.held("web", 60, 1).await?;
    scale(&scene, 5).await?;
    scene.release();
    scene.complete("standard").await?;
    scene.ready("web", 5).await?;
    assert_eq!((scene.stamped().len(), scene.graces().await?), (1, vec![60; 5]));
    Ok(())
}

#[tokio::test]
async fn workload_that_is_scaled_meanwhile_is_finished_as_it_is_then() -> anyhow::Result<()> {
    let scene = Scene::with("evict-scale", &[("web", 3)]).await?;
    let _operator = scene.operator().await?;
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.status("standard", "one pod updated", |status| status.rollout.as_ref().is_some_and(|rollout| rollout.updated >= 1)).await?;
    scale(&scene, 5).await?;
    scene.ready("web", 5).await?;
    scene.complete("standard").await?;
    scale(&scene, 2).await?;
    scene.ready("web", 2).await?;
    scene.policy("standard", &grace(50, "strategy: Evict")).await?;
    scene.complete("standard").await?;
    assert_eq!(scene.graces().await?, [50; 2]);
    Ok(())
}
