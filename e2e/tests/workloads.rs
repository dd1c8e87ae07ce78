//! Pods of workloads get labels and annotations, and nothing else happens: no template changes, nothing rolls, no pod leaves its
//! owner. On a control plane with the controllers that would make it happen.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use podpolicy_e2e::objects::{self, IMAGE};
use podpolicy_e2e::policies::in_force;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::workload::{Kind, StageNode, Workload};
use podpolicy_e2e::{Stage, pods, shared};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A policy for all pods, by the name `standard`.
const STANDARD: &str = "{ selector: {}, labels: { team: shop }, annotations: { example.com/oncall: shop@example.com } }";

#[tokio::test]
async fn pods_of_a_deployment_are_labelled_in_place_and_restored() -> anyhow::Result<()> {
    pods_are_labelled_in_place_and_restored(Kind::Deployment).await
}

#[tokio::test]
async fn pods_of_a_replica_set_are_labelled_in_place_and_restored() -> anyhow::Result<()> {
    pods_are_labelled_in_place_and_restored(Kind::ReplicaSet).await
}

#[tokio::test]
async fn pods_of_a_stateful_set_are_labelled_in_place_and_restored() -> anyhow::Result<()> {
    pods_are_labelled_in_place_and_restored(Kind::StatefulSet).await
}

#[tokio::test]
async fn pods_of_a_daemon_set_are_labelled_in_place_and_restored() -> anyhow::Result<()> {
    pods_are_labelled_in_place_and_restored(Kind::DaemonSet).await
}

#[tokio::test]
async fn pods_of_a_job_are_labelled_in_place_and_restored() -> anyhow::Result<()> {
    pods_are_labelled_in_place_and_restored(Kind::Job).await
}

#[tokio::test]
async fn pods_of_a_replication_controller_are_labelled_in_place_and_restored() -> anyhow::Result<()> {
    pods_are_labelled_in_place_and_restored(Kind::ReplicationController).await
}

async fn pods_are_labelled_in_place_and_restored(kind: Kind) -> anyhow::Result<()> {
    let stage = Stage::set("workloads").await?;
    let mut nodes = vec![StageNode::create(&stage).await?, StageNode::create(&stage).await?];
    let mut web = Workload::new(kind, "web");
    web.apply_and_wait(&stage).await?;
    let original = web.standing(&stage).await?;
    let unlabelled = metadata(&stage, &web.selector()).await?;
    let _operator = stage.operator().await?;

    stage.policy("standard", STANDARD).await?;
    in_force(&stage.policies, "standard", 2).await?;
    assert_labelled(&pods::when(&stage.pods, &web.selector(), "two", |pods| pods.len() == 2).await?);
    // The controller has seen the labels once it has dealt with what came later.
    let mut marker = Workload::new(kind, "marker");
    marker.apply_and_wait(&stage).await?;
    marker.make_ready(&stage).await?;
    web.standing(&stage).await?.assert_same(&original);

    web.pods += 1;
    if kind == Kind::DaemonSet {
        marker.pods += 1;
        nodes.push(StageNode::create(&stage).await?);
        marker.apply_and_wait(&stage).await?;
    }
    web.apply_and_wait(&stage).await?;
    in_force(&stage.policies, "standard", u32::try_from(web.pods + marker.pods)?).await?;
    assert_labelled(&pods::when(&stage.pods, &web.selector(), "three", |pods| pods.len() == 3).await?);
    let scaled = web.standing(&stage).await?;
    for (name, uid) in original.pods() {
        assert_eq!(scaled.pods().get(name), Some(&uid), "{name} was replaced");
    }

    stage.delete_policy("standard").await?;
    pods::when(&stage.pods, "team", "gone from all", <[Pod]>::is_empty).await?;
    let restored = metadata(&stage, &web.selector()).await?;
    for (name, metadata) in &unlabelled {
        assert_eq!(restored.get(name), Some(metadata), "{name} is not as it was");
    }
    let mut last = Workload::new(kind, "last");
    last.pods = nodes.len();
    last.apply_and_wait(&stage).await?;
    last.make_ready(&stage).await?;
    web.standing(&stage).await?.assert_same(&scaled);

    for node in nodes {
        node.delete().await?;
    }
    Ok(())
}

#[tokio::test]
async fn pod_that_nobody_owns_is_labelled_in_place_and_restored() -> anyhow::Result<()> {
    let stage = Stage::set("bare").await?;
    let created = stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;

    stage.policy("standard", STANDARD).await?;
    in_force(&stage.policies, "standard", 1).await?;
    let labelled = stage.pods.get("web").await?;
    assert_labelled(std::slice::from_ref(&labelled));
    assert_eq!((labelled.uid(), &labelled.spec, labelled.metadata.generation), (created.uid(), &created.spec, created.metadata.generation));

    stage.delete_policy("standard").await?;
    pods::when(&stage.pods, "team", "gone", <[Pod]>::is_empty).await?;
    let restored = stage.pods.get("web").await?;
    assert_eq!((restored.labels(), restored.annotations(), restored.uid()), (created.labels(), created.annotations(), created.uid()));
    Ok(())
}

