//! Pods that somebody changes: what a policy manages is filled in again, and what a person says counts as precedence has it.

use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use podpolicy_e2e::Stage;
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::stage::record;
use podpolicy_e2e::tap::Outcome;
use serde_json::{Value, json};

const STANDARD: &str = "{ selector: { matchLabels: { app: web } }, labels: { team: shop }, annotations: { example.com/oncall: Jo } }";

/// A pod under a policy that filled in a label and an annotation.
async fn filled_in(prefix: &str, spec: &str) -> anyhow::Result<(Stage, podpolicy_e2e::InProcess)> {
    let stage = Stage::set(prefix).await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let operator = stage.operator().await?;
    stage.policy("standard", spec).await?;
    stage.label("web", "team", Some("shop")).await?;
    stage.settled("standard", 1).await?;
    Ok((stage, operator))
}

fn labels(value: &Value) -> Value {
    json!({ "metadata": { "labels": value } })
}

#[tokio::test]
async fn managed_key_that_is_removed_is_filled_in_again_at_once() -> anyhow::Result<()> {
    let (stage, _operator) = filled_in("drift-removed", STANDARD).await?;
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        stage.change_pod("web", labels(&json!({ "team": null }))).await?;
        stage.label("web", "team", Some("shop")).await?;
        times.push(start.elapsed());
    }
    times.sort();
    #[expect(clippy::print_stdout, reason = "a figure for people")]
    {
        println!("drift was mended after {:?} (median), {:?} at most", times[2], times[4]);
    }
    assert!(times[2] < Duration::from_secs(5), "normally well below a second: {times:?}");

    stage.change_pod("web", json!({ "metadata": { "annotations": { "example.com/oncall": null } } })).await?;
    stage.pod("web", "its annotation", |pod| pod.annotations().get("example.com/oncall").is_some_and(|value| value == "Jo")).await?;
    assert_eq!(stage.tap.writes("pods", "web").await?, vec![Outcome::Answered(200); 7], "one write for each");
    Ok(())
}

#[tokio::test]
async fn all_managed_keys_that_are_removed_together_come_back_in_one_write() -> anyhow::Result<()> {
    let (stage, _operator) = filled_in("drift-all", STANDARD).await?;
    let nothing = json!({ "metadata": { "labels": { "team": null }, "annotations": null } });
    stage.change_pod("web", nothing).await?;
    let pod = stage.label("web", "team", Some("shop")).await?;
    assert_eq!(pod.annotations()["example.com/oncall"], "Jo");
    assert_eq!(record(&pod)["labels"]["team"], json!({ "by": "PodPolicy/standard", "value": "shop" }));
    assert_eq!(stage.tap.writes("pods", "web").await?, [Outcome::Answered(200), Outcome::Answered(200)]);
    Ok(())
}

#[tokio::test]
async fn label_that_a_person_changes_is_theirs_under_workload_also_after_the_policy_is_gone() -> anyhow::Result<()> {
    let (stage, _operator) = filled_in("drift-theirs", STANDARD).await?;
    stage.change_pod("web", labels(&json!({ "team": "ours" }))).await?;
    let pod = stage.pod("web", "no record of the label", |pod| record(pod)["labels"].is_null()).await?;
    assert_eq!(pod.labels()["team"], "ours");
    assert_eq!(record(&pod)["annotations"]["example.com/oncall"]["value"], "Jo", "the rest is the policy's still");

    let status = stage.status("standard", "a finding", |status| !status.findings.is_empty()).await?;
    let finding = &status.findings[0];
    assert_eq!((finding.reason.to_string().as_str(), finding.field.as_str(), finding.pods), ("Kept", "labels[team]", 1));
    assert!(finding.message.contains("\"ours\"") && finding.message.contains("precedence: Policy"), "{}", finding.message);
    assert_eq!(verdict(&status, "Compliant"), "True AllCompliant");

    stage.pass().await?;
    assert_eq!(stage.pods.get("web").await?.labels()["team"], "ours");
    stage.delete_policy("standard").await?;
    let pod = stage.pod("web", "no record", |pod| record(pod).is_null()).await?;
    assert_eq!(pod.labels()["team"], "ours");
    assert!(!pod.annotations().contains_key("example.com/oncall"));
    Ok(())
}

#[tokio::test]
async fn label_that_became_theirs_is_filled_in_once_they_remove_it() -> anyhow::Result<()> {
    let (stage, _operator) = filled_in("drift-return", STANDARD).await?;
    stage.change_pod("web", labels(&json!({ "team": "ours" }))).await?;
    stage.pod("web", "no record of the label", |pod| record(pod)["labels"].is_null()).await?;
    stage.change_pod("web", labels(&json!({ "team": null }))).await?;
    stage.label("web", "team", Some("shop")).await?;
    let status = stage.status("standard", "no finding", |status| status.findings.is_empty()).await?;
    assert_eq!(verdict(&status, "Ready"), "True InForce");
    Ok(())
}

#[tokio::test]
async fn label_that_a_person_changes_is_restored_under_policy() -> anyhow::Result<()> {
    let stage = Stage::set("drift-restored").await?;
    stage.create_pod("web", &[("app", "web"), ("team", "none")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", &STANDARD.replace("labels: {", "precedence: Policy, labels: {")).await?;
    stage.label("web", "team", Some("shop")).await?;

    stage.change_pod("web", labels(&json!({ "team": "ours" }))).await?;
    let pod = stage.label("web", "team", Some("shop")).await?;
    assert_eq!(record(&pod)["labels"]["team"], json!({ "by": "PodPolicy/standard", "value": "shop", "was": "none" }));
    stage.delete_policy("standard").await?;
    stage.label("web", "team", Some("none")).await?;
    Ok(())
}

#[tokio::test]
async fn record_that_a_person_spoils_harms_nothing() -> anyhow::Result<()> {
    let (stage, _operator) = filled_in("drift-record", STANDARD).await?;
    stage.change_pod("web", json!({ "metadata": { "annotations": { "podpolicy.dev/applied": "{ nonsense" } } })).await?;
    stage.pass().await?;
    // What can no longer be told from the pod's own is the pod's own.
    let pod = stage.pods.get("web").await?;
    assert_eq!((pod.labels()["team"].as_str(), pod.annotations()["example.com/oncall"].as_str()), ("shop", "Jo"));
    let status = stage.settled("standard", 1).await?;
    assert_eq!(verdict(&status, "Compliant"), "True AllCompliant");

    // A record is written again when there is something to record.
    stage.change_pod("web", labels(&json!({ "team": null }))).await?;
    let pod = stage.label("web", "team", Some("shop")).await?;
    assert_eq!(record(&pod), json!({ "labels": { "team": { "by": "PodPolicy/standard", "value": "shop" } } }));
    Ok(())
}

#[tokio::test]
async fn change_of_something_else_on_the_pod_is_left_as_it_is() -> anyhow::Result<()> {
    let (stage, _operator) = filled_in("drift-other", STANDARD).await?;
    let changed = stage
        .change_pod("web", json!({ "metadata": { "labels": { "mine": "yes" }, "annotations": { "mine": "yes" }, "finalizers": [] } }))
        .await?;
    stage.pass().await?;
    assert_eq!(stage.pods.get("web").await?.resource_version(), changed.resource_version());
    Ok(())
}
