//! Pods of all workloads, of people, and of nobody.

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use podpolicy_e2e::backend::lacks_native;
use podpolicy_e2e::objects;
use podpolicy_e2e::policies::in_force;
use podpolicy_e2e::workload::{Kind, StageNode, Workload};
use podpolicy_e2e::{Stage, shared};

use crate::backends::{Backend, operator};
use crate::first_sight::{FirstSight, assert_right};

// The operator serves in this process, also while kubectl is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_right_at_first_sight_by_the_api_server() -> anyhow::Result<()> {
    if lacks_native(shared().await).await? {
        return Ok(());
    }
    pods_are_right_at_first_sight(Backend::Native).await
}

// The operator serves in this process, also while kubectl is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_right_at_first_sight_by_the_webhook() -> anyhow::Result<()> {
    pods_are_right_at_first_sight(Backend::Webhook).await
}

async fn pods_are_right_at_first_sight(backend: Backend) -> anyhow::Result<()> {
    let stage = Stage::set("birth").await?;
    let _node = StageNode::create(&stage).await?;
    let _operator = operator(&stage, backend).await?;
    let first_sight = FirstSight::of(stage.pods.clone()).await?;
    let mut expected = 0;

    for (name, kind, count) in [
        ("deployment", Kind::Deployment, 2),
        ("stateful", Kind::StatefulSet, 2),
        ("daemon", Kind::DaemonSet, 1),
        ("job", Kind::Job, 2),
        ("replica", Kind::ReplicaSet, 2),
    ] {
        Workload { pods: count, ..Workload::new(kind, name) }.apply(&stage).await?;
        first_sight.pods(name, count).await?.iter().for_each(assert_right);
        expected += count;
    }

    let mut generated = objects::pod("unused", &[("app", "generated")]);
    generated.metadata.name = None;
    generated.metadata.generate_name = Some("generated-".to_owned());
    stage.pods.create(&PostParams::default(), &generated).await?;
    stage.create_pod("bare", &[("app", "bare")]).await?;
    let plane = shared().await;
    let namespace = ["--namespace", stage.name()];
    plane.kubectl_output(&[&namespace[..], &["run", "person", "--image=registry.example.com/image", "--labels=app=person"]].concat())?;
    let cron = ["create", "cronjob", "cron", "--image=registry.example.com/image", "--schedule=0 0 1 1 *"];
    plane.kubectl_output(&[&namespace[..], &cron[..]].concat())?;
    let label = r#"{"spec":{"jobTemplate":{"spec":{"template":{"metadata":{"labels":{"app":"cron"}}}}}}}"#;
    plane.kubectl_output(&[&namespace[..], &["patch", "cronjob", "cron", "--patch", label]].concat())?;
    plane.kubectl_output(&[&namespace[..], &["create", "job", "now", "--from=cronjob/cron"]].concat())?;
    for name in ["generated", "bare", "person", "cron"] {
        first_sight.pods(name, 1).await?.iter().for_each(assert_right);
        expected += 1;
    }

    // The controller counts them as its own work, and has nothing left to write.
    in_force(&stage.policies, "standard", u32::try_from(expected)?).await?;
    assert_eq!(stage.tap.exchanges().iter().filter(|sent| sent.writes("pods")).count(), 0);
    Ok(())
}

#[tokio::test]
async fn templates_stay_as_they_are_by_the_api_server() -> anyhow::Result<()> {
    if lacks_native(shared().await).await? {
        return Ok(());
    }
    templates_stay_as_they_are(Backend::Native).await
}

#[tokio::test]
async fn templates_stay_as_they_are_by_the_webhook() -> anyhow::Result<()> {
    templates_stay_as_they_are(Backend::Webhook).await
}

/// The same workload, once without policies and once with them; and applied again, as GitOps tools do.
async fn templates_stay_as_they_are(backend: Backend) -> anyhow::Result<()> {
    let plain = Stage::set("plain").await?;
    let web = Workload::new(Kind::Deployment, "web");
    web.apply_and_wait(&plain).await?;
    let stage = Stage::set("birth").await?;
    let _operator = operator(&stage, backend).await?;
    web.apply_and_wait(&stage).await?;
    let hashes = |stage: &Stage| stage.client.clone();
    let with = replica_sets(hashes(&stage), stage.name()).await?;
    assert_eq!(with, replica_sets(hashes(&plain), plain.name()).await?, "the hash of the template");

    let before = web.standing(&stage).await?;
    let version = web.get(&stage).await?.metadata.resource_version;
    web.apply(&stage).await?;
    assert_eq!(web.get(&stage).await?.metadata.resource_version, version, "applying again changes nothing");
    web.standing(&stage).await?.assert_same(&before);
    Ok(())
}

/// The names of the ReplicaSets, which end with the hash of their template.
async fn replica_sets(client: kube::Client, namespace: &str) -> anyhow::Result<Vec<String>> {
    let sets: kube::Api<k8s_openapi::api::apps::v1::ReplicaSet> = kube::Api::namespaced(client, namespace);
    Ok(sets.list(&kube::api::ListParams::default()).await?.iter().map(kube::ResourceExt::name_any).collect())
}

#[tokio::test]
async fn settings_given_at_creation_are_undone_as_any_others() -> anyhow::Result<()> {
    for backend in Backend::all().await? {
        let stage = Stage::set("birth").await?;
        let _operator = operator(&stage, backend).await?;
        let pod = stage.create_pod("web", &[("app", "web")]).await?;
        assert_right(&pod);
        stage.delete_policy("standard").await?;
        let gone = |pod: Option<&Pod>| {
            pod.and_then(|pod| pod.metadata.labels.as_ref())
                .is_some_and(|labels| !labels.contains_key("team") && labels.contains_key("app"))
        };
        let pod = podpolicy_e2e::wait::object(&stage.pods, "web", "the label to go", podpolicy_e2e::wait::DEADLINE, gone).await?.unwrap();
        // What cannot be taken back on a live pod stays, and the record says where it is from.
        assert_eq!(pod.spec.unwrap().termination_grace_period_seconds, Some(60));
        let record = &pod.metadata.annotations.unwrap()["podpolicy.dev/applied"];
        assert!(record.contains(r#""terminationGracePeriodSeconds":{"by":"PodPolicy/standard"}"#), "{record}");
    }
    Ok(())
}
