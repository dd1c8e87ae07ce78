//! A status is written when it changes, and only then.

use kube::ResourceExt as _;
use podpolicy_e2e::{InProcess, Stage, objects};
use serde_json::json;

/// Something of everything that a status can say of pods that are at rest.
const STANDARD: &str = "
    selector: { matchLabels: { app: web } }
    labels: { team: shop, tier: front, controller-uid: '1' }
    terminationGracePeriodSeconds: 60
    containers: [{ names: [web, api], livenessProbe: { httpGet: { path: /healthz, port: http } } }]
";

async fn at_rest(prefix: &str) -> anyhow::Result<(Stage, InProcess, State)> {
    let stage = Stage::set(prefix).await?;
    for number in 0..3 {
        stage.create_pod(&format!("web-{number}"), &[("app", "web"), ("tier", "own")]).await?;
    }
    let operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    stage.settled("standard", 3).await?;
    stage.pass().await?;
    let rest = state(&stage).await?;
    Ok((stage, operator, rest))
}

/// The version of the policy, and how often its status was written.
type State = (Option<String>, usize);

async fn state(stage: &Stage) -> anyhow::Result<State> {
    let exchanges = stage.tap.exchanges();
    let writes = exchanges.iter().filter(|exchange| exchange.writes_status("podpolicies") && exchange.name == "standard").count();
    Ok((stage.policies.get("standard").await?.resource_version(), writes))
}

#[tokio::test]
async fn status_stands_still_while_nothing_happens() -> anyhow::Result<()> {
    let (stage, _operator, before) = at_rest("still").await?;
    for _ in 0..3 {
        stage.pass().await?;
    }
    assert_eq!(state(&stage).await?, before);
    Ok(())
}

#[tokio::test]
async fn status_stands_still_while_pods_change_that_the_policy_does_not_select() -> anyhow::Result<()> {
    let (stage, _operator, before) = at_rest("still-others").await?;
    stage.create_pod("db", &[("app", "db")]).await?;
    stage.change_pod("db", json!({ "metadata": { "labels": { "team": "db" } } })).await?;
    stage.pass().await?;
    stage.delete_pod("db").await?;
    stage.pass().await?;
    assert_eq!(state(&stage).await?, before);
    Ok(())
}

#[tokio::test]
async fn status_stands_still_while_its_pods_change_in_what_no_policy_says() -> anyhow::Result<()> {
    let (stage, _operator, before) = at_rest("still-own").await?;
    stage.change_pod("web-0", json!({ "metadata": { "labels": { "mine": "yes" }, "annotations": { "mine": "yes" } } })).await?;
    objects::set_ready(&stage.pods, "web-1").await?;
    stage.pass().await?;
    assert_eq!(state(&stage).await?, before);
    Ok(())
}

#[tokio::test]
async fn status_stands_still_while_another_policy_of_other_pods_changes() -> anyhow::Result<()> {
    let (stage, _operator, before) = at_rest("still-policy").await?;
    stage.create_pod("db", &[("app", "db")]).await?;
    stage.policy("other", "{ selector: { matchLabels: { app: db } }, labels: { team: db } }").await?;
    stage.label("db", "team", Some("db")).await?;
    stage.delete_policy("other").await?;
    stage.label("db", "team", None).await?;
    stage.pass().await?;
    assert_eq!(state(&stage).await?, before);
    Ok(())
}

#[tokio::test]
async fn status_is_written_once_when_a_pod_comes() -> anyhow::Result<()> {
    let (stage, _operator, (_, before)) = at_rest("still-once").await?;
    // It has the labels already: there is nothing to write, and so nothing in between to tell.
    stage.create_pod("web-3", &[("app", "web"), ("team", "shop"), ("tier", "own")]).await?;
    stage.settled("standard", 4).await?;
    stage.pass().await?;
    assert_eq!(state(&stage).await?.1, before + 1);
    Ok(())
}
