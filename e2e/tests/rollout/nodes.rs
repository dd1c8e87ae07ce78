//! Nodes that are lost in the middle of a rollout, and workloads with a pod on each.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use podpolicy_api::PodPolicyStatus;
use podpolicy_e2e::pods;
use podpolicy_e2e::policies::condition;
use podpolicy_e2e::workload::{Kind, StageNode};

use crate::scene::{Scene, grace};

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

#[tokio::test]
async fn rollout_waits_for_pods_of_a_lost_node_to_be_elsewhere() -> anyhow::Result<()> {
    node_is_lost("node-old", false).await
}

#[tokio::test]
async fn rollout_waits_for_the_first_replaced_pod_when_its_node_is_lost() -> anyhow::Result<()> {
    node_is_lost("node-first", true).await
}

async fn node_is_lost(prefix: &str, with_first: bool) -> anyhow::Result<()> {
    const REPLICAS: usize = 6;
    let scene = Scene::set(prefix).await?;
    scene.kubelet.nodes(&["one", "two", "three"]);
    let web = scene.workload(Kind::Deployment, "web", REPLICAS).await?;
    let _operator = scene.operator().await?;
    scene.hold(60);
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    let first = scene.held("web", 60, 1).await?.remove(0);

    let none_leaves = |pods: &[Pod]| pods.len() == REPLICAS && pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_none());
    let pods = pods::when(&scene.pods, &web.selector(), "none of them leaving", none_leaves).await?;
    let gone = pods.iter().find(|pod| (node(pod) == node(&first)) == with_first).and_then(node).context("no such node")?;
    scene.kubelet.lose(gone).await?;
    let lost: Vec<_> = pods.iter().filter(|pod| node(pod) == Some(gone)).map(kube::ResourceExt::name_any).collect();
    scene.release();
    let waits = |status: &PodPolicyStatus| {
        condition(status, "Ready").is_some_and(|ready| lost.iter().any(|pod| ready.message.contains(&format!("waiting for {pod} of"))))
    };
    scene.status("standard", "waiting for a pod of the lost node", waits).await?;
    scene.pass().await?;
    assert_eq!(scene.evicted(), 1, "none while others are missing");

    // The cluster gives the node up: its pods are deleted, and nobody is there to end them.
    for pod in &lost {
        scene.pods.delete(pod, &DeleteParams::default()).await?;
    }
    scene.complete("standard").await?;
    let old_ones_lost = lost.len() - usize::from(with_first);
    assert_eq!(scene.evicted(), REPLICAS - old_ones_lost, "each of the others once");
    assert_eq!(scene.kubelet.made("web"), 2 * REPLICAS + usize::from(with_first));
    for pod in &lost {
        assert!(scene.pods.get(pod).await?.metadata.deletion_timestamp.is_some(), "{pod} is still there");
        scene.pods.delete(pod, &DeleteParams::default().grace_period(0)).await?;
    }
    scene.ready("web", REPLICAS).await?;
    Ok(())
}

#[tokio::test]
async fn daemon_set_goes_one_node_at_a_time_by_either_strategy() -> anyhow::Result<()> {
    let scene = Scene::set("node-each").await?;
    let _nodes = [StageNode::create(&scene).await?, StageNode::create(&scene).await?, StageNode::create(&scene).await?];
    scene.workload(Kind::DaemonSet, "agent", 3).await?;
    let _operator = scene.operator().await?;
    let fewest = scene.fewest().await?;
    for (seconds, strategy) in [(60, "Evict"), (50, "Restart")] {
        scene.policy("standard", &grace(seconds, &format!("strategy: {strategy}"))).await?;
        scene.complete("standard").await?;
        assert_eq!(scene.graces().await?, [seconds; 3], "{strategy}");
    }
    assert_eq!((scene.evicted(), scene.stamped().len(), scene.kubelet.made("agent")), (3, 1, 9));
    assert_eq!(fewest.ready("agent"), 2);
    Ok(())
}
