//! Pods that change, go, or come back under the same name while a write to them is on its way.

use kube::ResourceExt as _;
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::stage::record;
use podpolicy_e2e::tap::{Disturbance, Disturbed, Outcome};
use podpolicy_e2e::{InProcess, Stage};
use serde_json::{Value, json};

const STANDARD: &str = "{ selector: { matchLabels: { app: web } }, labels: { team: shop } }";

/// A pod, and a write to it that is on its way until the gate is opened.
async fn on_its_way(prefix: &str, spec: &str) -> anyhow::Result<(Stage, InProcess, Disturbed)> {
    let stage = Stage::set(prefix).await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let gate = stage.tap.disturb(Disturbance::Hold, |exchange| exchange.writes("pods"));
    let operator = stage.operator().await?;
    stage.policy("standard", spec).await?;
    gate.met(1).await?;
    assert!(!stage.pods.get("web").await?.labels().contains_key("team"), "the write is held");
    Ok((stage, operator, gate))
}

#[tokio::test]
async fn pod_recreated_under_the_same_name_is_not_changed_by_a_write_meant_for_the_old_one() -> anyhow::Result<()> {
    let (stage, _operator, gate) = on_its_way("recreated", STANDARD).await?;
    stage.delete_pod("web").await?;
    let new = stage.create_pod("web", &[("app", "other")]).await?;
    gate.end();
    stage.settled("standard", 0).await?;
    stage.pass().await?;
    assert_eq!(stage.tap.writes("pods", "web").await?, [Outcome::Answered(422)]);
    assert_eq!(stage.pods.get("web").await?.resource_version(), new.resource_version(), "the new pod is not selected");
    Ok(())
}

#[tokio::test]
async fn pod_recreated_under_the_same_name_is_decided_on_its_own_merits() -> anyhow::Result<()> {
    let (stage, _operator, gate) = on_its_way("merits", &STANDARD.replace("team: shop", "team: shop, tier: front")).await?;
    stage.delete_pod("web").await?;
    stage.create_pod("web", &[("app", "web"), ("team", "new")]).await?;
    gate.end();
    let pod = stage.label("web", "tier", Some("front")).await?;
    assert_eq!(pod.labels()["team"], "new", "it is the new pod's own");
    assert_eq!(record(&pod), json!({ "labels": { "tier": { "by": "PodPolicy/standard", "value": "front" } } }));
    assert_eq!(stage.tap.writes("pods", "web").await?, [Outcome::Answered(422), Outcome::Answered(200)]);
    let status = stage.settled("standard", 1).await?;
    assert_eq!((status.findings.len(), status.findings[0].reason.to_string().as_str()), (1, "Kept"));
    Ok(())
}

#[tokio::test]
async fn pod_that_is_deleted_does_not_come_back() -> anyhow::Result<()> {
    let (stage, _operator, gate) = on_its_way("vanished", STANDARD).await?;
    stage.delete_pod("web").await?;
    gate.end();
    stage.settled("standard", 0).await?;
    stage.pass().await?;
    assert_eq!(stage.tap.writes("pods", "web").await?, [Outcome::Answered(404)]);
    assert_eq!(stage.pods.get_opt("web").await?, None);
    Ok(())
}

#[tokio::test]
async fn value_that_a_person_writes_meanwhile_is_never_overwritten_under_workload() -> anyhow::Result<()> {
    let (stage, _operator, gate) = on_its_way("meanwhile", STANDARD).await?;
    let theirs = stage.change_pod("web", json!({ "metadata": { "labels": { "team": "ours" } } })).await?;
    gate.end();
    let status = stage.status("standard", "a finding", |status| !status.findings.is_empty()).await?;
    assert_eq!((status.findings[0].reason.to_string().as_str(), verdict(&status, "Ready").as_str()), ("Kept", "True InForce"));
    stage.pass().await?;
    assert_eq!(stage.tap.writes("pods", "web").await?, [Outcome::Answered(422)]);
    assert_eq!(stage.pods.get("web").await?.resource_version(), theirs.resource_version());

    stage.delete_policy("standard").await?;
    stage.pass().await?;
    assert_eq!(stage.pods.get("web").await?.labels()["team"], "ours", "theirs also after the policy is gone");
    Ok(())
}

