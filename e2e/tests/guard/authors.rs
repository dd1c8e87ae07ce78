//! Who may write commands into policies.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use podpolicy_api::{ClusterPodPolicy, PodPolicy};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, objects};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::scene::{self, Scene, draining, policy};

/// Where a policy can have a command: the field, and what a container rule says.
fn commands() -> [(&'static str, Value); 5] {
    let exec = json!({ "exec": { "command": ["true"] } });
    [
        ("livenessProbe.exec", json!({ "livenessProbe": exec })),
        ("readinessProbe.exec", json!({ "readinessProbe": exec })),
        ("startupProbe.exec", json!({ "startupProbe": exec })),
        ("lifecycle.postStart.exec", json!({ "lifecycle": { "postStart": exec } })),
        ("lifecycle.preStop.exec", json!({ "lifecycle": { "preStop": exec } })),
    ]
}

#[tokio::test]
async fn commands_are_refused_from_who_may_not_run_them_in_the_pods() -> anyhow::Result<()> {
    let scene = Scene::set(guarded().await?).await?;
    let editor = scene.policies_of(&scene.person("editor", &["podpolicy-editor"]).await?);
    let runner = scene.policies_of(&scene.person("runner", &["podpolicy-editor", "runner"]).await?);
    comes_through(&editor).await?;
    for (number, (field, rule)) in commands().into_iter().enumerate() {
        // The second rule has it: the message says which.
        let with_command =
            policy(&format!("p{number}"), &json!({ "selector": {}, "containers": [{ "livenessProbe": { "periodSeconds": 5 } }, rule] }));
        let message = refusal(editor.create(&PostParams::default(), &with_command).await);
        for words in
            [format!("spec.containers[1].{field}: "), format!("create pods/exec in namespace {}", scene.namespace), "use httpGet".into()]
        {
            assert!(message.contains(&words), "{words}: {message}");
        }
        may_write(&runner, &with_command).await?;
    }
    Ok(())
}

#[tokio::test]
async fn each_edit_of_a_spec_with_commands_needs_the_right_and_no_other_edit_does() -> anyhow::Result<()> {
    let scene = Scene::set(guarded().await?).await?;
    let editor = scene.policies_of(&scene.person("editor", &["podpolicy-editor"]).await?);
    let runner = scene.policies_of(&scene.person("runner", &["podpolicy-editor", "runner"]).await?);
    comes_through(&editor).await?;
    may_write(&runner, &draining("web", "drain")).await?;
    edit(&editor, "web", &json!({ "metadata": { "labels": { "team": "shop" }, "annotations": { "note": "a" } } })).await?;
    let of_spec = json!({ "spec": { "labels": { "team": "bank" } } });
    assert!(refusal(edit(&editor, "web", &of_spec).await).contains("spec.containers[0].lifecycle.preStop.exec"));
    edit(&runner, "web", &of_spec).await?;
    // Who may not write commands may always take them away.
    edit(&editor, "web", &json!({ "spec": { "containers": null } })).await?;
    edit(&editor, "web", &json!({ "spec": { "labels": { "team": "bakery" } } })).await?;
    let back = json!({ "spec": { "containers": [{ "livenessProbe": { "exec": { "command": ["true"] } } }] } });
    assert!(refusal(edit(&editor, "web", &back).await).contains("spec.containers[0].livenessProbe.exec"));
    editor.delete("web", &DeleteParams::default()).await?;
    Ok(())
}

#[tokio::test]
async fn command_in_a_cluster_policy_needs_the_right_in_all_namespaces() -> anyhow::Result<()> {
    let scene = Scene::set(guarded().await?).await?;
    let client = scene.person("runner", &["runner"]).await?;
    scene.bind("ClusterRoleBinding", "runner", "clusterpodpolicy-editor").await?;
    let policies: Api<ClusterPodPolicy> = Api::all(client);
    let name = scene.namespace.name();
    // It selects no pod: other tests have theirs on this control plane.
    let spec = json!({ "selector": { "matchLabels": { "app": "none" } }, "containers": [{ "livenessProbe": { "exec": { "command": ["true"] } } }] });
    let policy = json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "ClusterPodPolicy", "metadata": { "name": name }, "spec": spec });
    let policy: ClusterPodPolicy = serde_json::from_value(policy)?;
    eventually("a refusal for the lack of the right", DEADLINE, async || {
        let message = refusal(policies.create(&PostParams::default(), &policy).await);
        Ok(Seen::when(message.contains("only who may create pods/exec in all namespaces"), message))
    })
    .await?;
    scene.bind("ClusterRoleBinding", "runner", "runner").await?;
    may_write(&policies, &policy).await?;
    policies.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

