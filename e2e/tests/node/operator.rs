//! The operator as it is installed: by one command, from the rendered manifests, in a namespace that lets in nothing that needs a right.

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use podpolicy_e2e::installation::{self, NAMESPACE};
use podpolicy_e2e::objects;
use podpolicy_e2e::wait::{self, DEADLINE};

use crate::scene::{Scene, containers, is_ready};

#[tokio::test]
async fn one_command_gives_two_ready_replicas_in_a_restricted_namespace() -> anyhow::Result<()> {
    let scene = Scene::with_operator("installed").await?;
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    let namespace = namespaces.get(NAMESPACE).await?;
    assert_eq!(namespace.labels()["pod-security.kubernetes.io/enforce"], "restricted");
    let unrestricted: Api<Pod> = Api::namespaced(scene.client.clone(), NAMESPACE);
    let refused = unrestricted.create(&PostParams::default(), &objects::pod("ordinary", &[])).await;
    let refused = refused.expect_err("a pod without any restriction is let in").to_string();
    assert!(refused.contains("violates PodSecurity \"restricted:latest\""), "{refused}");

    let deployments: Api<Deployment> = Api::namespaced(scene.client.clone(), NAMESPACE);
    let ready = |deployment: Option<&Deployment>| deployment.and_then(|deployment| deployment.status.as_ref()?.ready_replicas) == Some(2);
    let deployment = wait::object(&deployments, "podpolicy", "two ready replicas", DEADLINE, ready).await?.context("it was waited for")?;
    let template = deployment.spec.template.spec.context("it has a template")?;
    assert_eq!(template.topology_spread_constraints.map(|constraints| constraints.len()), Some(2));
    installation::leader(&scene.client, None).await?;

    // The image that was brought in, run as nobody, with nothing to write to.
    for pod in installation::pods(&scene.client).await? {
        let context = format!("{:?}", pod.status);
        assert!(is_ready(&pod), "{context}");
        assert!(containers(&pod)[0].image.contains("podpolicy.invalid/podpolicy"), "{context}");
        let user = containers(&pod)[0].user.as_ref().and_then(|user| user.linux.as_ref()).context("kubelet says who it runs as")?;
        assert_eq!((user.uid, user.gid), (65532, 65532));
        assert_eq!(pod.spec.and_then(|spec| spec.priority), Some(1_000_000));
    }

    let budgets: Api<PodDisruptionBudget> = Api::namespaced(scene.client.clone(), NAMESPACE);
    let allowed = |budget: &PodDisruptionBudget| budget.status.as_ref()?.disruptions_allowed;
    let counted = |budget: Option<&PodDisruptionBudget>| budget.and_then(allowed) == Some(1);
    wait::object(&budgets, "podpolicy", "one of two may be disrupted", DEADLINE, counted).await?;
    scene.end().await
}
