//! An API server that fails, hangs or refuses: what is left to do is done later, and is told meanwhile.

use std::time::{Duration, Instant};

use http::StatusCode;
use kube::ResourceExt as _;
use podpolicy_api::{PodCounts, PodPolicyStatus};
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::stage::{RECORD, record};
use podpolicy_e2e::tap::{Disturbance, Exchange, Outcome};
use podpolicy_e2e::{History, InProcess, Stage};
use serde_json::json;

const STANDARD: &str = "{ selector: { matchLabels: { app: web } }, labels: { team: shop } }";
const PODS: [&str; 3] = ["web-0", "web-1", "web-2"];

async fn three_pods(prefix: &str) -> anyhow::Result<Stage> {
    let stage = Stage::set(prefix).await?;
    for name in PODS {
        stage.create_pod(name, &[("app", "web")]).await?;
    }
    Ok(stage)
}

fn writes_first_pod(exchange: &Exchange) -> bool {
    exchange.writes("pods") && exchange.name == PODS[0]
}

fn write_failed(status: &PodPolicyStatus) -> bool {
    status.findings.iter().any(|finding| finding.reason.to_string() == "WriteFailed")
}

/// Checks what a policy says while one of three pods cannot be written, lets the fault pass, and checks that nothing of it is left.
async fn write_fails_and_is_done_later(stage: Stage, fault: Disturbance) -> anyhow::Result<()> {
    let fault = stage.tap.disturb(fault, writes_first_pod);
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    for name in &PODS[1..] {
        stage.label(name, "team", Some("shop")).await?;
    }
    let status = stage.status("standard", "a write that failed", write_failed).await?;
    assert_eq!(status.pods, Some(PodCounts { matched: 3, compliant: 2, pending: 1, ..PodCounts::default() }));
    let finding = &status.findings[0];
    assert_eq!((status.findings.len(), finding.pods, finding.example.as_str()), (1, 1, PODS[0]), "{finding:?}");
    assert_eq!(verdict(&status, "Ready"), "False WriteFailed");
    assert_eq!(verdict(&status, "Compliant"), "False WriteFailed");
    assert_eq!((verdict(&status, "Reconciling").as_str(), verdict(&status, "Stalled").as_str()), ("True WriteFailed", ""));

    fault.end();
    stage.label(PODS[0], "team", Some("shop")).await?;
    let status = stage.settled("standard", 3).await?;
    assert_eq!((status.findings.len(), verdict(&status, "Ready").as_str()), (0, "True InForce"));
    assert_eq!(status.pods, Some(PodCounts { matched: 3, compliant: 3, ..PodCounts::default() }));
    Ok(())
}

#[tokio::test]
async fn write_that_is_answered_with_500_is_done_later() -> anyhow::Result<()> {
    write_fails_and_is_done_later(three_pods("fault-500").await?, Disturbance::Answer(StatusCode::INTERNAL_SERVER_ERROR)).await
}

#[tokio::test]
async fn write_that_is_answered_with_429_is_done_later() -> anyhow::Result<()> {
    write_fails_and_is_done_later(three_pods("fault-429").await?, Disturbance::Answer(StatusCode::TOO_MANY_REQUESTS)).await
}

#[tokio::test]
async fn write_whose_connection_breaks_is_done_later() -> anyhow::Result<()> {
    write_fails_and_is_done_later(three_pods("fault-broken").await?, Disturbance::Break).await
}

#[tokio::test]
async fn write_that_hangs_is_given_up_and_done_later() -> anyhow::Result<()> {
    let stage = three_pods("fault-hang").await?;
    let tap = stage.tap.clone();
    write_fails_and_is_done_later(stage, Disturbance::Hang).await?;
    assert_eq!(tap.writes("pods", PODS[0]).await?[0], Outcome::Abandoned);
    Ok(())
}

#[tokio::test]
async fn write_whose_answer_is_lost_is_not_done_twice() -> anyhow::Result<()> {
    let stage = three_pods("fault-lost").await?;
    let fault = stage.tap.disturb(Disturbance::LoseAnswer, |exchange| exchange.writes("pods"));
    let _operator = stage.operator().await?;
    let history = History::of(stage.pods.clone(), PODS[0]).await?;
    stage.policy("standard", STANDARD).await?;
    for name in PODS {
        let pod = stage.label(name, "team", Some("shop")).await?;
        assert_eq!(record(&pod)["labels"]["team"], json!({ "by": "PodPolicy/standard", "value": "shop" }), "no value was replaced");
    }
    let status = stage.settled("standard", 3).await?;
    assert_eq!((status.findings.len(), verdict(&status, "Ready").as_str()), (0, "True InForce"));
    fault.end();
    stage.pass().await?;
    history.reaches(&stage.pods.get(PODS[0]).await?.resource_version().unwrap_or_default()).await?;
    assert_eq!(history.map(kube::ResourceExt::resource_version).len(), 2, "as it was created, and with the label");
    stage.delete_policy("standard").await?;
    for name in PODS {
        stage.label(name, "team", None).await?;
    }
    Ok(())
}

