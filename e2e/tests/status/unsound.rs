//! Specs that the API server takes, but that cannot be honoured, or not on every pod: the policy says so, and nothing is tried
//! again and again.

use kube::ResourceExt as _;
use podpolicy_e2e::Stage;
use podpolicy_e2e::policies::{condition, verdict};
use serde_json::json;

#[tokio::test]
async fn unknown_container_is_a_finding_and_no_reason_to_refuse() -> anyhow::Result<()> {
    let stage = Stage::set("container").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    let spec = "
        selector: { matchLabels: { app: web } }
        labels: { team: shop }
        containers: [{ names: [wbe, 'sidecar-*'], livenessProbe: { httpGet: { path: /healthz, port: http } } }]
    ";
    stage.policy("standard", spec).await?;
    stage.label("web", "team", Some("shop")).await?;
    let status = stage.settled("standard", 1).await?;
    assert_eq!(verdict(&status, "Accepted"), "True Accepted");
    assert_eq!(verdict(&status, "Ready"), "True InForce");
    assert_eq!(verdict(&status, "Compliant"), "True AllCompliant");
    assert_eq!(verdict(&status, "Stalled"), "");
    let findings: Vec<_> = status.findings.iter().map(|finding| format!("{} {}", finding.reason, finding.field)).collect();
    assert_eq!(findings, ["ContainerNotFound containers[sidecar-*]", "ContainerNotFound containers[wbe]"]);

    let before = stage.changes_sent();
    stage.pass().await?;
    assert_eq!(stage.changes_sent(), before, "{}", dump(&stage));
    Ok(())
}

#[tokio::test]
async fn port_that_the_container_lacks_is_refused_without_further_requests() -> anyhow::Result<()> {
    let stage = Stage::set("port").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    let spec = "
        selector: { matchLabels: { app: web } }
        labels: { team: shop }
        containers: [{ livenessProbe: { httpGet: { path: /healthz, port: admin } } }]
    ";
    stage.policy("standard", spec).await?;
    stage.label("web", "team", Some("shop")).await?;
    let status = stage.settled("standard", 1).await?;
    assert_eq!(verdict(&status, "Accepted"), "True Accepted");
    assert_eq!(verdict(&status, "Ready"), "False Refused");
    let findings: Vec<_> = status.findings.iter().map(|finding| format!("{} {}", finding.reason, finding.field)).collect();
    assert_eq!(findings, ["PortNotFound containers[web].livenessProbe"]);
    let message = &status.findings[0].message;
    assert!(message.contains("web") && message.contains("admin") && message.contains("http"), "{message}");

    let before = stage.changes_sent();
    stage.pass().await?;
    assert_eq!(stage.changes_sent(), before, "{}", dump(&stage));
    Ok(())
}

#[tokio::test]
async fn annotations_that_fit_on_no_pod_make_the_policy_invalid() -> anyhow::Result<()> {
    let stage = Stage::set("invalid").await?;
    let pod = stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    let large = "x".repeat(150 * 1024);
    let spec = |value: &str| {
        json!({
            "selector": { "matchLabels": { "app": "web" } },
            "labels": { "team": "shop" },
            "annotations": { "example.com/first": value, "example.com/second": value },
        })
        .to_string()
    };
    stage.policy("standard", &spec(&large)).await?;
    let status = stage.status("standard", "a verdict", |status| !verdict(status, "Accepted").is_empty()).await?;
    assert_eq!(verdict(&status, "Accepted"), "False Invalid");
    assert_eq!(verdict(&status, "Ready"), "False Invalid");
    assert_eq!(verdict(&status, "Stalled"), "True Invalid");
    assert_eq!(verdict(&status, "Compliant"), "Unknown Invalid");
    assert_eq!(verdict(&status, "Reconciling"), "");
    let message = &condition(&status, "Accepted").unwrap().message;
    assert!(message.starts_with("spec.annotations: ") && message.contains("262144"), "{message}");

    let before = stage.changes_sent();
    stage.pass().await?;
    assert_eq!(stage.changes_sent(), before, "{}", dump(&stage));
    assert_eq!(stage.pods.get("web").await?.resource_version(), pod.resource_version(), "no part of it is in force");

    // Once they fit, twice for the sake of the record, they are in force.
    stage.policy("standard", &spec(&large[..50 * 1024])).await?;
    stage.label("web", "team", Some("shop")).await?;
    let status = stage.settled("standard", 1).await?;
    assert_eq!((verdict(&status, "Accepted").as_str(), verdict(&status, "Ready").as_str()), ("True Accepted", "True InForce"));

    // And what it wrote is taken back when it no longer does.
    stage.policy("standard", &spec(&large)).await?;
    let pod = stage.label("web", "team", None).await?;
    assert!(pod.annotations().is_empty(), "{:?}", pod.annotations().keys());
    Ok(())
}

#[tokio::test]
async fn annotations_that_do_not_fit_on_one_pod_are_refused_there_only() -> anyhow::Result<()> {
    let stage = Stage::set("too-large").await?;
    for name in ["full", "free"] {
        stage.create_pod(name, &[("app", "web")]).await?;
    }
    stage.change_pod("full", json!({ "metadata": { "annotations": { "own": "x".repeat(200 * 1024) } } })).await?;
    let _operator = stage.operator().await?;
    let large = "y".repeat(50 * 1024);
    let spec = format!(
        "{{ selector: {{ matchLabels: {{ app: web }} }}, labels: {{ team: shop }}, annotations: {{ example.com/large: '{large}' }} }}"
    );
    stage.policy("standard", &spec).await?;
    for name in ["full", "free"] {
        stage.label(name, "team", Some("shop")).await?;
    }
    let status = stage.settled("standard", 2).await?;
    let pods = status.pods.unwrap();
    assert_eq!((pods.compliant, pods.refused), (1, 1));
    let findings: Vec<_> =
        status.findings.iter().map(|finding| (finding.reason.to_string(), finding.field.as_str(), finding.example.as_str())).collect();
    assert_eq!(findings, [("AnnotationsTooLarge".to_owned(), "annotations[example.com/large]", "full")]);
    assert!(!stage.pods.get("full").await?.annotations().contains_key("example.com/large"));
    Ok(())
}

/// The requests so far, one in a line.
fn dump(stage: &Stage) -> String {
    stage.tap.exchanges().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