#[tokio::test]
async fn rolling_update_by_a_person_ends_and_the_new_pods_are_labelled() -> anyhow::Result<()> {
    let plane = shared().await;
    let stage = Stage::set("rolling").await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    let mut web = Workload::new(Kind::Deployment, "web");
    web.pods = 3;
    web.apply_and_wait(&stage).await?;
    web.make_ready(&stage).await?;
    in_force(&stage.policies, "standard", 3).await?;

    let image = format!("deployment/web web={IMAGE}:2");
    let arguments = [vec!["-n", stage.name(), "set", "image"], image.split(' ').collect()].concat();
    plane.kubectl_output(&arguments)?;
    rolled_out(&stage, "web", 3).await?;
    in_force(&stage.policies, "standard", 3).await?;

    let pods = pods::when(&stage.pods, "app=web", "three", |pods| pods.len() == 3).await?;
    assert_labelled(&pods);
    for pod in &pods {
        assert_eq!(pod.spec.as_ref().context("a pod has a spec")?.containers[0].image, Some(format!("{IMAGE}:2")));
    }
    let deployment = web.get(&stage).await?;
    assert_eq!(deployment.annotations()["deployment.kubernetes.io/revision"], "2", "one update, one revision");
    assert_eq!(deployment.data["spec"]["template"]["metadata"], web.manifest("")["spec"]["template"]["metadata"]);
    let replica_sets = Api::<ReplicaSet>::namespaced(stage.client.clone(), stage.name()).list(&ListParams::default()).await?;
    for replica_set in &replica_sets {
        let template = replica_set.spec.template.as_ref().and_then(|template| template.metadata.as_ref()).context("a template")?;
        assert!(!template.labels.as_ref().is_some_and(|labels| labels.contains_key("team")), "{replica_set:?}");
        assert_eq!(template.annotations, None, "{replica_set:?}");
    }
    assert_eq!(replica_sets.items.len(), 2);
    Ok(())
}

/// Makes pods ready as they come, until the Deployment's present template is rolled out.
async fn rolled_out(stage: &Stage, name: &str, replicas: i32) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(stage.client.clone(), stage.name());
    eventually(&format!("the rollout of {name}"), DEADLINE, async || {
        let deployment = deployments.get(name).await?;
        let status = deployment.status.clone().unwrap_or_default();
        let counts = [status.replicas, status.updated_replicas, status.available_replicas];
        if status.observed_generation == deployment.metadata.generation && counts == [Some(replicas); 3] {
            return Ok(Seen::Done(()));
        }
        let pods = stage.pods.list(&ListParams::default()).await?.items;
        for pod in pods.iter().filter(|pod| !is_ready(pod)) {
            // It may be gone by now.
            let _ = objects::set_ready(&stage.pods, &pod.name_any()).await;
        }
        Ok(Seen::NotYet(format!("{status:?}{}", pods::describe(&pods))))
    })
    .await
}

fn is_ready(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))
}

#[tokio::test]
async fn deployment_that_is_made_again_gets_labelled_pods_again() -> anyhow::Result<()> {
    let stage = Stage::set("again").await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    let web = Workload::new(Kind::Deployment, "web");
    web.apply_and_wait(&stage).await?;
    in_force(&stage.policies, "standard", 2).await?;
    let first = web.standing(&stage).await?;

    let deployments: Api<Deployment> = Api::namespaced(stage.client.clone(), stage.name());
    deployments.delete("web", &DeleteParams::foreground()).await?;
    // Nobody runs the pods, so nobody ends them either.
    for name in first.pods().keys() {
        stage.pods.delete(name, &DeleteParams::default().grace_period(0)).await.ok();
    }
    eventually("the Deployment to go", DEADLINE, async || {
        let deployment = deployments.get_opt("web").await?;
        Ok(Seen::when(deployment.is_none(), deployment))
    })
    .await?;
    in_force(&stage.policies, "standard", 0).await?;

    web.apply_and_wait(&stage).await?;
    in_force(&stage.policies, "standard", 2).await?;
    let pods = pods::when(&stage.pods, "app=web", "two", |pods| pods.len() == 2).await?;
    assert_labelled(&pods);
    assert!(pods.iter().all(|pod| !first.pods().contains_key(pod.name_any().as_str())), "these should be new: {}", pods::describe(&pods));
    Ok(())
}

#[tokio::test]
async fn pod_that_comes_back_under_its_old_name_is_labelled_again() -> anyhow::Result<()> {
    let stage = Stage::set("back").await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    let web = Workload::new(Kind::StatefulSet, "web");
    web.apply_and_wait(&stage).await?;
    in_force(&stage.policies, "standard", 2).await?;
    let first = stage.pods.get("web-0").await?.uid();

    stage.pods.delete("web-0", &DeleteParams::default().grace_period(0)).await?;
    let pods =
        pods::when(&stage.pods, "app=web,team=shop", "a new web-0", |pods| pods.len() == 2 && pods.iter().all(|pod| pod.uid() != first))
            .await?;
    assert_labelled(&pods);
    in_force(&stage.policies, "standard", 2).await?;
    Ok(())
}

