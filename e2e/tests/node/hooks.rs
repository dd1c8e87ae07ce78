//! Hooks and grace periods that a policy supplies: how containers start, and how they end.

use std::process::Stdio;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use podpolicy_e2e::Process;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use serde_json::{Value, json};

use crate::manifest::{OBEDIENT, STUBBORN, container, patient, web};
use crate::scene::{Scene, containers, exit_code, is_ready, restarts_of, seconds_to_end};

/// Ready once the script has come so far that it hears a signal.
fn listening(script: &str) -> Value {
    let mut container = web(script);
    container["readinessProbe"] = json!({ "exec": { "command": ["test", "-e", "/tmp/up"] }, "periodSeconds": 1 });
    container
}

#[tokio::test]
async fn hooks_after_the_start_and_before_the_end_run() -> anyhow::Result<()> {
    let scene = Scene::with_operator("hooks").await?;
    scene
        .policy(
            "hooked",
            "
            selector: {}
            containers:
              - names: [worker]
                lifecycle:
                  postStart: { httpGet: { path: /started, port: 8080 } }
              - names: [web]
                readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 }
                lifecycle:
                  preStop: { httpGet: { path: /stopping, port: 8080 } }
            ",
        )
        .await?;
    // The first is there when the second starts: kubelet waits for it, as a sidecar.
    let mut server = web(OBEDIENT);
    server["restartPolicy"] = "Always".into();
    server["startupProbe"] = json!({ "httpGet": { "port": 8080 }, "periodSeconds": 1 });
    let mut pod = patient("web", &[container("worker", "trap 'exit 0' TERM; while :; do sleep 0.1; done")]);
    pod["spec"]["initContainers"] = json!([server]);
    scene.apply(&pod).await?;
    scene.pod("web", "to be ready", is_ready).await?;

    let mut logs = scene.cluster.kubectl().command();
    logs.args(["--namespace", scene.name(), "logs", "--follow", "web", "--container", "web"]).stdout(Stdio::piped());
    let logs = logs.spawn()?;
    let ended = scene.ended("web").await?;
    let logs = tokio::task::spawn_blocking(|| logs.wait_with_output()).await??;
    let said = String::from_utf8_lossy(&logs.stdout).into_owned();
    let at = |words: &str| said.find(words).with_context(|| format!("nothing of {words:?} in\n{said}"));
    assert!(at("/started")? < at("/stopping")? && at("/stopping")? < at("told to end")?, "{said}");
    assert_eq!(exit_code(&ended), Some(0));
    scene.end().await
}

#[tokio::test]
async fn hooks_that_fail_are_told_by_events() -> anyhow::Result<()> {
    let scene = Scene::with_operator("hooks-fail").await?;
    scene
        .policy(
            "hooked",
            "
            selector: {}
            containers:
              - { names: [starts], lifecycle: { postStart: { httpGet: { port: 9 } } } }
              - { names: [stops], lifecycle: { preStop: { httpGet: { port: 9 } } } }
            ",
        )
        .await?;
    let script = "trap 'exit 0' TERM; touch /tmp/up; while :; do sleep 0.1; done";
    let mut stops = listening(script);
    stops["name"] = "stops".into();
    scene.apply(&patient("stops", &[stops])).await?;
    scene.apply(&patient("starts", &[container("starts", script)])).await?;
    // A hook that fails after the start costs the container its life.
    scene.event("FailedPostStartHook", "").await?;
    scene.pod("starts", "to be started again", |pod| restarts_of(pod, "starts") > Some(0)).await?;

    // One that fails before the end changes nothing about the end.
    scene.pod("stops", "to be ready", is_ready).await?;
    let ended = scene.ended("stops").await?;
    assert_eq!(exit_code(&ended), Some(0));
    scene.event("FailedPreStopHook", "").await?;
    scene.end().await
}

