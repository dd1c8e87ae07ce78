//! That pods run here as they do anywhere: what the tests of policies on this node build on.

use std::collections::BTreeSet;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::ListParams;
use podpolicy_e2e::cluster::KUBECTL;
use podpolicy_e2e::wait::{self, DEADLINE};
use serde_json::json;

use crate::manifest::{SERVE, STUBBORN, pod, probe, web};
use crate::scene::{Scene, exit_code, is_ready, restarts};

#[tokio::test]
async fn deployment_becomes_ready_and_a_service_leads_to_its_pods() -> anyhow::Result<()> {
    let scene = Scene::set("deployment").await?;
    let mut container = web(SERVE);
    container["readinessProbe"] = probe("/");
    let template = json!({ "metadata": { "labels": { "app": "web" } }, "spec": pod("web", &container)["spec"] });
    scene
        .apply(&json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "web" },
            "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "web" } }, "template": template },
        }))
        .await?;
    scene
        .apply(&json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "web" },
            "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
        }))
        .await?;
    let deployments: Api<Deployment> = Api::namespaced(scene.client.clone(), scene.name());
    let ready = |deployment: Option<&Deployment>| deployment.and_then(|deployment| deployment.status.as_ref()?.ready_replicas) == Some(2);
    wait::object(&deployments, "web", "two ready pods", DEADLINE, ready).await?;

    let pods = scene.pods.list(&ListParams::default()).await?.items;
    let addresses: BTreeSet<_> = pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.as_deref()).collect();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    assert!(pods.iter().all(is_ready));

    // From a pod, through kube-proxy, to a pod: possibly itself.
    let mut client = pod("client", &web("until wget -q -O - http://$WEB_SERVICE_HOST/; do sleep 0.2; done"));
    client["spec"]["restartPolicy"] = "Never".into();
    scene.apply(&client).await?;
    scene.pod("client", "to have got an answer", |pod| exit_code(pod) == Some(0)).await?;
    assert!(scene.kubectl(&["logs", "client"])?.ends_with("hello\n"));
    scene.end().await
}

#[tokio::test]
async fn container_whose_liveness_probe_fails_is_restarted() -> anyhow::Result<()> {
    let scene = Scene::set("liveness").await?;
    let mut container = web(SERVE);
    container["livenessProbe"] = probe("/absent");
    scene.apply(&pod("web", &container)).await?;
    scene.pod("web", "to be restarted", |pod| restarts(pod) > 0).await?;
    scene.event("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 404").await?;
    scene.event("Killing", "Container web failed liveness probe, will be restarted").await?;
    scene.end().await
}

/// Deletes the pod `web` once it runs, and waits for the code with which its container ends.
async fn exit_code_of_deleted(scene: &Scene, grace: u32, hook: &str) -> anyhow::Result<i32> {
    let mut container = web(STUBBORN);
    container["lifecycle"] = json!({ "preStop": { "exec": { "command": ["sh", "-c", hook] } } });
    container["readinessProbe"] = json!({ "exec": { "command": ["test", "-e", "/tmp/up"] }, "periodSeconds": 1 });
    let mut pod = pod("web", &container);
    pod["spec"]["terminationGracePeriodSeconds"] = grace.into();
    scene.apply(&pod).await?;
    scene.pod("web", "to run", is_ready).await?;
    exit_code(&scene.ended("web").await?).context("it was waited for")
}

#[tokio::test]
async fn hook_of_a_deleted_pod_runs_before_its_container_is_killed() -> anyhow::Result<()> {
    let scene = Scene::set("hook").await?;
    // Without the hook it would run until the end of the grace period, longer than the test waits.
    assert_eq!(exit_code_of_deleted(&scene, 3600, "touch /tmp/end").await?, 0);
    scene.end().await
}

#[tokio::test]
async fn container_that_goes_on_is_killed_when_the_grace_period_ends() -> anyhow::Result<()> {
    let scene = Scene::set("killed").await?;
    // The hook would run longer than the test waits: it, too, has only the grace period.
    assert_eq!(exit_code_of_deleted(&scene, 2, "sleep 3600").await?, 128 + 9);
    scene.end().await
}

#[tokio::test]
async fn pod_reaches_the_api_server_with_its_service_account() -> anyhow::Result<()> {
    let scene = Scene::set("account").await?;
    scene.cluster.provide(KUBECTL).await?;
    let arguments = ["auth", "whoami", "--output=jsonpath={.status.userInfo.username}"];
    let mut client = pod("client", &json!({ "name": "client", "image": KUBECTL, "imagePullPolicy": "Never", "args": arguments }));
    client["spec"]["restartPolicy"] = "OnFailure".into();
    scene.apply(&client).await?;
    scene.pod("client", "to have got an answer", |pod| exit_code(pod) == Some(0)).await?;
    let user = format!("system:serviceaccount:{}:default", scene.name());
    assert_eq!(scene.kubectl(&["logs", "client"])?, user);
    scene.end().await
}