#[tokio::test]
async fn update_of_a_stateful_set_gives_labelled_pods_of_the_new_revision() -> anyhow::Result<()> {
    let stage = Stage::set("revision").await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    let web = Workload::new(Kind::StatefulSet, "web");
    web.apply_and_wait(&stage).await?;
    web.make_ready(&stage).await?;
    in_force(&stage.policies, "standard", 2).await?;

    let sets: Api<StatefulSet> = Api::namespaced(stage.client.clone(), stage.name());
    let image = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": format!("{IMAGE}:2") }] } } } });
    sets.patch("web", &PatchParams::default(), &Patch::Strategic(image)).await?;
    eventually("the update of the StatefulSet", DEADLINE, async || {
        let set = sets.get("web").await?;
        let status = set.status.clone().unwrap_or_default();
        if status.observed_generation == set.metadata.generation && status.updated_replicas == Some(2) && status.ready_replicas == Some(2) {
            return Ok(Seen::Done(()));
        }
        let pods = stage.pods.list(&ListParams::default()).await?.items;
        for pod in &pods {
            if pod.metadata.deletion_timestamp.is_some() {
                stage.pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await.ok();
            } else if !is_ready(pod) {
                objects::set_ready(&stage.pods, &pod.name_any()).await.ok();
            }
        }
        Ok(Seen::NotYet(format!("{status:?}{}", pods::describe(&pods))))
    })
    .await?;
    in_force(&stage.policies, "standard", 2).await?;
    let pods = pods::when(&stage.pods, "app=web", "two", |pods| pods.len() == 2).await?;
    assert_labelled(&pods);
    assert!(pods.iter().all(|pod| pod.spec.as_ref().is_some_and(|spec| spec.containers[0].image == Some(format!("{IMAGE}:2")))));
    Ok(())
}

#[tokio::test]
async fn applying_the_same_manifests_again_finds_no_drift_and_changes_nothing() -> anyhow::Result<()> {
    let plane = shared().await;
    let stage = Stage::set("gitops").await?;
    let (by_client, by_server) = (Workload::new(Kind::Deployment, "web"), Workload::new(Kind::Deployment, "api"));
    let directory = TempDir::new()?;
    let bare = |name: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "labels": { "app": name }, "annotations": { "example.com/note": "by hand" } },
            "spec": { "containers": [{ "name": "web", "image": IMAGE }] },
        })
    };
    let manifests = json!({ "apiVersion": "v1", "kind": "List", "items": [by_client.manifest(stage.name()), bare("bare")] });
    let file = directory.path().join("manifests.json");
    fs::write(&file, manifests.to_string())?;
    let on_file = |command: &str| {
        let file = file.to_str().context("a temporary path is UTF-8")?;
        plane.kubectl_output(&["-n", stage.name(), command, "-f", file])
    };
    on_file("apply")?;
    by_client.wait_for_pods(&stage).await?;
    let apply_by_server = async || {
        objects::apply(&stage.client, stage.name(), &bare("other").to_string()).await?;
        by_server.apply_and_wait(&stage).await
    };
    apply_by_server().await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    in_force(&stage.policies, "standard", 6).await?;
    let labelled = metadata(&stage, "app").await?;
    let standing = [by_client.standing(&stage).await?, by_server.standing(&stage).await?];

    assert_eq!(on_file("diff")?, "", "the policy is no drift");
    assert_eq!(on_file("apply")?, "deployment.apps/web unchanged\npod/bare unchanged\n");
    apply_by_server().await?;
    stage.pass().await?;
    assert_eq!(metadata(&stage, "app").await?, labelled);
    for (workload, earlier) in [&by_client, &by_server].into_iter().zip(&standing) {
        workload.standing(&stage).await?.assert_same(earlier);
    }
    Ok(())
}

/// Labels and annotations of the pods, by name.
async fn metadata(stage: &Stage, selector: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    let pods = stage.pods.list(&ListParams::default().labels(selector)).await?;
    Ok(pods.iter().map(|pod| (pod.name_any(), json!({ "labels": pod.labels(), "annotations": pod.annotations() }))).collect())
}

#[track_caller]
fn assert_labelled(pods: &[Pod]) {
    for pod in pods {
        let found = (pod.labels().get("team").map(String::as_str), pod.annotations().get("example.com/oncall").map(String::as_str));
        assert_eq!(found, (Some("shop"), Some("shop@example.com")), "{}", pods::describe(pods));
        assert!(pod.annotations().contains_key("podpolicy.dev/applied"), "{}", pods::describe(pods));
    }
}
