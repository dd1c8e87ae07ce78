//! Probes that a policy supplies or tunes, and what kubelet makes of them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use podpolicy_e2e::History;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use serde_json::json;

use crate::manifest::{SERVE, container, patient, pod, web};
use crate::scene::{Scene, containers, is_ready, restarts, restarts_of, state, waits_for};

#[tokio::test]
async fn liveness_by_http_that_fails_restarts_the_container_ever_more_slowly() -> anyhow::Result<()> {
    let scene = Scene::with_operator("crash-loop").await?;
    let probe = "{ httpGet: { path: /absent, port: 8080 }, periodSeconds: 1, failureThreshold: 1 }";
    scene.policy("probed", &format!("{{ selector: {{}}, containers: [{{ livenessProbe: {probe} }}] }}")).await?;
    let history = History::of(scene.pods.clone(), "web").await?;
    scene.apply(&pod("web", &web(SERVE))).await?;
    scene.event("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 404").await?;
    scene.event("Killing", "Container web failed liveness probe, will be restarted").await?;
    scene.event("BackOff", "Back-off restarting failed container web").await?;
    let pod = scene.pod("web", "to wait for the third time", |pod| back_off(pod).as_deref() == Some("40s")).await?;
    history.reaches(&pod.resource_version().unwrap_or_default()).await?;

    // On a busy machine kubelet tells not all of them.
    let waits: Vec<_> = history.map(back_off).into_iter().flatten().collect();
    let mut growing = ["10s", "20s", "40s"].iter();
    assert!(waits.len() > 1 && waits.iter().all(|wait| growing.any(|next| next == wait)), "{waits:?}");
    assert_eq!(waits_for(&pod), Some("CrashLoopBackOff"));
    assert!(restarts(&pod) >= 3, "{} restarts", restarts(&pod));
    let last = containers(&pod)[0].last_state.as_ref().and_then(|state| state.terminated.clone()).context("it ended before")?;
    assert_eq!((last.exit_code, last.reason.as_deref()), (128 + 9, Some("Error")));
    scene.end().await
}

/// How long kubelet now waits before it starts the first container again.
fn back_off(pod: &Pod) -> Option<String> {
    let waiting = state(pod)?.waiting.as_ref()?;
    let (wait, _) = waiting.message.as_deref()?.strip_prefix("back-off ")?.split_once(' ')?;
    Some(wait.to_owned())
}

#[tokio::test]
async fn liveness_by_tcp_restarts_the_container_whose_port_is_closed_and_no_other() -> anyhow::Result<()> {
    let scene = Scene::with_operator("tcp").await?;
    scene
        .policy(
            "probed",
            "
            selector: {}
            containers:
              - { names: [open], livenessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 2 } }
              - { names: [closed], livenessProbe: { tcpSocket: { port: 9 }, periodSeconds: 1, failureThreshold: 1 } }
            ",
        )
        .await?;
    let mut both = patient("both", &[container("open", SERVE), container("closed", "exec sleep 3600")]);
    both["spec"]["terminationGracePeriodSeconds"] = 0.into();
    scene.apply(&both).await?;
    scene.event("Unhealthy", "connect: connection refused").await?;
    // By then the other has been probed several times.
    let pod = scene.pod("both", "to be restarted", |pod| restarts_of(pod, "closed") >= Some(2)).await?;
    assert_eq!(restarts_of(&pod, "open"), Some(0));
    scene.end().await
}

#[tokio::test]
async fn liveness_by_exec_of_the_containers_own_is_tuned_and_restarts_the_one_that_fails() -> anyhow::Result<()> {
    let scene = Scene::with_operator("exec").await?;
    scene.policy("tuned", "{ selector: {}, containers: [{ livenessProbe: { periodSeconds: 1, failureThreshold: 1 } }] }").await?;
    let probed = |name: &str, script: &str| {
        let mut container = container(name, script);
        container["livenessProbe"] =
            json!({ "exec": { "command": ["test", "-e", "/tmp/alive"] }, "initialDelaySeconds": 3, "timeoutSeconds": 30 });
        container
    };
    let mut both = patient("both", &[probed("alive", "touch /tmp/alive; exec sleep 3600"), probed("dead", "exec sleep 3600")]);
    both["spec"]["terminationGracePeriodSeconds"] = 0.into();
    scene.apply(&both).await?;
    scene.event("Unhealthy", "Liveness probe failed").await?;
    scene.event("Killing", "Container dead failed liveness probe, will be restarted").await?;
    let pod = scene.pod("both", "to be restarted", |pod| restarts_of(pod, "dead") >= Some(2)).await?;
    assert_eq!(restarts_of(&pod, "alive"), Some(0));
    let spec = pod.spec.context("a pod has a spec")?;
    for container in spec.containers {
        let probe = container.liveness_probe.context("it has a probe")?;
        assert_eq!((probe.period_seconds, probe.failure_threshold, probe.initial_delay_seconds), (Some(1), Some(1), Some(3)));
    }
    scene.end().await
}