#[tokio::test]
async fn deleted_pod_sleeps_before_it_is_told_to_end() -> anyhow::Result<()> {
    let scene = Scene::with_operator("sleeps").await?;
    scene.policy("graceful", "{ selector: {}, containers: [{ lifecycle: { preStop: { sleep: { seconds: 4 } } } }] }").await?;
    scene.apply(&patient("web", &[listening("trap 'exit 0' TERM; touch /tmp/up; while :; do sleep 0.1; done")])).await?;
    scene.pod("web", "to be ready", is_ready).await?;
    let ended = scene.ended("web").await?;
    assert_eq!(exit_code(&ended), Some(0));
    let took = seconds_to_end(&ended)?;
    // Whole seconds, rounded down at both ends.
    assert!((3..30).contains(&took), "{took} s");
    scene.end().await
}

#[tokio::test]
async fn container_that_goes_on_is_killed_when_the_grace_period_of_the_policy_ends() -> anyhow::Result<()> {
    let scene = Scene::with_operator("killed").await?;
    scene.policy("graceful", "{ selector: {}, terminationGracePeriodSeconds: 3 }").await?;
    let mut hooked = listening(STUBBORN);
    // Longer than the test waits, and no part of the policy: it has only the grace period, as all else.
    hooked["lifecycle"] = json!({ "preStop": { "exec": { "command": ["sleep", "3600"] } } });
    for (name, container) in [("plain", listening(STUBBORN)), ("hooked", hooked)] {
        scene.apply(&patient(name, &[container])).await?;
        scene.pod(name, "to be ready", is_ready).await?;
        let ended = scene.ended(name).await?;
        assert_eq!(exit_code(&ended), Some(128 + 9), "{name}");
        assert_eq!(ended.metadata.deletion_grace_period_seconds, Some(3), "{name}");
        let took = seconds_to_end(&ended)?;
        assert!((2..30).contains(&took), "{name}: {took} s");
    }
    scene.end().await
}

#[tokio::test]
async fn deletion_by_force_waits_neither_for_the_hook_nor_for_the_grace_period() -> anyhow::Result<()> {
    let scene = Scene::with_operator("force").await?;
    scene
        .policy(
            "graceful",
            "{ selector: {}, terminationGracePeriodSeconds: 3600, containers: [{ lifecycle: { preStop: { sleep: { seconds: 1800 } } } }] }",
        )
        .await?;
    scene.apply(&patient("web", &[listening(STUBBORN)])).await?;
    let pod = scene.pod("web", "to be ready", is_ready).await?;
    let uid = pod.uid();
    let process = process(&scene, &pod)?;
    assert_eq!(pod.spec.and_then(|spec| spec.termination_grace_period_seconds), Some(3600));

    scene.kubectl(&["delete", "pod", "web", "--grace-period=0", "--force", "--wait=false"])?;
    assert!(scene.pods.get_opt("web").await?.is_none(), "the pod is still there");
    if let Some(process) = process {
        eventually("the process to be killed", DEADLINE, async || Ok(Seen::when(!process.is_alive(), "it runs"))).await?;
    }

    // Its successor has the same name, and is not disturbed.
    scene.apply(&patient("web", &[listening(STUBBORN)])).await?;
    let pod = scene.pod("web", "to be ready", is_ready).await?;
    assert_ne!(pod.uid(), uid);

    // A patient deletion can be cut short as well.
    Api::<Pod>::delete(&scene.pods, "web", &DeleteParams::default()).await?;
    let pod = scene.pods.get("web").await?;
    assert_eq!(pod.metadata.deletion_grace_period_seconds, Some(3600));
    scene.pods.delete("web", &DeleteParams::default().grace_period(0)).await?;
    assert!(scene.pods.get_opt("web").await?.is_none(), "the pod is still there");
    scene.end().await
}

/// The process of the first container, on a node of our own.
fn process(scene: &Scene, pod: &Pod) -> anyhow::Result<Option<Process>> {
    let Some(node) = scene.cluster.node() else { return Ok(None) };
    let container =
        containers(pod).first().and_then(|container| container.container_id.as_deref()).context("a container that runs has an id")?;
    node.process_of_container(container.trim_start_matches("containerd://")).map(Some)
}
