//! The workload's own rolling update replaces the pods.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use podpolicy_e2e::workload::{Kind, StageNode};

use crate::scene::{Scene, grace};

#[tokio::test]
async fn workloads_are_restarted_once_one_after_the_other() -> anyhow::Result<()> {
    let scene = Scene::with("restart", &[("web", 3), ("one", 1)]).await?;
    let _node = StageNode::create(&scene).await?;
    scene.workload(Kind::StatefulSet, "db", 2).await?;
    scene.workload(Kind::DaemonSet, "agent", 1).await?;
    let _operator = scene.native().await?;
    scene.kubelet.watch_out();
    scene.policy("standard", &grace(60, "strategy: Restart")).await?;
    scene.complete("standard").await?;
    assert_eq!(scene.graces().await?, [60; 7]);
    assert_eq!(scene.kubelet.fewest("one"), 1, "one replica surges");
    assert_eq!(scene.evictions().len(), 0);
    let patches: Vec<_> = scene.tap.exchanges().into_iter().filter(|sent| sent.writes("deployments")).map(|sent| sent.name).collect();
    assert_eq!(patches, ["one", "web"]);
    let api: Api<Deployment> = Api::namespaced(scene.client.clone(), scene.name());
    let template = api.get("web").await?.spec.unwrap().template.metadata.unwrap().annotations.unwrap();
    assert!(template["podpolicy.dev/restarted-for"].starts_with("PodPolicy/standard:1:"), "{template:?}");
    scene.pass().await?;
    let stamps = scene.tap.exchanges().iter().filter(|sent| sent.writes("deployments")).count();
    assert_eq!(stamps, 2, "nothing is left to do");
    Ok(())
}

#[tokio::test]
async fn workload_without_a_rolling_update_is_reported() -> anyhow::Result<()> {
    let scene = Scene::set("restart-bare").await?;
    scene.workload(Kind::ReplicaSet, "web", 2).await?;
    let _operator = scene.native().await?;
    scene.policy("standard", &grace(60, "strategy: Restart")).await?;
    scene.stands("standard", "False RolloutBlocked", &["ReplicaSet/web has no rolling update", "use strategy Evict"]).await?;
    Ok(())
}
