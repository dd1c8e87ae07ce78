//! What is left alone: pods outside a policy's reach, create-time settings, and everything an Audit policy selects.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use podpolicy_api::PodCounts;
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::stage::record;
use podpolicy_e2e::{Stage, objects};
use serde_json::{Value, json};

const WEB: [(&str, &str); 1] = [("app", "web")];

#[tokio::test]
async fn audit_writes_nothing_and_reports_what_it_would_change() -> anyhow::Result<()> {
    let stage = Stage::set("audit").await?;
    stage.create_pod("lacks-both", &WEB).await?;
    stage.create_pod("lacks-one", &[("app", "web"), ("team", "shop")]).await?;
    stage.create_pod("complies", &[("app", "web"), ("team", "shop"), ("tier", "front")]).await?;
    let before = stage.versions().await?;
    let _operator = stage.operator().await?;
    let spec = "{ selector: { matchLabels: { app: web } }, enforcement: Audit, labels: { team: shop, tier: front } }";
    stage.policy("standard", spec).await?;

    let status = stage.status("standard", "three pods", |status| status.pods.is_some_and(|pods| pods.matched == 3)).await?;
    let pods = status.pods.unwrap();
    assert_eq!((pods.compliant, pods.pending, pods.outdated, pods.refused), (1, 2, 0, 0));
    assert_eq!(verdict(&status, "Ready"), "True Auditing");
    assert_eq!(verdict(&status, "Compliant"), "False WouldChange");
    assert_eq!(verdict(&status, "Reconciling"), "", "nothing is under way");
    let findings: Vec<_> =
        status.findings.iter().map(|finding| (finding.reason.to_string(), finding.field.as_str(), finding.pods)).collect();
    assert_eq!(findings, [("WouldChange".into(), "labels[tier]", 2), ("WouldChange".into(), "labels[team]", 1)]);
    assert_eq!(status.findings[1].example, "lacks-both");

    stage.pass().await?;
    let mut after = stage.versions().await?;
    after.remove("policy/standard");
    assert_eq!(after, before);
    assert_eq!(stage.tap.exchanges().iter().filter(|exchange| exchange.writes("pods") && !exchange.name.starts_with("marker")).count(), 0);
    Ok(())
}

#[tokio::test]
async fn pods_that_have_ended_get_nothing() -> anyhow::Result<()> {
    let stage = Stage::set("ended").await?;
    for phase in ["Succeeded", "Failed"] {
        let name = phase.to_lowercase();
        stage.create_pod(&name, &WEB).await?;
        objects::set_phase(&stage.pods, &name, phase).await?;
    }
    nothing_is_written_to(&stage, &["succeeded", "failed"]).await
}

#[tokio::test]
async fn pods_that_are_being_deleted_get_nothing() -> anyhow::Result<()> {
    let stage = Stage::set("deleting").await?;
    let mut held = objects::pod("held", &WEB);
    held.metadata.finalizers = Some(vec!["example.com/held".to_owned()]);
    stage.create(&held).await?;
    stage.pods.delete("held", &DeleteParams::default()).await?;
    stage.pod("held", "a deletion timestamp", |pod| pod.metadata.deletion_timestamp.is_some()).await?;
    nothing_is_written_to(&stage, &["held"]).await
}

#[tokio::test]
async fn mirror_pods_get_nothing() -> anyhow::Result<()> {
    let stage = Stage::set("mirror").await?;
    let mut mirror = objects::pod("mirror", &WEB);
    mirror.metadata.annotations = Some([("kubernetes.io/config.mirror".to_owned(), "0123".to_owned())].into());
    // The API server takes mirror pods only with a node, and without tokens of a service account.
    mirror.spec.as_mut().unwrap().node_name = Some("nowhere".to_owned());
    stage.create(&mirror).await?;
    nothing_is_written_to(&stage, &["mirror"]).await
}

