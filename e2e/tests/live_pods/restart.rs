//! What happened to policies and pods while no operator ran is made good when one starts; and a restart alone changes nothing.

use kube::ResourceExt as _;
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::stage::record;
use podpolicy_e2e::tap::{Disturbance, Outcome};
use podpolicy_e2e::{Stage, objects};
use serde_json::{Value, json};

const STANDARD: &str =
    "{ selector: { matchLabels: { app: web } }, precedence: Policy, labels: { team: shop }, annotations: { example.com/oncall: Jo } }";

/// A pod whose label the policy replaced, and an operator that has ended since.
async fn left_behind(prefix: &str) -> anyhow::Result<Stage> {
    let stage = Stage::set(prefix).await?;
    stage.create_pod("web", &[("app", "web"), ("team", "none")]).await?;
    let operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    stage.label("web", "team", Some("shop")).await?;
    stage.settled("standard", 1).await?;
    operator.stop().await?;
    Ok(stage)
}

#[tokio::test]
async fn policy_deleted_while_no_operator_runs_is_gone_at_once_and_undone_at_the_start() -> anyhow::Result<()> {
    let stage = left_behind("down-delete").await?;
    assert_eq!(stage.policies.get("standard").await?.finalizers(), [""; 0]);
    stage.delete_policy("standard").await?;
    assert_eq!(stage.pods.get("web").await?.labels()["team"], "shop");

    let _operator = stage.operator().await?;
    let pod = stage.label("web", "team", Some("none")).await?;
    assert!(pod.annotations().is_empty(), "{:?}", pod.annotations());
    Ok(())
}

#[tokio::test]
async fn policy_narrowed_while_no_operator_runs_is_undone_at_the_start() -> anyhow::Result<()> {
    let stage = left_behind("down-narrow").await?;
    stage.policy("standard", &STANDARD.replace("app: web", "app: db")).await?;
    let _operator = stage.operator().await?;
    let pod = stage.label("web", "team", Some("none")).await?;
    assert!(pod.annotations().is_empty(), "{:?}", pod.annotations());
    stage.settled("standard", 0).await?;
    Ok(())
}

#[tokio::test]
async fn policy_changed_while_no_operator_runs_is_caught_up_with_at_the_start() -> anyhow::Result<()> {
    let stage = left_behind("down-change").await?;
    stage.policy("standard", "{ selector: { matchLabels: { app: web } }, precedence: Policy, labels: { team: sales } }").await?;
    let _operator = stage.operator().await?;
    let pod = stage.label("web", "team", Some("sales")).await?;
    assert_eq!(record(&pod), json!({ "labels": { "team": { "by": "PodPolicy/standard", "value": "sales", "was": "none" } } }));
    assert!(!pod.annotations().contains_key("example.com/oncall"));
    stage.settled("standard", 1).await?;
    Ok(())
}

#[tokio::test]
async fn policy_that_became_audit_while_no_operator_runs_is_undone_at_the_start() -> anyhow::Result<()> {
    let stage = left_behind("down-audit").await?;
    stage.policy("standard", &STANDARD.replace("precedence: Policy", "precedence: Policy, enforcement: Audit")).await?;
    let _operator = stage.operator().await?;
    let pod = stage.label("web", "team", Some("none")).await?;
    assert_eq!(record(&pod), Value::Null);
    Ok(())
}

#[tokio::test]
async fn policy_created_anew_under_another_name_while_no_operator_runs_takes_over() -> anyhow::Result<()> {
    let stage = left_behind("down-rename").await?;
    stage.delete_policy("standard").await?;
    stage.policy("renamed", STANDARD).await?;
    let _operator = stage.operator().await?;
    let by = |pod: &k8s_openapi::api::core::v1::Pod| record(pod)["labels"]["team"]["by"] == "PodPolicy/renamed";
    let pod = stage.pod("web", "a record of the new policy", by).await?;
    assert_eq!(pod.labels()["team"], "shop");
    stage.settled("renamed", 1).await?;

    stage.delete_policy("renamed").await?;
    stage.label("web", "team", Some("none")).await?;
    Ok(())
}

