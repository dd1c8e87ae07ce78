//! When the operator applies commands.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use podpolicy_api::PodPolicyStatus;
use podpolicy_e2e::policies::{self, verdict};
use podpolicy_e2e::tap::{Exchange, Outcome};
use podpolicy_e2e::wait::{self, DEADLINE, Seen, eventually};
use podpolicy_e2e::{History, objects};
use serde_json::json;

use crate::scene::{GUARD, Scene, delete_guard, draining, exec_findings, guard_is_old_enough, install_guard, plane};

const NO_GUARD: &str = "kubectl apply -k config/guard";
const NOT_CHECKED: &str = "the policy is older than the guard";

#[tokio::test]
async fn without_a_guard_commands_are_refused_and_the_rest_is_done() -> anyhow::Result<()> {
    let plane = plane().await?;
    let scene = Scene::set(&plane).await?;
    let operator = scene.operator().await?;
    scene.policies.create(&PostParams::default(), &draining("web", "drain")).await?;
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), scene.namespace.name());
    seen_by_a_pod(&scene, "web").await?;
    scene.refused("web", NO_GUARD).await?;
    // Told of the policy first (containers[*]), of its pod when the operator has met it.
    let at_rest = |status: &PodPolicyStatus| {
        verdict(status, "Ready") == "False Refused"
            && exec_findings(status).all(|finding| finding.field == "containers[web].lifecycle.preStop")
    };
    let status = policies::status(&scene.policies, "web", "the hook of the pod's container refused", at_rest).await?;
    assert_eq!(exec_findings(&status).count(), 1, "{status:#?}");
    let reported: Vec<_> = exec_findings(&status).map(|finding| finding.message.clone()).collect();
    assert_eq!(scene.refused_to_readers().await?, reported);
    let web = "the label of the policy";
    wait::object(&pods, "web", web, DEADLINE, |pod: Option<&Pod>| {
        pod.and_then(|pod| pod.metadata.labels.as_ref()?.get("team")).is_some_and(|team| team == "shop")
    })
    .await?;
    scene.new_pods_run("web", None).await?;
    operator.stop().await
}

#[tokio::test]
async fn policy_older_than_the_guard_waits_until_somebody_who_may_edits_it() -> anyhow::Result<()> {
    let plane = plane().await?;
    let scene = Scene::set(&plane).await?;
    let operator = scene.operator().await?;
    scene.policies.create(&PostParams::default(), &draining("old", "drain")).await?;
    seen_by_a_pod(&scene, "old").await?;
    scene.refused("old", NO_GUARD).await?;

    install_guard(&plane).await?;
    scene.refused("old", NOT_CHECKED).await?;
    guard_is_old_enough(&plane).await?;
    scene.policies.create(&PostParams::default(), &draining("new", "drain")).await?;
    scene.new_pods_run("new", Some("drain")).await?;
    scene.remembered("new").await?;
    scene.new_pods_run("old", None).await?;
    scene.refused("old", NOT_CHECKED).await?;

    // Only metadata: nobody was checked.
    patch(&scene, "old", json!({ "metadata": { "labels": { "a": "b" } } })).await?;
    scene.refused("old", NOT_CHECKED).await?;
    operator.stop().await?;
    // An edit that nobody who remembers has seen is not known to be checked.
    let before = lists(&scene);
    let operator = scene.operator().await?;
    scene.refused("old", NOT_CHECKED).await?;
    baseline_is_known(&scene, before + 2).await?;
    patch(&scene, "old", json!({ "spec": { "labels": { "team": "bank" } } })).await?;
    scene.new_pods_run("old", Some("drain")).await?;
    let status = scene.remembered("old").await?;
    assert_eq!(exec_findings(&status).count(), 0, "{status:#?}");

    let at_rest = |status: &PodPolicyStatus| verdict(status, "Ready") == "True InForce" && status.exec_checked.is_some();
    policies::status(&scene.policies, "old", "in force", at_rest).await?;
    operator.stop().await?;
    let history = History::of(scene.policies.clone(), "old").await?;
    let operator = scene.operator().await?;
    // When it has remembered this, it has decided on everything.
    patch(&scene, "new", json!({ "spec": { "labels": { "team": "bank" } } })).await?;
    scene.remembered("new").await?;
    scene.new_pods_run("old", Some("drain")).await?;
    history.reaches(&scene.policies.get("old").await?.resource_version().unwrap_or_default()).await?;
    let said = history.map(|policy| {
        let status = policy.status.as_ref();
        status.map(|status| (status.findings.clone(), status.exec_checked.clone()))
    });
    assert_eq!(said.len(), 1, "a restart takes nothing away, not even for a moment: {said:#?}");
    operator.stop().await
}

