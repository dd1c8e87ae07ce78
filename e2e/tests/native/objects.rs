//! The objects on the API server: there when they are wanted, as they are wanted, and gone when they are not.

use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Resource, ResourceExt as _};
use podpolicy_e2e::objects::apply;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use serde_json::{Value, json};

use crate::scene::{Scene, team};

#[tokio::test]
async fn objects_come_and_go_with_the_policies_of_their_namespace() -> anyhow::Result<()> {
    let scene = Scene::set("come-and-go").await?;
    let _operator = scene.native().await?;
    assert_eq!(scene.present().await?, [false; 2]);
    scene.policy("standard", &team("shop")).await?;
    scene.ready("standard").await?;
    assert_eq!(scene.present().await?, [true; 2]);
    assert_eq!(scene.admission_policies.get(&scene.unit()).await?.labels()["app.kubernetes.io/managed-by"], "podpolicy");
    scene.delete_policy("standard").await?;
    scene.wait_for_objects(false).await
}

#[tokio::test]
async fn each_object_is_written_once_and_not_at_all_by_the_next_operator() -> anyhow::Result<()> {
    let scene = Scene::set("once").await?;
    let operator = scene.native().await?;
    scene.policy("standard", &team("shop")).await?;
    scene.ready("standard").await?;
    assert_eq!(scene.writes(), 2);
    operator.stop().await?;
    let versions = scene.versions().await?;

    let asked = scene.dry_runs();
    let _operator = scene.native().await?;
    eventually("the next operator to ask what is in force", DEADLINE, async || Ok(Seen::when(scene.dry_runs() > asked, asked))).await?;
    assert_eq!(scene.writes(), 2);
    assert_eq!(scene.versions().await?, versions, "and the status stands");
    Ok(())
}

#[tokio::test]
async fn changes_in_a_burst_are_written_together() -> anyhow::Result<()> {
    let scene = Scene::set("burst").await?;
    let _operator = scene.native().await?;
    for number in 0..20 {
        scene.policy(&format!("p{number}"), &format!("{{ selector: {{}}, labels: {{ l{number}: 'on' }} }}")).await?;
    }
    for number in 0..20 {
        scene.ready(&format!("p{number}")).await?;
    }
    assert_eq!(scene.would_be().await?.labels().len(), 21);
    assert!(scene.writes() < 20, "{} writes for 20 policies", scene.writes());
    Ok(())
}

#[tokio::test]
async fn objects_that_an_operator_left_behind_are_removed_by_the_next() -> anyhow::Result<()> {
    let scene = Scene::set("orphans").await?;
    let operator = scene.native().await?;
    scene.policy("standard", &team("shop")).await?;
    scene.ready("standard").await?;
    drop(operator);
    scene.delete_policy("standard").await?;
    assert_eq!(scene.present().await?, [true; 2]);
    // A half of one, and one of somebody else.
    let (half, foreign) = (format!("podpolicy-namespace-{}x", scene.name()), format!("foreign-{}", scene.name()));
    let mut copy = serde_json::to_value(scene.admission_policies.get(&scene.unit()).await?)?;
    for (name, owner) in [(&half, "podpolicy"), (&foreign, "somebody-else")] {
        copy["metadata"] = json!({ "name": name, "labels": { "app.kubernetes.io/managed-by": owner } });
        apply(&scene.client, "default", &copy.to_string()).await?;
    }

    let _operator = scene.native().await?;
    scene.wait_for_objects(false).await?;
    scene.team_at_creation(None).await?;
    for name in [half, foreign] {
        assert!(scene.admission_policies.get_opt(&name).await?.is_some(), "{name} is about another namespace");
        scene.admission_policies.delete(&name, &DeleteParams::default()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_somebody_changes_in_the_objects_is_put_right() -> anyhow::Result<()> {
    let scene = Scene::set("drift").await?;
    let _operator = scene.native().await?;
    scene.policy("standard", &team("shop")).await?;
    scene.ready("standard").await?;
    let name = scene.unit();
    let (policy, binding) = (scene.admission_policies.get(&name).await?, scene.bindings.get(&name).await?);

    let never = json!([{ "name": "never", "expression": "false" }]);
    let nowhere = json!({ "matchLabels": { "nowhere": "true" } });
    for change in [
        json!({ "spec": { "failurePolicy": "Fail" } }),
        json!({ "spec": { "matchConditions": never } }),
        json!({ "metadata": { "labels": null } }),
    ] {
        scene.admission_policies.patch(&name, &PatchParams::default(), &Patch::Merge(&change)).await?;
        scene.wait_for_repair(&change, &policy, &binding).await?;
    }
    for change in [
        json!({ "spec": { "matchResources": { "namespaceSelector": nowhere } } }),
        json!({ "spec": { "matchResources": { "objectSelector": nowhere } } }),
    ] {
        scene.bindings.patch(&name, &PatchParams::default(), &Patch::Merge(&change)).await?;
        scene.wait_for_repair(&change, &policy, &binding).await?;
    }
    scene.admission_policies.delete(&name, &DeleteParams::default()).await?;
    scene.wait_for_repair(&json!("the policy is deleted"), &policy, &binding).await?;
    scene.bindings.delete(&name, &DeleteParams::default()).await?;
    scene.wait_for_repair(&json!("the binding is deleted"), &policy, &binding).await?;
    scene.team_at_creation(Some("shop")).await
}

#[tokio::test]
async fn what_somebody_changed_in_the_objects_while_no_operator_ran_is_put_right_at_the_start() -> anyhow::Result<()> {
    let scene = Scene::set("drift-down").await?;
    let operator = scene.native().await?;
    scene.policy("standard", &team("shop")).await?;
    scene.ready("standard").await?;
    operator.stop().await?;
    let name = scene.unit();
    let (policy, binding) = (scene.admission_policies.get(&name).await?, scene.bindings.get(&name).await?);
    let change = json!({ "spec": { "matchConditions": [{ "name": "never", "expression": "false" }] } });
    scene.admission_policies.patch(&name, &PatchParams::default(), &Patch::Merge(&change)).await?;
    let _operator = scene.native().await?;
    scene.wait_for_repair(&change, &policy, &binding).await
}

impl Scene {
    async fn wait_for_repair(
        &self,
        change: &Value,
        policy: &MutatingAdmissionPolicy,
        binding: &MutatingAdmissionPolicyBinding,
    ) -> anyhow::Result<()> {
        let name = self.unit();
        eventually(&format!("{change} to be put right"), DEADLINE, async || {
            let (now, bound) = (self.admission_policies.get_opt(&name).await?, self.bindings.get_opt(&name).await?);
            let is_same = now.as_ref().is_some_and(|now| now.spec == policy.spec && now.labels() == policy.labels());
            let is_same = is_same && bound.as_ref().is_some_and(|bound| bound.spec == binding.spec);
            Ok(Seen::when(is_same, (now.map(|now| now.meta().clone()), bound)))
        })
        .await
    }

    /// How often the operators have asked what is in force, or written a status.
    fn dry_runs(&self) -> usize {
        self.tap.exchanges().iter().filter(|sent| sent.writes_status("podpolicies")).count()
    }
}
