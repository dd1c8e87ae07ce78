//! The workload's own rolling update replaces the pods.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt as _};
use podpolicy_api::PodPolicyStatus;
use podpolicy_e2e::objects;
use podpolicy_e2e::pods::describe;
use podpolicy_e2e::workload::{Kind, StageNode, Workload};
use serde_json::json;

use crate::scene::{Scene, grace, grace_of, rollout};

#[tokio::test]
async fn workloads_are_restarted_once_one_after_the_other() -> anyhow::Result<()> {
    let scene = Scene::set("restart").await?;
    let _node = StageNode::create(&scene).await?;
    // Those that go first have been ready for longest: one that is not yet available lets others pass.
    scene.workload(Kind::DaemonSet, "agent", 1).await?;
    scene.workload(Kind::Deployment, "one", 1).await?;
    scene.workload(Kind::StatefulSet, "db", 2).await?;
    scene.workload(Kind::Deployment, "web", 3).await?;
    let _operator = scene.operator().await?;
    let fewest = scene.fewest().await?;
    scene.policy("standard", &grace(60, "strategy: Restart")).await?;
    scene.complete("standard").await?;
    assert_eq!(scene.graces().await?, [60; 7]);
    assert_eq!(fewest.ready("one"), 1, "one replica surges");
    assert_eq!(scene.evictions().len(), 0);
    // The smallest first, then by name.
    assert_eq!(scene.stamped(), ["agent", "one", "db", "web"]);
    let api: Api<Deployment> = Api::namespaced(scene.client.clone(), scene.name());
    let template = api.get("web").await?.spec.template.metadata.unwrap().annotations.unwrap();
    assert!(template["podpolicy.dev/restarted-for"].starts_with("PodPolicy/standard:1:"), "{template:?}");
    scene.pass().await?;
    assert_eq!(scene.stamped().len(), 4, "nothing is left to do");
    Ok(())
}

#[tokio::test]
async fn deployment_is_not_restarted_before_it_is_available_by_its_own_rule() -> anyhow::Result<()> {
    let scene = Scene::set("restart-young").await?;
    let _operator = scene.operator().await?;
    let workload = Workload { pods: 2, ..Workload::new(Kind::Deployment, "web") };
    let mut manifest = workload.manifest(scene.name());
    manifest["spec"]["minReadySeconds"] = 10.into();
    manifest["spec"]["strategy"] = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } });
    objects::apply(&scene.client, scene.name(), &manifest.to_string()).await?;
    scene.ready("web", 2).await?;
    let fewest = scene.fewest().await?;
    scene.policy("standard", &grace(60, "strategy: Restart")).await?;
    let waits = |status: &PodPolicyStatus| {
        let message = status.rollout.as_ref().and_then(|rollout| rollout.message.as_deref()).unwrap_or_default();
        message.contains("all 2 pods of Deployment/web are available") && message.contains("minReadySeconds")
    };
    scene.status("standard", "the Deployment to be waited for", waits).await?;
    assert_eq!(scene.stamped(), [""; 0]);
    scene.complete("standard").await?;
    assert_eq!((scene.stamped(), fewest.ready("web")), (vec!["web".to_owned()], 1));
    Ok(())
}

#[tokio::test]
async fn partition_of_a_stateful_set_keeps_its_pods() -> anyhow::Result<()> {
    let scene = Scene::set("restart-partition").await?;
    let workload = Workload { pods: 3, ..Workload::new(Kind::StatefulSet, "db") };
    let mut manifest = workload.manifest(scene.name());
    manifest["spec"]["podManagementPolicy"] = "OrderedReady".into();
    manifest["spec"]["updateStrategy"] = json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 1 } });
    objects::apply(&scene.client, scene.name(), &manifest.to_string()).await?;
    let kept = scene.ready("db", 3).await?.remove(0);
    let _operator = scene.operator().await?;
    let fewest = scene.fewest().await?;
    scene.policy("standard", &grace(60, "strategy: Restart")).await?;
    let status = scene.complete("standard").await?;
    assert_eq!((rollout(&status).updated, rollout(&status).total, scene.kubelet.made("db")), (2, 3, 5));
    let pods = scene.ready("db", 3).await?;
    assert_eq!(pods.iter().map(grace_of).collect::<Vec<_>>(), [Some(30), Some(60), Some(60)], "{}", describe(&pods));
    assert_eq!((kept.name_any().as_str(), pods[0].uid()), ("db-0", kept.uid()));
    assert_eq!((scene.stamped().len(), fewest.ready("db")), (1, 2));

    // Who lowers the partition has the controller replace the rest, without another stamp.
    manifest["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = 0.into();
    objects::apply(&scene.client, scene.name(), &manifest.to_string()).await?;
    let all = |status: &PodPolicyStatus| status.rollout.as_ref().is_some_and(|rollout| rollout.updated == 3);
    scene.status("standard", "three pods updated", all).await?;
    scene.complete("standard").await?;
    assert_eq!((scene.stamped().len(), scene.kubelet.made("db"), fewest.ready("db")), (1, 6, 2));
    Ok(())
}

#[tokio::test]
async fn workload_without_a_rolling_update_is_reported() -> anyhow::Result<()> {
    let scene = Scene::set("restart-bare").await?;
    scene.workload(Kind::ReplicaSet, "web", 2).await?;
    let _operator = scene.operator().await?;
    scene.policy("standard", &grace(60, "strategy: Restart")).await?;
    scene.stands("standard", "False RolloutBlocked", &["ReplicaSet/web has no rolling update", "use strategy Evict"]).await?;
    Ok(())
}
