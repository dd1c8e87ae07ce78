//! How many pods stand how, and what was found on them.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use podpolicy_api::PodCounts;
use podpolicy_e2e::policies::{condition, verdict};
use podpolicy_e2e::tap::Disturbance;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{Stage, objects};
use serde_json::json;

const WEB: [(&str, &str); 1] = [("app", "web")];

/// A pod whose container has the port `http` and this readiness probe.
fn with_probe(name: &str, path: &str) -> Pod {
    let mut pod = objects::pod(name, &WEB);
    let http_get = HTTPGetAction { path: Some(path.to_owned()), port: IntOrString::String("http".to_owned()), ..HTTPGetAction::default() };
    web(&mut pod).readiness_probe = Some(Probe { http_get: Some(http_get), ..Probe::default() });
    pod
}

/// A pod whose container has no named port.
fn without_port(name: &str) -> Pod {
    let mut pod = objects::pod(name, &WEB);
    web(&mut pod).ports = None;
    pod
}

fn web(pod: &mut Pod) -> &mut Container {
    &mut pod.spec.as_mut().expect("it has a spec").containers[0]
}

#[tokio::test]
async fn matched_is_the_sum_of_the_others() -> anyhow::Result<()> {
    let stage = Stage::set("sum").await?;
    for number in 0..4 {
        stage.create(&with_probe(&format!("compliant-{number}"), "/ready")).await?;
    }
    for number in 0..3 {
        stage.create_pod(&format!("outdated-{number}"), &WEB).await?;
    }
    for number in 0..2 {
        stage.create(&without_port(&format!("refused-{number}"))).await?;
    }
    stage.create(&with_probe("pending", "/ready")).await?;
    stage.create_pod("other", &[("app", "db")]).await?;
    let gate = stage.tap.disturb(Disturbance::Hold, |exchange| exchange.writes("pods") && exchange.name == "pending");
    let _operator = stage.operator().await?;
    let spec = "
        selector: { matchLabels: { app: web } }
        labels: { team: shop }
        containers: [{ readinessProbe: { httpGet: { path: /ready, port: http } } }]
    ";
    stage.policy("standard", spec).await?;

    let counted = PodCounts { matched: 10, compliant: 4, outdated: 3, refused: 2, pending: 1 };
    let status = stage.status("standard", "all pods but one", |status| status.pods == Some(counted)).await?;
    assert_eq!(
        condition(&status, "Compliant").unwrap().message,
        "6 of 10 pods are not compliant: 1 pending, 3 outdated, 2 refused; writes are under way"
    );
    gate.end();
    let counted = PodCounts { compliant: 5, pending: 0, ..counted };
    let status = stage.status("standard", "all pods", |status| status.pods == Some(counted)).await?;
    assert_eq!(verdict(&status, "Compliant"), "False Refused");
    Ok(())
}

#[tokio::test]
async fn counts_follow_pods_that_come_change_and_go() -> anyhow::Result<()> {
    let stage = Stage::set("follow").await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", "{ selector: { matchLabels: { app: web } }, terminationGracePeriodSeconds: 60 }").await?;
    stage.settled("standard", 0).await?;
    for number in 1..=3 {
        stage.create_pod(&format!("web-{number}"), &WEB).await?;
        assert_eq!(stage.settled("standard", number).await?.pods.unwrap().outdated, number);
    }
    stage.change_pod("web-1", json!({ "metadata": { "labels": { "app": "db" } } })).await?;
    stage.settled("standard", 2).await?;
    objects::set_phase(&stage.pods, "web-2", "Failed").await?;
    stage.settled("standard", 1).await?;
    stage.delete_pod("web-3").await?;
    let status = stage.settled("standard", 0).await?;
    assert_eq!(verdict(&status, "Compliant"), "True NoPods");
    Ok(())
}