#[tokio::test]
async fn failures_are_tried_again_ever_more_slowly() -> anyhow::Result<()> {
    let stage = three_pods("fault-slow").await?;
    let fault = stage.tap.disturb(Disturbance::Answer(StatusCode::INTERNAL_SERVER_ERROR), writes_first_pod);
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    let start = Instant::now();
    // After waits of 0.5 s, 1 s and 2 s; whatever else happens to the pod meanwhile.
    for number in 0..10 {
        stage.change_pod(PODS[0], json!({ "metadata": { "labels": { "number": number.to_string() } } })).await?;
    }
    fault.met(4).await?;
    assert!(start.elapsed() >= Duration::from_secs(3), "the fourth came after {:?}", start.elapsed());
    fault.end();
    stage.label(PODS[0], "team", Some("shop")).await?;
    Ok(())
}

#[tokio::test]
async fn new_value_does_not_wait_for_the_turn_of_the_one_that_failed() -> anyhow::Result<()> {
    let (stage, _operator) = next_try_is_far_off("fault-new-value").await?;
    stage.policy("standard", &STANDARD.replace("shop", "sales")).await?;
    let start = Instant::now();
    stage.label(PODS[0], "team", Some("sales")).await?;
    assert!(start.elapsed() < Duration::from_secs(6), "it waited {:?}", start.elapsed());
    Ok(())
}

#[tokio::test]
async fn pod_recreated_under_the_same_name_does_not_wait_for_the_turn_of_the_old_one() -> anyhow::Result<()> {
    let (stage, _operator) = next_try_is_far_off("fault-new-pod").await?;
    stage.delete_pod(PODS[0]).await?;
    stage.create_pod(PODS[0], &[("app", "web")]).await?;
    let start = Instant::now();
    stage.label(PODS[0], "team", Some("shop")).await?;
    assert!(start.elapsed() < Duration::from_secs(6), "it waited {:?}", start.elapsed());
    Ok(())
}

/// A pod that could not be written five times, so that the next try is due eight seconds later; by now it would succeed.
async fn next_try_is_far_off(prefix: &str) -> anyhow::Result<(Stage, InProcess)> {
    let stage = three_pods(prefix).await?;
    let fault = stage.tap.disturb(Disturbance::Answer(StatusCode::INTERNAL_SERVER_ERROR), writes_first_pod);
    let operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    fault.met(5).await?;
    stage.tap.writes("pods", PODS[0]).await?;
    fault.end();
    Ok((stage, operator))
}

#[tokio::test]
async fn status_that_cannot_be_written_is_written_later_and_hinders_no_pod() -> anyhow::Result<()> {
    let stage = three_pods("fault-status").await?;
    let fault = stage.tap.disturb(Disturbance::Answer(StatusCode::INTERNAL_SERVER_ERROR), |exchange| exchange.writes_status("podpolicies"));
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    fault.met(2).await?;
    for name in PODS {
        stage.label(name, "team", Some("shop")).await?;
    }
    assert!(stage.policies.get("standard").await?.status.is_none());
    fault.end();
    let status = stage.settled("standard", 3).await?;
    assert_eq!(verdict(&status, "Ready"), "True InForce");
    Ok(())
}

#[tokio::test]
async fn nothing_is_decided_before_everything_was_seen() -> anyhow::Result<()> {
    let stage = three_pods("fault-list").await?;
    stage.policy("standard", STANDARD).await?;
    let before = stage.versions().await?;
    let fault = stage.tap.disturb(Disturbance::Answer(StatusCode::INTERNAL_SERVER_ERROR), |exchange| exchange.resource == "services");
    let (operator, looked) = tokio::join!(stage.operator(), async {
        fault.met(3).await?;
        let meanwhile = stage.versions().await?;
        fault.end();
        anyhow::Ok(meanwhile)
    });
    assert_eq!(looked?, before, "a Service could select on what would have been written");
    let _operator = operator?;
    for name in PODS {
        stage.label(name, "team", Some("shop")).await?;
    }
    assert!(stage.pods.get(PODS[0]).await?.annotations().contains_key(RECORD));
    Ok(())
}