#[tokio::test]
async fn guard_is_in_the_way_of_nothing_else() -> anyhow::Result<()> {
    let scene = Scene::set(guarded().await?).await?;
    let editor = scene.policies_of(&scene.person("editor", &["podpolicy-editor"]).await?);
    comes_through(&editor).await?;
    scene.policies.create(&PostParams::default(), &draining("web", "drain")).await?;
    let condition = |kind: &str| {
        json!({ "status": { "conditions": [{
            "type": kind, "status": "True", "reason": "Tested", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] } })
    };
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch_status = async |params: &PatchParams, kind| scene.policies.patch_status("web", params, &Patch::Merge(condition(kind))).await;
    patch_status(&dry_run, "Ready").await?;
    patch_status(&PatchParams::default(), "Ready").await?;
    patch_status(&PatchParams::default(), "podpolicy.dev/Guarded").await?;
    let question = refusal(patch_status(&dry_run, "podpolicy.dev/Guarded").await);
    assert!(question.contains("is the operator's question whether this guard is in force"), "{question}");
    let mut pod = objects::pod("web", &[]);
    let probe = json!({ "exec": { "command": ["true"] } });
    pod.spec.as_mut().unwrap().containers[0].liveness_probe = Some(serde_json::from_value(probe)?);
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), scene.namespace.name());
    pods.create(&PostParams::default(), &pod).await?;
    Ok(())
}

/// The control plane with a guard that these tests share.
async fn guarded() -> anyhow::Result<&'static ControlPlane> {
    static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    let start = async || {
        let plane = scene::plane().await?;
        scene::install_guard(&plane).await?;
        Ok(plane)
    };
    PLANE.get_or_try_init(start).await
}

/// Waits until RBAC and the guard have come through: a policy without commands is taken, one with them is not.
async fn comes_through(policies: &Api<PodPolicy>) -> anyhow::Result<()> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the person's rights and the guard", DEADLINE, async || {
        let without =
            policies.create(&dry_run, &policy("asked", &json!({ "selector": {} }))).await.map(drop).map_err(|error| error.to_string());
        let with = policies.create(&dry_run, &draining("asked", "true")).await.map(drop).map_err(|error| error.to_string());
        Ok(Seen::when(without.is_ok() && with.is_err(), (without, with)))
    })
    .await
}

/// Waits until a policy is taken: rights take a moment.
async fn may_write<K>(policies: &Api<K>, policy: &K) -> anyhow::Result<()>
where
    K: Clone + Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    eventually("the policy to be taken", DEADLINE, async || match policies.create(&PostParams::default(), policy).await {
        Ok(_) => Ok(Seen::Done(())),
        Err(error) => Ok(Seen::NotYet(error.to_string())),
    })
    .await
}

async fn edit(policies: &Api<PodPolicy>, name: &str, patch: &Value) -> kube::Result<PodPolicy> {
    policies.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
}

/// Why something was refused.
#[track_caller]
fn refusal<T: Debug>(result: kube::Result<T>) -> String {
    match result {
        Err(kube::Error::Api(status)) if status.code == 403 => status.message,
        other => panic!("not refused: {other:?}"),
    }
}