#[tokio::test]
async fn drift_and_new_pods_from_while_no_operator_ran_are_seen_at_the_start() -> anyhow::Result<()> {
    let stage = left_behind("down-drift").await?;
    stage.change_pod("web", json!({ "metadata": { "labels": { "team": null } } })).await?;
    stage.create_pod("new", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage.label("web", "team", Some("shop")).await?;
    stage.label("new", "team", Some("shop")).await?;
    stage.settled("standard", 2).await?;

    stage.delete_policy("standard").await?;
    stage.label("web", "team", Some("none")).await?;
    Ok(())
}

#[tokio::test]
async fn restart_alone_writes_nothing() -> anyhow::Result<()> {
    let stage = left_behind("down-nothing").await?;
    // All that a policy can have to report.
    let operator = stage.operator().await?;
    let web = "selector: { matchLabels: { app: web } }";
    stage.policy("audit", &format!("{{ {web}, enforcement: Audit, labels: {{ audit: 'true' }} }}")).await?;
    stage.policy("refused", &format!("{{ {web}, labels: {{ pod-template-hash: '1' }} }}")).await?;
    stage.policy("outdated", &format!("{{ {web}, terminationGracePeriodSeconds: 60 }}")).await?;
    stage.policy("loser", &format!("{{ {web}, priority: -1, labels: {{ team: sales }} }}")).await?;
    for name in ["refused", "outdated", "loser"] {
        stage.settled(name, 1).await?;
    }
    stage.status("audit", "one pod", |status| status.pods.is_some_and(|pods| pods.matched == 1)).await?;
    stage.status("standard", "a conflict", |status| verdict(status, "Conflicted") == "True Overrides").await?;
    stage.pass().await?;
    let before = (stage.versions().await?, stage.changes_sent());
    operator.stop().await?;

    for round in 0..2 {
        let operator = stage.operator().await?;
        stage.pass().await?;
        assert_eq!((stage.versions().await?, stage.changes_sent()), before, "round {round}");
        operator.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn operator_that_is_killed_in_the_middle_leaves_the_rest_to_the_next_one() -> anyhow::Result<()> {
    let stage = Stage::set("killed").await?;
    let names: Vec<_> = (0..12).map(|number| format!("web-{number}")).collect();
    for name in &names {
        stage.create_pod(name, &[("app", "web")]).await?;
    }
    // Of the writes that are under way when it dies, some have not arrived and some have, but their answers are lost.
    let unsent = stage.tap.disturb(Disturbance::Hang, |exchange| exchange.writes("pods") && exchange.name.ends_with(['3', '6', '9']));
    let lost = stage.tap.disturb(Disturbance::LoseAnswer, |exchange| exchange.writes("pods") && exchange.name.ends_with(['2', '5', '8']));
    let operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    unsent.met(3).await?;
    lost.met(3).await?;
    stage.label("web-2", "team", Some("shop")).await?;
    drop(operator);
    unsent.end();
    lost.end();

    let _operator = stage.operator().await?;
    let status = stage.settled("standard", 12).await?;
    assert_eq!(status.pods.unwrap().compliant, 12);
    for name in &names {
        let pod = stage.pods.get(name).await?;
        assert_eq!(record(&pod)["labels"]["team"], json!({ "by": "PodPolicy/standard", "value": "shop" }), "{name}");
        let done = stage.tap.writes("pods", name).await?.iter().filter(|outcome| **outcome == Outcome::Answered(200)).count();
        assert!(done <= 1, "{name} was written more than once");
    }
    stage.delete_policy("standard").await?;
    for name in &names {
        stage.label(name, "team", None).await?;
    }
    Ok(())
}

#[tokio::test]
async fn operator_that_is_asked_to_stop_ends_the_writes_that_are_under_way() -> anyhow::Result<()> {
    let stage = Stage::set("stopped").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let held = stage.tap.disturb(Disturbance::Hold, |exchange| exchange.writes("pods"));
    let operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    held.met(1).await?;

    let (stopped, ()) = tokio::join!(operator.stop(), async {
        tokio::task::yield_now().await;
        held.end();
    });
    stopped?;
    assert_eq!(stage.tap.writes("pods", "web").await?, [Outcome::Answered(200)]);
    assert_eq!(stage.pods.get("web").await?.labels()["team"], "shop");
    Ok(())
}

#[tokio::test]
async fn two_operators_at_once_do_no_harm() -> anyhow::Result<()> {
    let stage = Stage::set("two").await?;
    let names: Vec<_> = (0..8).map(|number| format!("web-{number}")).collect();
    for name in &names {
        stage.create_pod(name, &[("app", "web"), ("team", "none")]).await?;
    }
    let (_one, _other) = (stage.operator().await?, stage.operator().await?);
    for team in ["shop", "sales", "shop"] {
        stage.policy("standard", &STANDARD.replace("team: shop", &format!("team: {team}"))).await?;
        for name in &names {
            let pod = stage.label(name, "team", Some(team)).await?;
            assert_eq!(record(&pod)["labels"]["team"], json!({ "by": "PodPolicy/standard", "value": team, "was": "none" }));
        }
        stage.settled("standard", 8).await?;
    }
    stage.pass().await?;
    stage.pass().await?;
    let before = (stage.versions().await?, stage.changes_sent());
    stage.pass().await?;
    assert_eq!((stage.versions().await?, stage.changes_sent()), before);

    stage.delete_policy("standard").await?;
    for name in &names {
        let pod = stage.label(name, "team", Some("none")).await?;
        assert!(pod.annotations().is_empty(), "{:?}", pod.annotations());
    }
    Ok(())
}

#[tokio::test]
async fn operator_does_not_touch_policies_and_pods_of_other_namespaces() -> anyhow::Result<()> {
    let (stage, other) = (Stage::set("here").await?, Stage::set("elsewhere").await?);
    other.create_pod("web", &[("app", "web")]).await?;
    other.policy("standard", STANDARD).await?;
    let before = other.versions().await?;
    let _operator = stage.operator().await?;
    let created = stage.create(&objects::pod("web", &[("app", "web")])).await?;
    stage.policy("standard", STANDARD).await?;
    stage.label(&created.name_any(), "team", Some("shop")).await?;
    stage.pass().await?;
    assert_eq!(other.versions().await?, before);
    Ok(())
}
