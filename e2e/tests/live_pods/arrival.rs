//! What a policy says arrives on pods, with one write each, and is recorded there.

use kube::ResourceExt as _;
use podpolicy_e2e::Stage;
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::stage::{RECORD, record};
use podpolicy_e2e::tap::Outcome;
use serde_json::{Value, json};

#[tokio::test]
async fn labels_and_annotations_arrive_on_pods_that_run() -> anyhow::Result<()> {
    let stage = Stage::set("arrive").await?;
    for number in 0..3 {
        stage.create_pod(&format!("web-{number}"), &[("app", "web")]).await?;
    }
    stage.create_pod("db", &[("app", "db")]).await?;
    let db = stage.versions().await?["pod/db"].clone();
    let _operator = stage.operator().await?;

    let spec = "{ selector: { matchLabels: { app: web } }, labels: { team: shop }, annotations: { example.com/oncall: Jo } }";
    stage.policy("standard", spec).await?;
    for number in 0..3 {
        let name = format!("web-{number}");
        let pod = stage.label(&name, "team", Some("shop")).await?;
        assert_eq!(pod.annotations()["example.com/oncall"], "Jo", "both come in one write");
        assert_eq!(stage.tap.writes("pods", &name).await?, [Outcome::Answered(200)]);
    }
    let status = stage.settled("standard", 3).await?;
    assert_eq!(verdict(&status, "Ready"), "True InForce");
    assert_eq!(verdict(&status, "Compliant"), "True AllCompliant");
    assert_eq!(stage.versions().await?["pod/db"], db, "it is not selected");
    Ok(())
}

#[tokio::test]
async fn labels_and_annotations_arrive_on_pods_created_after_the_policy() -> anyhow::Result<()> {
    let stage = Stage::set("arrive-later").await?;
    let _operator = stage.operator().await?;
    let spec = "{ selector: { matchLabels: { app: web } }, labels: { team: shop }, annotations: { example.com/oncall: Jo } }";
    stage.policy("standard", spec).await?;
    stage.settled("standard", 0).await?;

    stage.create_pod("web", &[("app", "web")]).await?;
    let pod = stage.label("web", "team", Some("shop")).await?;
    assert_eq!(pod.annotations()["example.com/oncall"], "Jo");
    stage.settled("standard", 1).await?;
    assert_eq!(stage.tap.writes("pods", "web").await?, [Outcome::Answered(200)]);
    Ok(())
}

#[tokio::test]
async fn labels_arrive_on_a_pod_that_has_no_labels_at_all() -> anyhow::Result<()> {
    let stage = Stage::set("bare").await?;
    stage.create_pod("bare", &[]).await?;
    let _operator = stage.operator().await?;
    stage.policy("everything", "{ selector: {}, labels: { team: shop } }").await?;
    stage.label("bare", "team", Some("shop")).await?;

    stage.delete_policy("everything").await?;
    let pod = stage.label("bare", "team", None).await?;
    assert!(pod.labels().is_empty() && pod.annotations().is_empty(), "{:?}", pod.metadata);
    Ok(())
}

#[tokio::test]
async fn key_with_a_slash_and_a_tilde_in_the_value_arrives_as_it_is() -> anyhow::Result<()> {
    let stage = Stage::set("escape").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    let spec = r#"{ selector: {}, labels: { example.com/a.b_c: "1" }, annotations: { example.com/path: "~/a\n\"b\" ~1 ü" } }"#;
    stage.policy("odd", spec).await?;
    let pod = stage.label("web", "example.com/a.b_c", Some("1")).await?;
    assert_eq!(pod.annotations()["example.com/path"], "~/a\n\"b\" ~1 ü");
    assert_eq!(record(&pod)["annotations"]["example.com/path"]["value"], "~/a\n\"b\" ~1 ü");

    stage.delete_policy("odd").await?;
    let pod = stage.label("web", "example.com/a.b_c", None).await?;
    assert!(pod.annotations().is_empty(), "{:?}", pod.metadata);
    Ok(())
}