#[tokio::test]
async fn what_is_gone_is_forgotten() -> anyhow::Result<()> {
    let stage = Stage::set("forgotten").await?;
    let operator = stage.operator().await?;
    stage.policy("standard", "{ selector: {}, labels: { team: shop } }").await?;
    for number in 0..3 {
        stage.create_pod(&format!("web-{number}"), &WEB).await?;
    }
    stage.settled("standard", 3).await?;
    let known = async |what: &str, pods: u32, policies: u32| {
        eventually(what, DEADLINE, async || {
            let text = operator.metrics.to_text();
            let sum = |metric: &str| -> u32 {
                let samples = text.lines().filter(|line| line.starts_with(metric));
                samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u32>().ok()).sum()
            };
            Ok(Seen::when((sum("podpolicy_pods{"), sum("podpolicy_policies{")) == (pods, policies), &text))
        })
        .await
    };
    known("all to be known", 3, 1).await?;
    for number in 0..3 {
        stage.delete_pod(&format!("web-{number}")).await?;
    }
    known("the pods to be forgotten", 0, 1).await?;
    stage.delete_policy("standard").await?;
    known("the policy to be forgotten", 0, 0).await
}

#[tokio::test]
async fn findings_are_ten_at_most_one_for_each_reason_and_field_those_with_most_pods_first() -> anyhow::Result<()> {
    let stage = Stage::set("findings").await?;
    let keys: Vec<_> = (1..=12).map(|number| format!("k{number:02}")).collect();
    let own = |keys: &[String]| json!({ "metadata": { "labels": keys.iter().map(|key| (key.clone(), json!("own"))).collect::<serde_json::Map<_, _>>() } });
    // Of twelve labels the pods declare these themselves.
    for (name, keys) in [("a", &keys[..]), ("b", &keys[10..]), ("c", &keys[11..])] {
        stage.create_pod(name, &WEB).await?;
        stage.change_pod(name, own(keys)).await?;
    }
    let _operator = stage.operator().await?;
    let labels = keys.iter().map(|key| format!("{key}: policy")).collect::<Vec<_>>().join(", ");
    stage.policy("standard", &format!("{{ selector: {{ matchLabels: {{ app: web }} }}, labels: {{ {labels} }} }}")).await?;
    let status = stage.settled("standard", 3).await?;
    let findings: Vec<_> = status.findings.iter().map(|finding| format!("{} {} {}", finding.reason, finding.field, finding.pods)).collect();
    let mut wanted = vec!["Kept labels[k12] 3".to_owned(), "Kept labels[k11] 2".to_owned()];
    wanted.extend(keys[..8].iter().map(|key| format!("Kept labels[{key}] 1")));
    assert_eq!(findings, wanted);
    assert!(status.findings.iter().all(|finding| finding.example == "a"), "{:?}", status.findings);
    Ok(())
}

#[tokio::test]
async fn one_field_can_have_findings_for_several_reasons() -> anyhow::Result<()> {
    let stage = Stage::set("reasons").await?;
    stage.create(&with_probe("declares", "/own")).await?;
    stage.create(&without_port("lacks")).await?;
    let mut once = objects::pod("once", &WEB);
    once.spec.as_mut().unwrap().restart_policy = Some("Never".to_owned());
    stage.create(&once).await?;
    let _operator = stage.operator().await?;
    let spec = "
        selector: { matchLabels: { app: web } }
        containers: [{ names: [web, api], readinessProbe: { httpGet: { path: /ready, port: http } } }]
    ";
    stage.policy("standard", spec).await?;
    let status = stage.settled("standard", 3).await?;
    let findings: Vec<_> = status
        .findings
        .iter()
        .map(|finding| format!("{} {} {} {}", finding.reason, finding.field, finding.pods, finding.example))
        .collect();
    assert_eq!(
        findings,
        [
            "ContainerNotFound containers[api] 3 declares",
            "PortNotFound containers[web].readinessProbe 1 lacks",
            "Kept containers[web].readinessProbe 1 declares",
            "RestartPolicy containers[web].readinessProbe 1 once",
        ]
    );
    assert_eq!(status.pods, Some(PodCounts { matched: 3, compliant: 2, refused: 1, ..PodCounts::default() }));
    Ok(())
}
