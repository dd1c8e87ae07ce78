//! That pods run here as they do anywhere: what the tests of policies on this node build on.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use podpolicy_e2e::cluster::{BUSYBOX, KUBECTL};
use podpolicy_e2e::wait::{self, DEADLINE};
use serde_json::{Value, json};

use crate::scene::{Scene, exit_code, is_ready, restarts};

/// A container `web` that runs a script.
fn container(script: &str) -> Value {
    json!({ "name": "web", "image": BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", script] })
}

/// A pod with this container, which nobody waits for when it is deleted.
fn pod(name: &str, container: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": { "terminationGracePeriodSeconds": 0, "containers": [container] },
    })
}

/// A probe that asks for this path, each second.
fn probe(path: &str) -> Value {
    json!({ "httpGet": { "path": path, "port": 8080 }, "periodSeconds": 1, "failureThreshold": 1 })
}

/// Serves `hello` on port 8080.
const SERVE: &str = "echo hello > /tmp/index.html; exec httpd -f -p 8080 -h /tmp";

#[tokio::test]
async fn deployment_becomes_ready_and_a_service_leads_to_its_pods() -> anyhow::Result<()> {
    let scene = Scene::set("deployment").await?;
    let mut web = container(SERVE);
    web["readinessProbe"] = probe("/");
    let template = json!({ "metadata": { "labels": { "app": "web" } }, "spec": pod("web", &web)["spec"] });
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
    let mut client = pod("client", &container("until wget -q -O - http://$WEB_SERVICE_HOST/; do sleep 0.2; done"));
    client["spec"]["restartPolicy"] = "Never".into();
    scene.apply(&client).await?;
    scene.pod("client", "to have got an answer", |pod| exit_code(pod) == Some(0)).await?;
    assert!(scene.kubectl(&["logs", "client"])?.ends_with("hello\n"));
    scene.end().await
}

#[tokio::test]
async fn container_whose_liveness_probe_fails_is_restarted() -> anyhow::Result<()> {
    let scene = Scene::set("liveness").await?;
    let mut web = container(SERVE);
    web["livenessProbe"] = probe("/absent");
    scene.apply(&pod("web", &web)).await?;
    scene.pod("web", "to be restarted", |pod| restarts(pod) > 0).await?;
    scene.event("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 404").await?;
    scene.event("Killing", "Container web failed liveness probe, will be restarted").await?;
    scene.end().await
}

/// Does not end when it is told to, but when there is a file `/tmp/end`.
const STUBBORN: &str = "trap '' TERM; touch /tmp/up; until [ -e /tmp/end ]; do sleep 0.1; done";

/// Deletes the pod `web` once it runs, and waits for the code with which its container ends. A finalizer keeps the pod for so long.
async fn exit_code_of_deleted(scene: &Scene, grace: u32, hook: &str) -> anyhow::Result<i32> {
    let mut web = container(STUBBORN);
    web["lifecycle"] = json!({ "preStop": { "exec": { "command": ["sh", "-c", hook] } } });
    web["readinessProbe"] = json!({ "exec": { "command": ["test", "-e", "/tmp/up"] }, "periodSeconds": 1 });
    let mut pod = pod("web", &web);
    pod["spec"]["terminationGracePeriodSeconds"] = grace.into();
    pod["metadata"]["finalizers"] = json!(["e2e.example.com/look"]);
    scene.apply(&pod).await?;
    scene.pod("web", "to run", is_ready).await?;

    scene.pods.delete("web", &DeleteParams::default()).await?;
    let pod = scene.pod("web", "to have ended", |pod| exit_code(pod).is_some()).await?;
    let release = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    scene.pods.patch("web", &PatchParams::default(), &release).await?;
    exit_code(&pod).context("it was waited for")
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

#[tokio::test]
async fn exec_logs_and_port_forward_work() -> anyhow::Result<()> {
    let scene = Scene::set("kubectl").await?;
    let mut web = container(&format!("echo here; {SERVE}"));
    web["readinessProbe"] = probe("/");
    scene.apply(&pod("web", &web)).await?;
    scene.pod("web", "to be ready", is_ready).await?;

    assert_eq!(scene.kubectl(&["exec", "web", "--", "cat", "/tmp/index.html"])?, "hello\n");
    assert_eq!(scene.kubectl(&["logs", "web"])?, "here\n");

    let mut command = scene.cluster.kubectl().command();
    command.args(["--namespace", scene.name(), "port-forward", "pod/web", ":8080"]).stdout(Stdio::piped());
    let mut forward = command.spawn()?;
    let answer = forward.stdout.take().context("it was asked for").and_then(answer_through);
    forward.kill()?;
    forward.wait()?;
    let answer = answer?;
    assert!(answer.ends_with("\r\n\r\nhello\n"), "{answer}");
    scene.end().await
}

/// Asks for `/` at the port that `kubectl port-forward` says that it has taken.
fn answer_through(output: impl std::io::Read) -> anyhow::Result<String> {
    // Open until the end: kubectl goes on to print, and ends when it cannot.
    let mut output = BufReader::new(output);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let address = line.strip_prefix("Forwarding from ").and_then(|line| line.split(" -> ").next());
    let mut stream = TcpStream::connect(address.with_context(|| format!("no address in {line:?}"))?)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
