//! What a policy wrote goes away with it, and what it replaced comes back: whatever way the policy goes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::stage::record;
use podpolicy_e2e::{InProcess, Stage};
use serde_json::json;

/// Replaces a label and an annotation, and fills in another of each.
const STANDARD: &str = "
    selector: { matchLabels: { app: web } }
    precedence: Policy
    labels: { team: shop, tier: front }
    annotations: { example.com/oncall: Jo, example.com/docs: docs.example.com }
";

type Metadata = (BTreeMap<String, String>, BTreeMap<String, String>);

fn metadata(pod: &Pod) -> Metadata {
    (pod.labels().clone(), pod.annotations().clone())
}

/// A pod with values of its own under a policy that replaced them.
async fn replaced(prefix: &str) -> anyhow::Result<(Stage, InProcess, Metadata)> {
    let stage = Stage::set(prefix).await?;
    stage.create_pod("web", &[("app", "web"), ("team", "none"), ("own", "yes")]).await?;
    let pod = stage.change_pod("web", json!({ "metadata": { "annotations": { "example.com/oncall": "nobody", "own": "yes" } } })).await?;
    let operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    let changed = stage.label("web", "team", Some("shop")).await?;
    assert_eq!((changed.labels()["tier"].as_str(), changed.annotations()["example.com/oncall"].as_str()), ("front", "Jo"));
    stage.settled("standard", 1).await?;
    Ok((stage, operator, metadata(&pod)))
}

#[tokio::test]
async fn replaced_values_return_when_the_policy_is_deleted() -> anyhow::Result<()> {
    let (stage, _operator, original) = replaced("undo-delete").await?;
    stage.delete_policy("standard").await?;
    let pod = stage.label("web", "team", Some("none")).await?;
    assert_eq!(metadata(&pod), original, "and nothing else is left of the policy");
    Ok(())
}

#[tokio::test]
async fn replaced_values_return_when_the_policy_is_being_deleted_and_somebody_holds_it() -> anyhow::Result<()> {
    let (stage, _operator, original) = replaced("undo-held").await?;
    let finalizers = |names: &[&str]| Patch::Merge(json!({ "metadata": { "finalizers": names } }));
    stage.policies.patch("standard", &PatchParams::default(), &finalizers(&["example.com/held"])).await?;
    stage.policies.delete("standard", &DeleteParams::default()).await?;
    let pod = stage.label("web", "team", Some("none")).await?;
    assert_eq!(metadata(&pod), original);
    stage.policies.patch("standard", &PatchParams::default(), &finalizers(&[])).await?;
    Ok(())
}

#[tokio::test]
async fn replaced_values_return_when_the_key_is_removed_from_the_spec() -> anyhow::Result<()> {
    let (stage, _operator, _) = replaced("undo-key").await?;
    let rest = "{ selector: { matchLabels: { app: web } }, precedence: Policy, labels: { tier: front }, annotations: { example.com/docs: docs.example.com } }";
    stage.policy("standard", rest).await?;
    let pod = stage.label("web", "team", Some("none")).await?;
    assert_eq!((pod.labels()["tier"].as_str(), pod.annotations()["example.com/oncall"].as_str()), ("front", "nobody"));
    assert_eq!(
        record(&pod),
        json!({
            "labels": { "tier": { "by": "PodPolicy/standard", "value": "front" } },
            "annotations": { "example.com/docs": { "by": "PodPolicy/standard", "value": "docs.example.com" } },
        })
    );
    Ok(())
}

#[tokio::test]
async fn replaced_values_return_when_the_selector_is_narrowed() -> anyhow::Result<()> {
    let (stage, _operator, original) = replaced("undo-narrow").await?;
    stage.policy("standard", &STANDARD.replace("app: web", "app: web, own: 'no'")).await?;
    let pod = stage.label("web", "team", Some("none")).await?;
    assert_eq!(metadata(&pod), original);
    stage.settled("standard", 0).await?;
    Ok(())
}

#[tokio::test]
async fn replaced_values_return_when_enforce_becomes_audit() -> anyhow::Result<()> {
    let (stage, _operator, original) = replaced("undo-audit").await?;
    stage.policy("standard", &format!("{STANDARD}\n    enforcement: Audit")).await?;
    let pod = stage.label("web", "team", Some("none")).await?;
    assert_eq!(metadata(&pod), original);
    let status = stage.status("standard", "one pod that would change", |status| status.pods.is_some_and(|pods| pods.pending == 1)).await?;
    assert_eq!((verdict(&status, "Ready").as_str(), status.findings.len()), ("True Auditing", 4));
    Ok(())
}