#[tokio::test]
async fn readiness_takes_a_pod_out_of_its_service_and_back() -> anyhow::Result<()> {
    let scene = Scene::with_operator("readiness").await?;
    let probe = "{ httpGet: { path: /ready, port: 8080 }, periodSeconds: 1, failureThreshold: 1 }";
    scene.policy("probed", &format!("{{ selector: {{}}, containers: [{{ readinessProbe: {probe} }}] }}")).await?;
    let mut web = pod("web", &web(&format!("touch /tmp/ready; {SERVE}")));
    web["metadata"]["labels"] = json!({ "app": "web" });
    scene.apply(&web).await?;
    let ports = json!([{ "port": 80, "targetPort": 8080 }]);
    let spec = json!({ "selector": { "app": "web" }, "ports": ports });
    scene.apply(&json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" }, "spec": spec })).await?;
    serves(&scene, true).await?;

    for (change, ready) in [(["rm", "/tmp/ready"], false), (["touch", "/tmp/ready"], true)] {
        scene.kubectl(&[&["exec", "web", "--"], &change[..]].concat())?;
        serves(&scene, ready).await?;
    }
    scene.event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404").await?;
    assert_eq!(restarts(&scene.pods.get("web").await?), 0);
    scene.end().await
}

/// Waits until the one endpoint of the Service `web` is ready, or is not.
async fn serves(scene: &Scene, wanted: bool) -> anyhow::Result<()> {
    let slices: Api<EndpointSlice> = Api::namespaced(scene.client.clone(), scene.name());
    let of_web = ListParams::default().labels("kubernetes.io/service-name=web");
    eventually(&format!("an endpoint that has ready={wanted}"), DEADLINE, async || {
        let slices = slices.list(&of_web).await?.items;
        let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let ready: Vec<_> = endpoints.map(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready)).collect();
        Ok(Seen::when(ready == [Some(wanted)], ready))
    })
    .await
}

#[tokio::test]
async fn startup_probe_shields_a_slow_start_from_the_liveness_probe() -> anyhow::Result<()> {
    let scene = Scene::with_operator("startup").await?;
    scene
        .policy(
            "probed",
            "
            selector: {}
            containers:
              - livenessProbe: { httpGet: { port: 8080 }, periodSeconds: 1, failureThreshold: 1 }
                startupProbe: { httpGet: { port: 8080 }, periodSeconds: 1, failureThreshold: 120 }
            ",
        )
        .await?;
    scene.apply(&pod("web", &web(&format!("sleep 6; {SERVE}")))).await?;
    let started = |pod: &Pod| containers(pod).first().and_then(|container| container.started) == Some(true);
    scene.event("Unhealthy", "Startup probe failed").await?;
    // The kubelet may report the start a moment before it reports that the pod is ready.
    let pod = scene.pod("web", "to have started and to be ready", |pod| started(pod) && is_ready(pod)).await?;
    assert_eq!(restarts(&pod), 0);

    // From now on the other counts.
    scene.kubectl(&["exec", "web", "--", "rm", "/tmp/index.html"])?;
    scene.event("Killing", "Container web failed liveness probe, will be restarted").await?;
    scene.pod("web", "to be restarted", |pod| restarts(pod) == 1).await?;
    scene.end().await
}

#[tokio::test]
async fn containers_of_a_pod_get_the_probes_of_their_own_rules() -> anyhow::Result<()> {
    let scene = Scene::with_operator("multi").await?;
    scene
        .policy(
            "probed",
            "
            selector: { matchLabels: { app: multi } }
            containers:
              - { names: [web], readinessProbe: { httpGet: { path: /index.html, port: http }, periodSeconds: 1 } }
              - { names: ['side-*'], readinessProbe: { tcpSocket: { port: 9090 }, periodSeconds: 1 } }
              - livenessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 }
            ",
        )
        .await?;
    let mut web = web(SERVE);
    web["ports"] = json!([{ "name": "http", "containerPort": 8080 }]);
    let mut multi =
        patient("multi", &[web, container("side-car", "exec httpd -f -p 9090 -h /tmp"), container("worker", "exec sleep 3600")]);
    multi["metadata"]["labels"] = json!({ "app": "multi" });
    multi["spec"]["terminationGracePeriodSeconds"] = 0.into();
    scene.apply(&multi).await?;
    let pod = scene.pod("multi", "to be ready", is_ready).await?;

    let spec = pod.spec.context("a pod has a spec")?;
    let found: BTreeMap<_, _> = spec
        .containers
        .iter()
        .map(|container| {
            let readiness = container.readiness_probe.as_ref();
            let by = readiness.map(|probe| if probe.http_get.is_some() { "http" } else { "tcp" });
            (container.name.as_str(), (by, container.liveness_probe.is_some()))
        })
        .collect();
    assert_eq!(found, BTreeMap::from([("web", (Some("http"), true)), ("side-car", (Some("tcp"), true)), ("worker", (None, true))]));
    let status = scene.status("probed", "one compliant pod", |status| status.pods.is_some_and(|pods| pods.compliant == 1)).await?;
    assert_eq!(status.findings, []);
    scene.end().await
}
