//! An API server that does not do what the native backend needs: said by name, and made good once it does.

use http::StatusCode;
use podpolicy_api::{AdmissionBackend, PodPolicyStatus};
use podpolicy_controller::AdmissionMode;
use podpolicy_e2e::policies::{condition, verdict};
use podpolicy_e2e::tap::Disturbance;

use crate::scene::{Scene, admission, team};

#[tokio::test]
async fn writes_that_fail_are_told_and_tried_again() -> anyhow::Result<()> {
    let scene = Scene::set("failing").await?;
    let failing =
        scene.tap.disturb(Disturbance::Answer(StatusCode::INTERNAL_SERVER_ERROR), |sent| sent.writes("mutatingadmissionpolicies"));
    let _operator = scene.native().await?;
    scene.policy("standard", &team("shop")).await?;
    let status = scene.status("standard", "failing", |status| verdict(status, "Ready") == "False WriteFailed").await?;
    assert_eq!(verdict(&status, "Reconciling"), "True WriteFailed");
    assert_eq!(admission(&status).generation, 0);
    let message = admission(&status).message.as_deref().unwrap();
    assert!(message.contains(&scene.unit()) && message.contains("the test answers 500"), "{message}");
    failing.end();
    scene.ready("standard").await?;
    assert_eq!(scene.new_team("web").await?.as_deref(), Some("shop"));
    Ok(())
}

#[tokio::test]
async fn live_pods_are_reconciled_while_writes_for_creation_hang() -> anyhow::Result<()> {
    let scene = Scene::set("hanging").await?;
    let _hanging = scene.tap.disturb(Disturbance::Hang, |sent| sent.writes("mutatingadmissionpolicies"));
    let _operator = scene.native().await?;
    scene.policy("standard", &team("shop")).await?;
    scene.create_pod("web", &crate::scene::WEB).await?;
    scene.label("web", "team", Some("shop")).await?;
    Ok(())
}

#[tokio::test]
async fn answers_of_probes_that_fail_are_told_and_asked_for_again() -> anyhow::Result<()> {
    let scene = Scene::set("blind").await?;
    let operator = scene.native().await?;
    scene.policy("standard", &team("shop")).await?;
    scene.ready("standard").await?;
    operator.stop().await?;
    // The first write to the status that the next operator sends is a probe: what it says already is there.
    let failing = scene.tap.disturb(Disturbance::Break, |sent| sent.writes_status("podpolicies"));
    let _operator = scene.native().await?;
    failing.met(2).await?;
    failing.end();
    scene.policy("standard", &team("sales")).await?;
    scene.ready("standard").await?;
    assert_eq!(scene.new_team("web").await?.as_deref(), Some("sales"));
    Ok(())
}

#[tokio::test]
async fn api_server_that_does_not_serve_the_kind_is_said_where_it_was_asked_for() -> anyhow::Result<()> {
    let scene = Scene::set("not-served").await?;
    let _old = scene.tap.disturb(Disturbance::Answer(StatusCode::NOT_FOUND), |sent| sent.resource.is_empty());
    let operator = scene.native().await?;
    scene.policy("standard", &team("shop")).await?;
    let status = scene.status("standard", "not served", |status| verdict(status, "Ready") == "False NotAtCreation").await?;
    assert_eq!(verdict(&status, "Stalled"), "True NotAtCreation");
    let message = &condition(&status, "Ready").unwrap().message;
    assert!(message.contains("does not serve mutatingadmissionpolicies") && message.contains("--admission"), "{message}");
    operator.stop().await?;

    let _operator = scene.operator_with(AdmissionMode::Auto).await?;
    let unreachable =
        |status: &PodPolicyStatus| status.admission.as_ref().is_some_and(|admission| admission.backend == AdmissionBackend::Webhook);
    let status = scene.status("standard", "the webhook instead", unreachable).await?;
    let message = admission(&status).message.as_deref().unwrap();
    assert!(message.contains("--webhook-url https://"), "{message}");
    Ok(())
}

#[tokio::test]
async fn auto_is_native_where_the_api_server_serves_the_kind() -> anyhow::Result<()> {
    let scene = Scene::set("auto").await?;
    let _operator = scene.operator_with(AdmissionMode::Auto).await?;
    scene.policy("standard", &team("shop")).await?;
    scene.ready("standard").await?;
    assert_eq!(scene.new_team("web").await?.as_deref(), Some("shop"));
    Ok(())
}
