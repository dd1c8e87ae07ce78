//! Policies that say different things about one field: one wins, both say so, and nothing flaps.

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use podpolicy_api::PodPolicyStatus;
use podpolicy_e2e::Stage;
use podpolicy_e2e::policies::{condition, verdict};
use podpolicy_e2e::stage::record;
use serde_json::json;

fn message<'a>(status: &'a PodPolicyStatus, kind: &str) -> &'a str {
    condition(status, kind).map_or("", |condition| &condition.message)
}

fn spec(priority: i32, precedence: &str, team: &str) -> String {
    format!(
        "{{ selector: {{ matchLabels: {{ app: web }} }}, priority: {priority}, precedence: {precedence}, labels: {{ team: {team}, {team}: 'true' }} }}"
    )
}

#[tokio::test]
async fn two_policies_that_fight_over_a_label_never_flap() -> anyhow::Result<()> {
    let stage = Stage::set("fight").await?;
    for name in ["web-0", "web-1"] {
        stage.create_pod(name, &[("app", "web"), ("team", "none")]).await?;
    }
    let operator = stage.operator().await?;
    stage.policy("weak", &spec(1, "Policy", "sales")).await?;
    stage.label("web-0", "team", Some("sales")).await?;
    stage.policy("strong", &spec(2, "Policy", "shop")).await?;
    for name in ["web-0", "web-1"] {
        let pod = stage.label(name, "team", Some("shop")).await?;
        assert_eq!(record(&pod)["labels"]["team"], json!({ "by": "PodPolicy/strong", "value": "shop", "was": "none" }));
        assert!(pod.labels().contains_key("sales"), "each policy still sets what nobody else claims");
    }

    let weak = stage.status("weak", "a conflict", |status| verdict(status, "Conflicted") == "True Overridden").await?;
    let strong = stage.status("strong", "a conflict", |status| verdict(status, "Conflicted") == "True Overrides").await?;
    let names = [format!("PodPolicy {}/strong", stage.name()), format!("PodPolicy {}/weak", stage.name())];
    for (status, name) in [(&weak, &names[0]), (&strong, &names[1])] {
        let message = message(status, "Conflicted");
        assert!(message.contains(name.as_str()) && message.contains("labels[team]"), "{message}");
        assert_eq!((verdict(status, "Ready").as_str(), verdict(status, "Compliant").as_str()), ("True InForce", "True AllCompliant"));
    }
    assert_eq!((weak.findings[0].reason.to_string().as_str(), weak.findings[0].pods), ("Overridden", 2));
    assert_eq!(strong.findings, []);

    stage.pass().await?;
    let (settled, sent) = (stage.versions().await?, stage.changes_sent());
    stage.pass().await?;
    assert_eq!(stage.versions().await?, settled);

    // Whichever is seen last: the order in which they come does not count.
    for round in ["strong", "weak", "strong"] {
        touch(&stage, round).await?;
        stage.pass().await?;
        let touched = stage.versions().await?;
        let pods = |versions: &std::collections::BTreeMap<String, String>| {
            versions.iter().filter(|(name, _)| name.starts_with("pod/")).map(|(_, version)| version.clone()).collect::<Vec<_>>()
        };
        assert_eq!(pods(&touched), pods(&settled), "{round} was touched");
        stage.pass().await?;
        assert_eq!(stage.versions().await?, touched);
    }

    operator.stop().await?;
    let before = stage.versions().await?;
    let _operator = stage.operator().await?;
    stage.pass().await?;
    assert_eq!((stage.versions().await?, stage.changes_sent()), (before, sent), "all the while nothing was sent");
    Ok(())
}

/// Writes to the policy without changing its spec.
async fn touch(stage: &Stage, name: &str) -> anyhow::Result<()> {
    let now = stage.policies.get(name).await?.resource_version();
    stage
        .policies
        .patch(name, &PatchParams::default(), &Patch::Merge(json!({ "metadata": { "annotations": { "touched": now } } })))
        .await?;
    Ok(())
}

#[tokio::test]
async fn conflict_ends_when_the_policies_agree_or_one_goes() -> anyhow::Result<()> {
    let stage = Stage::set("peace").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("weak", &spec(1, "Workload", "sales")).await?;
    stage.policy("strong", &spec(2, "Workload", "shop")).await?;
    stage.status("weak", "a conflict", |status| verdict(status, "Conflicted") == "True Overridden").await?;

    stage.policy("weak", &spec(1, "Workload", "shop")).await?;
    for name in ["weak", "strong"] {
        let status = stage.status(name, "no conflict", |status| verdict(status, "Conflicted") == "False NoConflict").await?;
        assert_eq!(status.findings, []);
    }

    stage.policy("weak", &spec(1, "Workload", "sales")).await?;
    stage.status("weak", "a conflict", |status| verdict(status, "Conflicted") == "True Overridden").await?;
    stage.delete_policy("strong").await?;
    let status = stage.status("weak", "no conflict", |status| verdict(status, "Conflicted") == "False NoConflict").await?;
    assert_eq!(status.findings, []);
    let pod = stage.label("web", "team", Some("sales")).await?;
    assert!(!pod.labels().contains_key("shop"));
    Ok(())
}

#[tokio::test]
async fn higher_priority_wins_whoever_was_first_and_changes_of_priority_count_at_once() -> anyhow::Result<()> {
    let stage = Stage::set("priority").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("first", &spec(0, "Workload", "shop")).await?;
    stage.label("web", "team", Some("shop")).await?;
    stage.policy("second", &spec(10, "Workload", "sales")).await?;
    stage.label("web", "team", Some("sales")).await?;
    stage.policy("first", &spec(11, "Workload", "shop")).await?;
    stage.label("web", "team", Some("shop")).await?;
    stage.policy("second", &spec(-10, "Workload", "sales")).await?;
    stage.settled("second", 1).await?;
    assert_eq!(stage.pods.get("web").await?.labels()["team"], "shop");
    Ok(())
}

#[tokio::test]
async fn audit_policy_takes_nothing_from_one_that_enforces() -> anyhow::Result<()> {
    let stage = Stage::set("audit-fight").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage
        .policy(
            "audit",
            "{ selector: { matchLabels: { app: web } }, priority: 10, enforcement: Audit, precedence: Policy, labels: { team: sales } }",
        )
        .await?;
    stage.policy("enforce", "{ selector: { matchLabels: { app: web } }, labels: { team: shop } }").await?;
    stage.label("web", "team", Some("shop")).await?;
    let status = stage.settled("enforce", 1).await?;
    assert_eq!((verdict(&status, "Conflicted").as_str(), status.findings.len()), ("False NoConflict", 0));
    let status = stage
        .status("audit", "a finding on the pod as it is", |status| {
            status.findings.iter().any(|finding| finding.reason.to_string() == "WouldChange" && finding.field == "labels[team]")
        })
        .await?;
    assert_eq!(status.pods.unwrap().pending, 1);
    stage.pass().await?;
    assert_eq!(stage.pods.get("web").await?.labels()["team"], "shop");
    Ok(())
}
