//! The conditions of a policy, from the first moment on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt as _;
use podpolicy_api::{PodPolicy, PodPolicyStatus};
use podpolicy_e2e::policies::{self, condition, verdict};
use podpolicy_e2e::tap::Disturbance;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{History, Stage};
use serde_json::json;

const STANDARD: &str = "{ selector: { matchLabels: { app: web } }, labels: { team: shop } }";

/// Status and reason of Ready in each version of the policy.
fn ready(policy: &PodPolicy) -> String {
    policy.status.as_ref().map_or("none".to_owned(), |status| verdict(status, "Ready"))
}

#[tokio::test]
async fn first_status_says_that_ready_is_unknown() -> anyhow::Result<()> {
    let stage = Stage::set("first-status").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    stage.policy("standard", STANDARD).await?;
    let history = History::of(stage.policies.clone(), "standard").await?;
    let _operator = stage.operator().await?;
    stage.settled("standard", 1).await?;
    history.reaches(&stage.policies.get("standard").await?.resource_version().unwrap()).await?;

    let seen = history.map(ready);
    assert_eq!(seen[..2], ["none", "Unknown Pending"], "{seen:?}");
    assert_eq!(seen.last().unwrap(), "True InForce", "{seen:?}");
    assert!(seen[2..seen.len() - 1].iter().all(|verdict| verdict == "False Progressing"), "{seen:?}");
    let reconciling = history.map(|policy| policy.status.as_ref().map(|status| verdict(status, "Reconciling")));
    assert_eq!(reconciling[1].as_deref(), Some("True Pending"), "kstatus reads it as in progress");
    assert_eq!(reconciling.last().unwrap().as_deref(), Some(""));
    Ok(())
}

#[tokio::test]
async fn policy_created_anew_under_the_same_name_begins_with_unknown() -> anyhow::Result<()> {
    let stage = Stage::set("anew").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    stage.settled("standard", 1).await?;
    let history = History::of(stage.policies.clone(), "standard").await?;
    stage.delete_policy("standard").await?;
    stage.policy("standard", STANDARD).await?;
    stage.settled("standard", 1).await?;
    history.reaches(&stage.policies.get("standard").await?.resource_version().unwrap()).await?;
    let seen = history.map(ready);
    assert_eq!(seen[..3], ["True InForce", "none", "Unknown Pending"], "{seen:?}");
    assert_eq!(seen.last().unwrap(), "True InForce", "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn policy_that_selects_nothing_is_ready_and_says_so() -> anyhow::Result<()> {
    let stage = Stage::set("nothing").await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    let status = stage.settled("standard", 0).await?;
    assert_eq!(verdict(&status, "Accepted"), "True Accepted");
    assert_eq!(verdict(&status, "Ready"), "True InForce");
    assert_eq!(verdict(&status, "Compliant"), "True NoPods");
    assert_eq!(verdict(&status, "Conflicted"), "False NoConflict");
    assert_eq!(condition(&status, "Ready").unwrap().message, "in force; the policy selects no pod");
    Ok(())
}

#[tokio::test]
async fn what_no_pod_will_get_is_told_before_there_is_one() -> anyhow::Result<()> {
    let stage = Stage::set("foreseen").await?;
    let _operator = stage.operator().await?;
    let spec = "{
        selector: { matchLabels: { app: web } },
        labels: { team: shop, example.k8s.io/zone: a },
        containers: [{ livenessProbe: { exec: { command: ['true'] } }, readinessProbe: { httpGet: { port: 80, host: example.com } } }],
    }";
    stage.policy("standard", spec).await?;
    let refused = |status: &PodPolicyStatus| verdict(status, "Ready") == "False Refused";
    let status = policies::status(&stage.policies, "standard", "refused", refused).await?;
    let found: Vec<_> = status.findings.iter().map(|found| (found.reason.to_string(), found.field.as_str(), found.pods)).collect();
    let expected = [
        ("ProtectedKey", "labels[example.k8s.io/zone]"),
        ("HostNotAllowed", "containers[*].readinessProbe"),
        ("ExecNotAllowed", "containers[*].livenessProbe"),
    ];
    assert_eq!(found, expected.map(|(reason, field)| (reason.to_owned(), field, 0)));
    assert_eq!(verdict(&status, "Stalled"), "True Refused");
    let message = &condition(&status, "Ready").unwrap().message;
    assert!(message.contains("selects no pod") && message.contains("labels[example.k8s.io/zone]"), "{message}");

    // From then on pods say it.
    stage.create_pod("web", &[("app", "web")]).await?;
    let status =
        policies::status(&stage.policies, "standard", "seen on a pod", |status| !status.findings.iter().any(|f| f.pods == 0)).await?;
    let found: Vec<_> = status.findings.iter().map(|found| (found.field.as_str(), found.pods)).collect();
    assert_eq!(found, expected.map(|(_, field)| (field.replace('*', "web"), 1)).each_ref().map(|(field, pods)| (field.as_str(), *pods)));
    Ok(())
}

#[tokio::test]
async fn observed_generation_follows_the_spec_in_the_status_and_in_each_condition() -> anyhow::Result<()> {
    let stage = Stage::set("generation").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    for (generation, team) in (1..).zip(["shop", "sales", "shop"]) {
        let policy = stage.policy("standard", &STANDARD.replace("shop", team)).await?;
        assert_eq!(policy.metadata.generation, Some(generation));
        let status = stage.status("standard", "its pod", |status| status.pods.is_some_and(|pods| pods.compliant == 1)).await?;
        assert_eq!(status.observed_generation, Some(generation));
        assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(generation)), "{:?}", status.conditions);
        assert_eq!(stage.pods.get("web").await?.labels()["team"], team, "what the status speaks of is done");
    }
    Ok(())
}