#[tokio::test]
async fn replaced_values_return_when_the_pod_leaves_the_selection() -> anyhow::Result<()> {
    let (stage, _operator, mut original) = replaced("undo-leave").await?;
    stage.change_pod("web", json!({ "metadata": { "labels": { "app": "db" } } })).await?;
    let pod = stage.label("web", "team", Some("none")).await?;
    original.0.insert("app".to_owned(), "db".to_owned());
    assert_eq!(metadata(&pod), original);

    stage.change_pod("web", json!({ "metadata": { "labels": { "app": "web" } } })).await?;
    stage.label("web", "team", Some("shop")).await?;
    Ok(())
}

#[tokio::test]
async fn replaced_values_return_when_precedence_becomes_workload() -> anyhow::Result<()> {
    let (stage, _operator, _) = replaced("undo-precedence").await?;
    stage.policy("standard", &STANDARD.replace("precedence: Policy", "precedence: Workload")).await?;
    let pod = stage.label("web", "team", Some("none")).await?;
    assert_eq!((pod.labels()["tier"].as_str(), pod.annotations()["example.com/oncall"].as_str()), ("front", "nobody"));
    let status = stage.settled("standard", 1).await?;
    assert_eq!(verdict(&status, "Compliant"), "True AllCompliant", "what is kept is compliant");
    let kept: Vec<_> = status.findings.iter().map(|finding| format!("{} {}", finding.reason, finding.field)).collect();
    assert_eq!(kept, ["Kept annotations[example.com/oncall]", "Kept labels[team]"]);
    Ok(())
}

#[tokio::test]
async fn new_value_in_the_policy_arrives_everywhere_and_the_original_still_returns() -> anyhow::Result<()> {
    let (stage, _operator, original) = replaced("undo-change").await?;
    stage.create_pod("second", &[("app", "web")]).await?;
    stage.label("second", "team", Some("shop")).await?;

    stage.policy("standard", &STANDARD.replace("team: shop", "team: sales").replace("Jo", "Sam")).await?;
    for name in ["web", "second"] {
        let pod = stage.label(name, "team", Some("sales")).await?;
        assert_eq!(pod.annotations()["example.com/oncall"], "Sam");
    }
    let pod = stage.pods.get("web").await?;
    assert_eq!(record(&pod)["labels"]["team"], json!({ "by": "PodPolicy/standard", "value": "sales", "was": "none" }));

    stage.delete_policy("standard").await?;
    assert_eq!(metadata(&stage.label("web", "team", Some("none")).await?), original);
    stage.label("second", "team", None).await?;
    Ok(())
}

#[tokio::test]
async fn from_a_to_b_and_back_gives_a_exactly() -> anyhow::Result<()> {
    let (stage, _operator, _) = replaced("undo-back").await?;
    let a = metadata(&stage.pods.get("web").await?);
    stage.policy("standard", "{ selector: { matchLabels: { app: web } }, labels: { other: label, own: other } }").await?;
    let pod = stage.label("web", "other", Some("label")).await?;
    assert_eq!((pod.labels()["team"].as_str(), pod.labels()["own"].as_str()), ("none", "yes"));
    stage.policy("standard", STANDARD).await?;
    let pod = stage.label("web", "team", Some("shop")).await?;
    assert_eq!(metadata(&pod), a);
    Ok(())
}

#[tokio::test]
async fn policy_that_takes_over_from_another_hands_the_original_back() -> anyhow::Result<()> {
    let (stage, _operator, original) = replaced("undo-takeover").await?;
    stage
        .policy("stronger", "{ selector: { matchLabels: { app: web } }, priority: 5, precedence: Policy, labels: { team: sales } }")
        .await?;
    let pod = stage.label("web", "team", Some("sales")).await?;
    assert_eq!(record(&pod)["labels"]["team"], json!({ "by": "PodPolicy/stronger", "value": "sales", "was": "none" }));

    stage.delete_policy("standard").await?;
    let pod = stage.label("web", "tier", None).await?;
    assert_eq!(pod.labels()["team"], "sales", "that is the other policy's");
    stage.delete_policy("stronger").await?;
    assert_eq!(metadata(&stage.label("web", "team", Some("none")).await?), original);
    Ok(())
}

#[tokio::test]
async fn policy_that_is_deleted_leaves_the_field_to_the_next_one() -> anyhow::Result<()> {
    let (stage, _operator, original) = replaced("undo-next").await?;
    stage
        .policy("weaker", "{ selector: { matchLabels: { app: web } }, priority: -5, precedence: Policy, labels: { team: sales } }")
        .await?;
    stage.settled("weaker", 1).await?;
    assert_eq!(stage.pods.get("web").await?.labels()["team"], "shop");

    stage.delete_policy("standard").await?;
    let pod = stage.label("web", "team", Some("sales")).await?;
    assert_eq!(record(&pod)["labels"]["team"], json!({ "by": "PodPolicy/weaker", "value": "sales", "was": "none" }));
    stage.delete_policy("weaker").await?;
    assert_eq!(metadata(&stage.label("web", "team", Some("none")).await?), original);
    Ok(())
}