/// Checks it for pods that are there before the operator, beside one that is written, and under either precedence.
async fn nothing_is_written_to(stage: &Stage, names: &[&str]) -> anyhow::Result<()> {
    let before = stage.versions().await?;
    let _operator = stage.operator().await?;
    for precedence in ["Workload", "Policy"] {
        let spec = format!("{{ selector: {{ matchLabels: {{ app: web }} }}, precedence: {precedence}, labels: {{ team: {precedence} }} }}");
        stage.policy("standard", &spec).await?;
        let live = format!("live-{}", precedence.to_lowercase());
        stage.create_pod(&live, &WEB).await?;
        stage.label(&live, "team", Some(precedence)).await?;
    }
    let status = stage.settled("standard", 2).await?;
    assert_eq!(status.pods, Some(PodCounts { matched: 2, compliant: 2, ..PodCounts::default() }), "the two that live");
    stage.pass().await?;
    let after = stage.versions().await?;
    for name in names {
        let name = format!("pod/{name}");
        assert_eq!(after[&name], before[&name], "{name} was written");
    }
    Ok(())
}

#[tokio::test]
async fn pod_that_ends_keeps_its_labels_and_is_no_longer_counted() -> anyhow::Result<()> {
    let stage = Stage::set("ends").await?;
    stage.create_pod("job", &WEB).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", "{ selector: { matchLabels: { app: web } }, labels: { team: shop } }").await?;
    stage.label("job", "team", Some("shop")).await?;
    stage.settled("standard", 1).await?;

    objects::set_phase(&stage.pods, "job", "Succeeded").await?;
    stage.settled("standard", 0).await?;
    stage.pass().await?;
    assert_eq!(stage.pods.get("job").await?.labels()["team"], "shop");

    // What a policy that is gone wrote is taken back there, too.
    stage.delete_policy("standard").await?;
    stage.label("job", "team", None).await?;
    Ok(())
}

#[tokio::test]
async fn create_time_settings_are_never_written_to_live_pods() -> anyhow::Result<()> {
    let stage = Stage::set("create-time").await?;
    let web = stage.create_pod("web", &WEB).await?;
    let _operator = stage.operator().await?;
    let spec = "
        selector: { matchLabels: { app: web } }
        precedence: Policy
        terminationGracePeriodSeconds: 60
        containers:
          - livenessProbe: { httpGet: { path: /healthz, port: http } }
            lifecycle: { preStop: { sleep: { seconds: 5 } } }
    ";
    stage.policy("standard", spec).await?;
    let status = stage.settled("standard", 1).await?;
    let pods = status.pods.unwrap();
    assert_eq!((pods.outdated, pods.compliant), (1, 0));
    assert_eq!(verdict(&status, "Ready"), "True InForce");
    assert_eq!(verdict(&status, "Compliant"), "False Outdated");
    assert_eq!((verdict(&status, "Reconciling"), verdict(&status, "Stalled")), (String::new(), String::new()));
    stage.pass().await?;
    assert_eq!(stage.tap.writes("pods", "web").await?, [], "there is nothing that can be written");

    // With a label beside them the pod is written, but only its metadata.
    stage.policy("standard", &format!("{spec}\n        labels: {{ team: shop }}")).await?;
    let labelled = stage.label("web", "team", Some("shop")).await?;
    assert_eq!(labelled.spec, web.spec);
    assert_eq!(record(&labelled)["created"], Value::Null, "nothing was set at creation");
    let status = stage.settled("standard", 1).await?;
    assert_eq!((verdict(&status, "Ready"), status.pods.unwrap().outdated), ("True InForce".to_owned(), 1));

    // A pod that carries the settings already is compliant.
    stage.delete_pod("web").await?;
    let spec = json!({
        "terminationGracePeriodSeconds": 60,
        "containers": [{
            "name": "web",
            "image": objects::IMAGE,
            "ports": [{ "name": "http", "containerPort": 8080 }],
            "livenessProbe": { "httpGet": { "path": "/healthz", "port": "http" } },
            "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } },
        }],
    });
    let new: Pod = serde_json::from_value(json!({ "metadata": { "name": "new", "labels": { "app": "web" } }, "spec": spec }))?;
    stage.create(&new).await?;
    let status =
        stage.status("standard", "no outdated pod", |status| status.pods.is_some_and(|pods| pods.matched == 1 && pods.compliant == 1));
    assert_eq!(verdict(&status.await?, "Compliant"), "True AllCompliant");
    Ok(())
}