#[tokio::test]
async fn empty_value_is_a_value() -> anyhow::Result<()> {
    let stage = Stage::set("empty").await?;
    stage.create_pod("lacks", &[("app", "web")]).await?;
    stage.create_pod("has", &[("app", "web"), ("team", "")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", "{ selector: {}, labels: { team: shop, tier: '' } }").await?;
    let pod = stage.label("lacks", "tier", Some("")).await?;
    assert_eq!(pod.labels()["team"], "shop");
    let pod = stage.label("has", "tier", Some("")).await?;
    assert_eq!(pod.labels()["team"], "", "it is the pod's own");

    stage.policy("standard", "{ selector: {}, precedence: Policy, labels: { team: shop, tier: front } }").await?;
    let pod = stage.label("has", "team", Some("shop")).await?;
    assert_eq!((record(&pod)["labels"]["team"]["was"].as_str(), pod.labels()["tier"].as_str()), (Some(""), "front"));
    stage.delete_policy("standard").await?;
    let pod = stage.label("has", "team", Some("")).await?;
    assert!(!pod.labels().contains_key("tier"));
    stage.label("lacks", "team", None).await?;
    Ok(())
}

#[tokio::test]
async fn pod_that_complies_already_gets_no_record_and_is_never_written() -> anyhow::Result<()> {
    let stage = Stage::set("complies").await?;
    stage.create_pod("web", &[("app", "web"), ("team", "shop")]).await?;
    stage.change_pod("web", json!({ "metadata": { "annotations": { "example.com/oncall": "Jo" } } })).await?;
    let before = stage.versions().await?["pod/web"].clone();
    let _operator = stage.operator().await?;

    for precedence in ["Workload", "Policy"] {
        let spec = format!(
            "{{ selector: {{ matchLabels: {{ app: web }} }}, precedence: {precedence}, labels: {{ team: shop }}, annotations: {{ example.com/oncall: Jo }} }}"
        );
        stage.policy("standard", &spec).await?;
        let status = stage.settled("standard", 1).await?;
        assert_eq!(verdict(&status, "Compliant"), "True AllCompliant");
        assert_eq!(status.findings, []);
    }
    stage.delete_policy("standard").await?;
    stage.pass().await?;
    assert_eq!(stage.tap.writes("pods", "web").await?, []);
    assert_eq!(stage.versions().await?["pod/web"], before);
    Ok(())
}

#[tokio::test]
async fn record_says_policy_value_and_replaced_value() -> anyhow::Result<()> {
    let stage = Stage::set("record").await?;
    stage.create_pod("web", &[("app", "web"), ("team", "none")]).await?;
    stage.change_pod("web", json!({ "metadata": { "annotations": { "example.com/oncall": "nobody" } } })).await?;
    let _operator = stage.operator().await?;
    let spec = "
        selector: { matchLabels: { app: web } }
        precedence: Policy
        labels: { team: shop, tier: front }
        annotations: { example.com/oncall: Jo, example.com/docs: docs.example.com }
    ";
    stage.policy("standard", spec).await?;
    let pod = stage.label("web", "team", Some("shop")).await?;
    assert_eq!(
        record(&pod),
        json!({
            "labels": {
                "team": { "by": "PodPolicy/standard", "value": "shop", "was": "none" },
                "tier": { "by": "PodPolicy/standard", "value": "front" },
            },
            "annotations": {
                "example.com/docs": { "by": "PodPolicy/standard", "value": "docs.example.com" },
                "example.com/oncall": { "by": "PodPolicy/standard", "value": "Jo", "was": "nobody" },
            },
        })
    );

    stage.delete_policy("standard").await?;
    let pod = stage.label("web", "team", Some("none")).await?;
    assert_eq!((record(&pod), pod.annotations().contains_key(RECORD)), (Value::Null, false), "nothing is left of it");
    Ok(())
}

#[tokio::test]
async fn what_a_policy_has_put_on_a_pod_makes_no_other_policy_select_it() -> anyhow::Result<()> {
    let stage = Stage::set("own").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("first", "{ selector: { matchLabels: { app: web } }, labels: { team: shop } }").await?;
    stage.policy("second", "{ selector: { matchLabels: { team: shop } }, labels: { chained: 'true' } }").await?;
    stage.label("web", "team", Some("shop")).await?;
    stage.settled("first", 1).await?;
    stage.settled("second", 0).await?;
    stage.pass().await?;
    assert!(!stage.pods.get("web").await?.labels().contains_key("chained"));
    Ok(())
}

#[tokio::test]
async fn once_all_is_done_nothing_more_is_written() -> anyhow::Result<()> {
    let stage = Stage::set("quiet").await?;
    for number in 0..5 {
        stage.create_pod(&format!("web-{number}"), &[("app", "web")]).await?;
    }
    let _operator = stage.operator().await?;
    stage.policy("a", "{ selector: { matchLabels: { app: web } }, labels: { team: shop } }").await?;
    stage.policy("b", "{ selector: { matchLabels: { app: web } }, annotations: { example.com/b: b } }").await?;
    stage.settled("a", 5).await?;
    stage.settled("b", 5).await?;
    for number in 0..5 {
        stage.label(&format!("web-{number}"), "team", Some("shop")).await?;
        stage.pod(&format!("web-{number}"), "b", |pod| pod.annotations().contains_key("example.com/b")).await?;
    }

    stage.pass().await?;
    let before = (stage.versions().await?, stage.changes_sent());
    stage.pass().await?;
    stage.pass().await?;
    assert_eq!((stage.versions().await?, stage.changes_sent()), before);
    Ok(())
}