#[tokio::test]
async fn value_that_a_person_writes_meanwhile_is_replaced_and_recorded_under_policy() -> anyhow::Result<()> {
    let (stage, _operator, gate) = on_its_way("meanwhile-policy", &STANDARD.replace("labels:", "precedence: Policy, labels:")).await?;
    stage.change_pod("web", json!({ "metadata": { "labels": { "team": "ours" } } })).await?;
    gate.end();
    let pod = stage.label("web", "team", Some("shop")).await?;
    assert_eq!(record(&pod)["labels"]["team"]["was"], "ours");
    assert_eq!(stage.tap.writes("pods", "web").await?, [Outcome::Answered(422), Outcome::Answered(200)]);
    stage.delete_policy("standard").await?;
    stage.label("web", "team", Some("ours")).await?;
    Ok(())
}

#[tokio::test]
async fn change_of_another_key_meanwhile_is_kept_and_does_not_hinder_the_write() -> anyhow::Result<()> {
    let (stage, _operator, gate) = on_its_way("beside", STANDARD).await?;
    stage.change_pod("web", json!({ "metadata": { "labels": { "mine": "yes", "app": "web" } } })).await?;
    gate.end();
    let pod = stage.label("web", "team", Some("shop")).await?;
    assert_eq!(pod.labels()["mine"], "yes");
    assert_eq!(stage.tap.writes("pods", "web").await?, [Outcome::Answered(200)]);
    Ok(())
}

#[tokio::test]
async fn first_labels_and_annotations_that_a_person_writes_meanwhile_are_kept() -> anyhow::Result<()> {
    let stage = Stage::set("first").await?;
    stage.create_pod("web", &[]).await?;
    let gate = stage.tap.disturb(Disturbance::Hold, |exchange| exchange.writes("pods"));
    let _operator = stage.operator().await?;
    stage.policy("standard", "{ selector: {}, labels: { team: shop }, annotations: { example.com/oncall: Jo } }").await?;
    gate.met(1).await?;
    stage.change_pod("web", json!({ "metadata": { "labels": { "mine": "yes" }, "annotations": { "mine": "yes" } } })).await?;
    gate.end();
    let pod = stage.label("web", "team", Some("shop")).await?;
    assert_eq!((pod.labels()["mine"].as_str(), pod.annotations()["mine"].as_str()), ("yes", "yes"));
    Ok(())
}

#[tokio::test]
async fn value_that_a_person_writes_while_it_is_taken_back_is_theirs() -> anyhow::Result<()> {
    let stage = Stage::set("undo-race").await?;
    stage.create_pod("web", &[("app", "web"), ("team", "none")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", &STANDARD.replace("labels:", "precedence: Policy, labels:")).await?;
    stage.label("web", "team", Some("shop")).await?;

    let gate = stage.tap.disturb(Disturbance::Hold, |exchange| exchange.writes("pods"));
    stage.delete_policy("standard").await?;
    gate.met(1).await?;
    stage.change_pod("web", json!({ "metadata": { "labels": { "team": "ours" } } })).await?;
    gate.end();
    let pod = stage.pod("web", "no record", |pod| record(pod) == Value::Null).await?;
    assert_eq!(pod.labels()["team"], "ours");
    Ok(())
}

#[tokio::test]
async fn policy_that_changes_while_the_write_is_on_its_way_arrives_in_the_end() -> anyhow::Result<()> {
    let (stage, _operator, gate) = on_its_way("overtaken", STANDARD).await?;
    stage.policy("standard", &STANDARD.replace("team: shop", "team: sales")).await?;
    let changed = stage.policies.get("standard").await?.metadata.generation;
    let unsettled = |status: &podpolicy_api::PodPolicyStatus| status.observed_generation == changed;
    stage.status("standard", "the new spec seen", unsettled).await?;
    gate.end();
    let pod = stage.label("web", "team", Some("sales")).await?;
    assert_eq!(record(&pod)["labels"]["team"], json!({ "by": "PodPolicy/standard", "value": "sales" }));
    stage.settled("standard", 1).await?;

    stage.delete_policy("standard").await?;
    stage.label("web", "team", None).await?;
    Ok(())
}

#[tokio::test]
async fn policy_deleted_while_the_write_is_on_its_way_leaves_nothing() -> anyhow::Result<()> {
    let (stage, _operator, gate) = on_its_way("too-late", STANDARD).await?;
    stage.delete_policy("standard").await?;
    gate.end();
    stage.pod("web", "what was written taken back", |pod| pod.labels().len() == 1 && pod.annotations().is_empty()).await?;
    stage.pass().await?;
    let pod = stage.pods.get("web").await?;
    assert!(pod.labels().len() == 1 && pod.annotations().is_empty(), "{:?}", pod.metadata);
    Ok(())
}