#[tokio::test]
async fn transition_time_moves_only_when_the_status_of_the_condition_changes() -> anyhow::Result<()> {
    let stage = Stage::set("transition").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    let first = stage.settled("standard", 1).await?;
    next_second().await?;

    // Another generation and other messages, but the same truth.
    stage.policy("standard", &STANDARD.replace("labels:", "priority: 5, labels:")).await?;
    stage.create_pod("second", &[("app", "web"), ("team", "shop")]).await?;
    let second = stage.settled("standard", 2).await?;
    let pairs: Vec<_> = ["Accepted", "Ready", "Compliant", "Conflicted"]
        .map(|kind| (condition(&first, kind).unwrap(), condition(&second, kind).unwrap()))
        .into();
    for (before, after) in &pairs {
        assert_eq!((&after.status, &after.last_transition_time), (&before.status, &before.last_transition_time), "{after:?}");
        assert_eq!(after.observed_generation, Some(2));
    }
    assert!(pairs.iter().any(|(before, after)| before.message != after.message), "{pairs:?}");

    // Only Compliant is no longer true.
    stage.policy("standard", &STANDARD.replace("labels:", "terminationGracePeriodSeconds: 60, labels:")).await?;
    let third = stage.settled("standard", 2).await?;
    let moved = |kind| condition(&third, kind).unwrap().last_transition_time != condition(&second, kind).unwrap().last_transition_time;
    let moved: BTreeMap<_, _> = ["Accepted", "Ready", "Compliant", "Conflicted"].map(|kind| (kind, moved(kind))).into();
    assert_eq!(moved, [("Accepted", false), ("Ready", false), ("Compliant", true), ("Conflicted", false)].into());
    Ok(())
}

/// Times in conditions are whole seconds: waits until one that moves could be seen to move.
async fn next_second() -> anyhow::Result<()> {
    let now = Timestamp::now().as_second();
    eventually("the next second", DEADLINE, async || Ok(Seen::when(Timestamp::now().as_second() > now, now))).await
}

#[tokio::test]
async fn reconciling_is_there_while_pods_are_being_written_and_no_longer() -> anyhow::Result<()> {
    let stage = Stage::set("reconciling").await?;
    for name in ["held", "free"] {
        stage.create_pod(name, &[("app", "web")]).await?;
    }
    let gate = stage.tap.disturb(Disturbance::Hold, |exchange| exchange.writes("pods") && exchange.name == "held");
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    let status = stage.status("standard", "one pod done", |status| status.pods.is_some_and(|pods| pods.compliant == 1)).await?;
    assert_eq!(verdict(&status, "Ready"), "False Progressing");
    assert_eq!(verdict(&status, "Reconciling"), "True Progressing");
    assert_eq!(verdict(&status, "Compliant"), "False Progressing");
    assert_eq!(verdict(&status, "Stalled"), "");
    assert_eq!(status.pods.unwrap().pending, 1);
    gate.end();
    let status = stage.settled("standard", 2).await?;
    assert_eq!((verdict(&status, "Ready"), verdict(&status, "Reconciling")), ("True InForce".to_owned(), String::new()));
    Ok(())
}

#[tokio::test]
async fn refused_field_stalls_the_policy_but_not_its_other_fields() -> anyhow::Result<()> {
    let stage = Stage::set("refused").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    let spec = "{ selector: { matchLabels: { app: web } }, labels: { team: shop, pod-template-hash: '1' }, annotations: { prometheus.io.k8s.io/scrape: 'true' } }";
    stage.policy("standard", spec).await?;
    stage.label("web", "team", Some("shop")).await?;
    let status = stage.settled("standard", 1).await?;
    assert_eq!(verdict(&status, "Accepted"), "True Accepted");
    assert_eq!(verdict(&status, "Ready"), "False Refused");
    assert_eq!(verdict(&status, "Stalled"), "True Refused");
    assert_eq!(verdict(&status, "Compliant"), "False Refused");
    assert_eq!(status.pods.unwrap().refused, 1);
    let message = &condition(&status, "Ready").unwrap().message;
    assert!(message.contains("[pod-template-hash]") || message.contains("[prometheus.io.k8s.io/scrape]"), "{message}");
    let findings: Vec<_> = status.findings.iter().map(|finding| format!("{} {}", finding.reason, finding.field)).collect();
    assert_eq!(findings, ["ProtectedKey annotations[prometheus.io.k8s.io/scrape]", "ProtectedKey labels[pod-template-hash]"]);
    assert_eq!(stage.pods.get("web").await?.labels().get("pod-template-hash"), None);

    stage.policy("standard", STANDARD).await?;
    let status = stage.settled("standard", 1).await?;
    assert_eq!((verdict(&status, "Ready").as_str(), verdict(&status, "Stalled").as_str()), ("True InForce", ""));
    Ok(())
}

#[tokio::test]
async fn status_that_somebody_spoils_is_written_again() -> anyhow::Result<()> {
    let stage = Stage::set("spoilt").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    let status = stage.settled("standard", 1).await?;
    let spoilt = json!({ "status": { "conditions": [], "pods": null, "observedGeneration": 77, "findings": null } });
    stage.policies.patch_status("standard", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(spoilt)).await?;
    let again = stage.settled("standard", 1).await?;
    assert_eq!((verdict(&again, "Ready"), again.pods, again.findings), (verdict(&status, "Ready"), status.pods, status.findings));
    Ok(())
}
