//! Admission of somebody else, which refuses what policies write, or changes it back: told with its words, tried again ever more
//! slowly, and done once it can be.

use kube::ResourceExt as _;
use podpolicy_api::PodPolicyStatus;
use podpolicy_e2e::backend::lacks_native;
use podpolicy_e2e::policies::{condition, verdict};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{Stage, objects, shared};
use serde_json::json;

const STANDARD: &str = "{ selector: { matchLabels: { app: web } }, labels: { team: shop, tier: front } }";

/// An admission policy for updates of pods in the stage's namespace, which it has as its name.
struct Admission {
    kind: &'static str,
}

impl Admission {
    /// Creates it and waits until it is in force, which nothing but a try can tell.
    async fn set(stage: &Stage, kind: &'static str, rules: &str) -> anyhow::Result<Self> {
        let name = stage.name();
        let actions = if kind == "ValidatingAdmissionPolicy" { "validationActions: [Deny]" } else { "" };
        let admission = format!(
            "
            apiVersion: admissionregistration.k8s.io/v1
            kind: {kind}
            metadata: {{ name: {name} }}
            spec:
              matchConstraints:
                resourceRules: [{{ apiGroups: [''], apiVersions: [v1], operations: [UPDATE], resources: [pods] }}]
              {rules}
            ---
            apiVersion: admissionregistration.k8s.io/v1
            kind: {kind}Binding
            metadata: {{ name: {name} }}
            spec:
              policyName: {name}
              {actions}
              matchResources: {{ namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {name} }} }} }}
            "
        );
        objects::apply(&stage.client, name, &admission).await?;
        stage.create_pod("probe", &[]).await?;
        eventually("the admission policy to be in force", DEADLINE, async || {
            let changed = stage.change_pod("probe", json!({ "metadata": { "labels": { "team": "probe" } } })).await;
            let in_force = changed.is_err() || !stage.pods.get("probe").await?.labels().contains_key("team");
            if !in_force {
                stage.change_pod("probe", json!({ "metadata": { "labels": { "team": null } } })).await?;
            }
            Ok(Seen::when(in_force, "the probe could be labelled"))
        })
        .await?;
        Ok(Self { kind })
    }

    async fn delete(self, stage: &Stage) -> anyhow::Result<()> {
        let kind = self.kind.to_lowercase();
        stage
            .kubectl(&["delete", &format!("{kind}.admissionregistration.k8s.io,{kind}binding.admissionregistration.k8s.io"), stage.name()])
            .await?;
        Ok(())
    }
}

fn write_failed(status: &PodPolicyStatus) -> bool {
    status.findings.iter().any(|finding| finding.reason.to_string() == "WriteFailed")
}

async fn comes_to_rest(stage: &Stage) -> anyhow::Result<()> {
    let pod = stage.label("web", "team", Some("shop")).await?;
    assert_eq!(pod.labels()["tier"], "front");
    let status = stage.settled("standard", 1).await?;
    assert_eq!((status.findings.len(), verdict(&status, "Ready").as_str()), (0, "True InForce"));
    Ok(())
}

#[tokio::test]
async fn write_that_admission_refuses_is_told_with_its_words_and_done_later() -> anyhow::Result<()> {
    let stage = Stage::set("denied").await?;
    let rules = "validations: [{ expression: '!has(object.metadata.labels) || !(\"team\" in object.metadata.labels)', message: nobody may set team }]";
    let admission = Admission::set(&stage, "ValidatingAdmissionPolicy", rules).await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    let status = stage.status("standard", "a write that failed", write_failed).await?;
    assert!(status.findings[0].message.contains("nobody may set team"), "{}", status.findings[0].message);
    assert_eq!(verdict(&status, "Ready"), "False WriteFailed");
    admission.delete(&stage).await?;
    comes_to_rest(&stage).await
}

#[tokio::test]
async fn write_that_admission_forbids_is_no_lack_of_rights() -> anyhow::Result<()> {
    let stage = Stage::set("forbidden").await?;
    // As policy engines do: with the code that the API server itself has for missing rights.
    let rules = "validations: [{ expression: '!has(object.metadata.labels) || !(\"team\" in object.metadata.labels)', reason: Forbidden, message: you cannot set team }]";
    let admission = Admission::set(&stage, "ValidatingAdmissionPolicy", rules).await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    let status = stage.status("standard", "a write that failed", write_failed).await?;
    assert_eq!((verdict(&status, "Ready").as_str(), verdict(&status, "Stalled").as_str()), ("False WriteFailed", ""));
    let message = &condition(&status, "Ready").unwrap().message;
    assert!(message.contains("you cannot set team") && !message.contains("grant"), "{message}");
    admission.delete(&stage).await?;
    comes_to_rest(&stage).await
}

#[tokio::test]
async fn write_that_admission_changes_back_is_told_and_tried_ever_more_slowly() -> anyhow::Result<()> {
    if lacks_native(shared().await).await? {
        return Ok(());
    }
    let stage = Stage::set("changed-back").await?;
    let rules = "failurePolicy: Fail
              reinvocationPolicy: Never
              matchConditions: [{ name: labelled, expression: 'has(object.metadata.labels) && \"team\" in object.metadata.labels' }]
              mutations: [{ patchType: JSONPatch, jsonPatch: { expression: '[JSONPatch{op: \"remove\", path: \"/metadata/labels/team\"}]' } }]";
    let admission = Admission::set(&stage, "MutatingAdmissionPolicy", rules).await?;
    stage.create_pod("web", &[("app", "web")]).await?;
    let _operator = stage.operator().await?;
    stage.policy("standard", STANDARD).await?;
    let status = stage.status("standard", "a write that failed", write_failed).await?;
    assert!(status.findings[0].message.contains("changed back"), "{}", status.findings[0].message);
    assert_eq!(verdict(&status, "Ready"), "False WriteFailed");
    let pod = stage.pods.get("web").await?;
    assert_eq!((pod.labels().get("team"), pod.labels()["tier"].as_str()), (None, "front"), "the rest is taken");
    // What is left of the first is tried at once, then after waits that grow: by now a hot loop would have sent hundreds.
    stage.pass().await?;
    let tries = stage.tap.writes("pods", "web").await?.len();
    assert!(tries <= 6, "{tries}");

    admission.delete(&stage).await?;
    comes_to_rest(&stage).await
}