#[tokio::test]
async fn commands_are_refused_again_when_the_guard_goes() -> anyhow::Result<()> {
    let plane = plane().await?;
    let scene = Scene::set(&plane).await?;
    install_guard(&plane).await?;
    guard_is_old_enough(&plane).await?;
    for name in ["kept", "edited"] {
        scene.policies.create(&PostParams::default(), &draining(name, "drain")).await?;
        seen_by_a_pod(&scene, name).await?;
    }
    let operator = scene.operator().await?;
    for name in ["kept", "edited"] {
        scene.new_pods_run(name, Some("drain")).await?;
        scene.remembered(name).await?;
    }
    assert_eq!(scene.refused_to_readers().await?, [""; 0]);

    delete_guard(&plane).await?;
    let refused = scene.refused_to_readers().await?;
    assert!(refused.len() == 2 && refused.iter().all(|message| message.contains(NO_GUARD)), "{refused:#?}");
    for name in ["kept", "edited"] {
        scene.refused(name, NO_GUARD).await?;
        scene.new_pods_run(name, None).await?;
    }
    // Written while nobody was looking.
    patch(&scene, "edited", json!({ "spec": { "containers": [{ "lifecycle": { "preStop": { "exec": { "command": ["steal"] } } } }] } }))
        .await?;
    scene.refused("edited", NO_GUARD).await?;

    install_guard(&plane).await?;
    // What was checked once needs no second check.
    scene.new_pods_run("kept", Some("drain")).await?;
    scene.refused("edited", NOT_CHECKED).await?;
    scene.new_pods_run("edited", None).await?;

    // A guard that only warns is none.
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(plane.client());
    let warn = json!({ "spec": { "validationActions": ["Warn"] } });
    bindings.patch(GUARD, &PatchParams::default(), &Patch::Merge(warn)).await?;
    scene
        .refused("kept", "ValidatingAdmissionPolicyBinding podpolicy-guard is not the one that this version of the operator knows")
        .await?;
    scene.new_pods_run("kept", None).await?;
    operator.stop().await
}

#[tokio::test]
async fn guard_is_asked_about_only_where_policies_have_commands() -> anyhow::Result<()> {
    let plane = plane().await?;
    let scene = Scene::set(&plane).await?;
    let operator = scene.operator().await?;
    let asked = || scene.tap.exchanges().iter().any(|exchange| exchange.resource.starts_with("validatingadmissionpolic"));
    scene
        .policies
        .create(&PostParams::default(), &crate::scene::policy("plain", &json!({ "selector": {}, "labels": { "team": "shop" } })))
        .await?;
    podpolicy_e2e::policies::in_force(&scene.policies, "plain", 0).await?;
    assert!(!asked());
    scene.policies.create(&PostParams::default(), &draining("web", "drain")).await?;
    eventually("the operator to look at the guard", DEADLINE, async || Ok(Seen::when(asked(), "not yet"))).await?;
    scene.policies.delete("web", &DeleteParams::default()).await?;
    operator.stop().await
}

/// Findings are about pods: this is one of the policy's.
async fn seen_by_a_pod(scene: &Scene<'_>, app: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), scene.namespace.name());
    pods.create(&PostParams::default(), &objects::pod(app, &[("app", app)])).await?;
    Ok(())
}

/// How often operators have listed the policies.
fn lists(scene: &Scene<'_>) -> usize {
    let is_list = |sent: &&Exchange| sent.resource == "podpolicies" && sent.name.is_empty() && !sent.watch;
    scene.tap.exchanges().iter().filter(is_list).filter(|sent| sent.outcome == Outcome::Answered(200)).count()
}

/// Waits until operators have listed the policies so often: first all, then which generations there are when the guard counts.
async fn baseline_is_known(scene: &Scene<'_>, lists: usize) -> anyhow::Result<()> {
    eventually("the operator to know which generations the guard has found", DEADLINE, async || {
        let listed = self::lists(scene);
        Ok(Seen::when(listed >= lists, listed))
    })
    .await
}

async fn patch(scene: &Scene<'_>, name: &str, patch: serde_json::Value) -> anyhow::Result<()> {
    scene.policies.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}
