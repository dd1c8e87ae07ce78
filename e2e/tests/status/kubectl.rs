//! Policies as kubectl shows them and waits for them.

use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use podpolicy_api::ClusterPodPolicy;
use podpolicy_e2e::Stage;
use podpolicy_e2e::objects::FIELD_MANAGER;
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::tap::Disturbance;
use serde_json::json;

const STANDARD: &str = "{ selector: { matchLabels: { app: web } }, labels: { team: shop } }";

/// With what the API server adds nowhere in a list: kubectl, and Argo CD likewise, would find a difference there each time.
const FILE: &str = "
apiVersion: podpolicy.dev/v1alpha1
kind: PodPolicy
metadata: {name: standard}
spec:
  selector: {matchExpressions: [{key: app, operator: In, values: [web]}]}
  terminationGracePeriodSeconds: 60
  containers:
  - readinessProbe: {httpGet: {path: /ready, port: http, httpHeaders: [{name: a, value: b}]}}
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 20}
    startupProbe: {grpc: {port: 9000}}
    lifecycle: {preStop: {sleep: {seconds: 5}}, postStart: {exec: {command: [sh, -c, echo]}}}
  rollout: {strategy: Evict}
";

#[tokio::test]
async fn applying_the_same_file_once_more_changes_nothing() -> anyhow::Result<()> {
    let stage = Stage::set("apply-twice").await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, FILE)?;
    for outcome in ["created", "unchanged"] {
        let said = stage.kubectl(&["apply", "--validate=strict", "-f", &file.display().to_string()]).await?;
        assert_eq!(said, format!("podpolicy.podpolicy.dev/standard {outcome}\n"));
    }
    Ok(())
}

#[tokio::test]
async fn wait_for_the_condition_ready_returns_once_the_policy_is_in_force() -> anyhow::Result<()> {
    let stage = Stage::set("wait").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    stage.policy("standard", STANDARD).await?;
    let (waited, operator) =
        tokio::join!(stage.kubectl(&["wait", "--for=condition=Ready", "pp/standard", "--timeout=60s"]), stage.operator());
    assert_eq!(waited?, "podpolicy.podpolicy.dev/standard condition met\n");
    let _operator = operator?;
    assert_eq!(stage.pods.get("web").await?.labels()["team"], "shop");
    Ok(())
}

#[tokio::test]
async fn wait_after_a_change_waits_for_what_was_changed() -> anyhow::Result<()> {
    let stage = Stage::set("wait-change").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    stage.settled("standard", 1).await?;

    let gate = stage.tap.disturb(Disturbance::Hold, |exchange| exchange.writes("pods"));
    stage.policy("standard", &STANDARD.replace("shop", "sales")).await?;
    let waiting = ["wait", "--for=condition=Ready", "pp/standard"];
    let too_early = stage.kubectl(&[&waiting[..], &["--timeout=2s"]].concat()).await.unwrap_err();
    assert!(too_early.to_string().contains("timed out"), "{too_early:#}");
    gate.end();
    stage.kubectl(&[&waiting[..], &["--timeout=60s"]].concat()).await?;
    assert_eq!(stage.pods.get("web").await?.labels()["team"], "sales");
    Ok(())
}

#[tokio::test]
async fn wait_for_compliant_and_for_conflicted_works() -> anyhow::Result<()> {
    let stage = Stage::set("wait-others").await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    stage.kubectl(&["wait", "--for=condition=Compliant", "pp/standard", "--timeout=60s"]).await?;
    stage.kubectl(&["wait", "--for=condition=Conflicted=False", "pp/standard", "--timeout=60s"]).await?;
    stage.kubectl(&["wait", "--for=jsonpath={.status.pods.compliant}=1", "pp/standard", "--timeout=60s"]).await?;
    Ok(())
}

#[tokio::test]
async fn columns_say_how_a_policy_stands() -> anyhow::Result<()> {
    let stage = Stage::set("columns").await?;
    for name in ["web-0", "web-1"] {
        stage.create_pod(name, &[("app", "web")]).await?;
    }
    let _operator = stage.operator().await?;
    stage.policy("labels", STANDARD).await?;
    stage.policy("probes", "{ selector: { matchLabels: { app: web } }, terminationGracePeriodSeconds: 60 }").await?;
    stage.policy("refused", "{ selector: { matchLabels: { app: web } }, labels: { controller-uid: '1' } }").await?;
    stage.settled("labels", 2).await?;
    assert_eq!(verdict(&stage.settled("probes", 2).await?, "Compliant"), "False Outdated");
    stage.settled("refused", 2).await?;

    for name in ["podpolicies", "podpolicy", "pp", "podpolicies.podpolicy.dev"] {
        let text = stage.kubectl(&["get", name]).await?;
        let table = words(&text);
        assert_eq!(table[0], ["NAME", "READY", "REASON", "MATCHED", "COMPLIANT", "OUTDATED", "AGE"]);
        let rows: Vec<_> = table[1..].iter().map(|row| row[..6].join(" ")).collect();
        assert_eq!(rows, ["labels True InForce 2 2 0", "probes True InForce 2 0 2", "refused False Refused 2 0 0"]);
    }
    Ok(())
}

#[tokio::test]
async fn category_shows_both_kinds() -> anyhow::Result<()> {
    let stage = Stage::set("category").await?;
    let clusterwide: Api<ClusterPodPolicy> = Api::all(stage.client.clone());
    // No operator of these tests acts for it.
    let policy = json!({
        "apiVersion": "podpolicy.dev/v1alpha1",
        "kind": "ClusterPodPolicy",
        "metadata": { "name": stage.name() },
        "spec": { "selector": {}, "namespaceSelector": { "matchLabels": { "nowhere": "true" } }, "labels": { "team": "shop" } },
    });
    clusterwide.patch(stage.name(), &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(policy)).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    stage.settled("standard", 0).await?;

    let both = stage.kubectl(&["get", "pod-policies"]).await;
    let short = stage.kubectl(&["get", "cpp", stage.name()]).await;
    let left = clusterwide.get(stage.name()).await?;
    clusterwide.delete(&left.name_any(), &DeleteParams::default()).await?;

    let both = both?;
    let lines =
        ["podpolicy.podpolicy.dev/standard True InForce 0 0 0".to_owned(), format!("clusterpodpolicy.podpolicy.dev/{}", stage.name())];
    for line in lines {
        assert!(words(&both).iter().any(|row| row.join(" ").starts_with(&line)), "{line} is missing:\n{both}");
    }
    let headings = words(&both).iter().filter(|row| row.join(" ") == "NAME READY REASON MATCHED COMPLIANT OUTDATED AGE").count();
    assert_eq!(headings, 2, "{both}");
    assert!(short?.contains(stage.name()));
    assert_eq!(left.status, None, "an operator of one namespace leaves it alone");
    Ok(())
}

/// The words of each line that has some.
fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|line| !line.is_empty()).collect()
}
