//! Commands that a policy runs in containers, as probes and hooks. The guard has to vouch for whoever wrote it.

use podpolicy_api::FindingReason;
use podpolicy_e2e::policies::{self, verdict};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use serde_json::{Value, json};

use crate::manifest::{container, patient, pod, web};
use crate::scene::{Scene, containers, exit_code, is_ready, restarts_of};

#[tokio::test]
async fn liveness_by_a_command_of_the_policy_restarts_the_container_in_which_it_fails() -> anyhow::Result<()> {
    let scene = Scene::with_operator("command-live").await?;
    let probe = "{ exec: { command: [test, -e, /tmp/alive] }, initialDelaySeconds: 1, periodSeconds: 1, failureThreshold: 1 }";
    vouched(&scene, "probed", &format!("{{ selector: {{}}, containers: [{{ livenessProbe: {probe} }}] }}")).await?;
    let mut both = patient("both", &[container("alive", "touch /tmp/alive; exec sleep 3600"), container("dead", "exec sleep 3600")]);
    both["spec"]["terminationGracePeriodSeconds"] = 0.into();
    scene.apply(&both).await?;
    scene.event("Killing", "Container dead failed liveness probe, will be restarted").await?;
    let pod = scene.pod("both", "to be restarted", |pod| restarts_of(pod, "dead") >= Some(2)).await?;
    assert_eq!(restarts_of(&pod, "alive"), Some(0));
    scene.end().await
}

#[tokio::test]
async fn readiness_by_a_command_of_the_policy_follows_what_it_says() -> anyhow::Result<()> {
    let scene = Scene::with_operator("command-ready").await?;
    let probe = "{ exec: { command: [test, -e, /tmp/ready] }, periodSeconds: 1, failureThreshold: 1 }";
    vouched(&scene, "probed", &format!("{{ selector: {{}}, containers: [{{ readinessProbe: {probe} }}] }}")).await?;
    scene.apply(&patient("web", &[container("web", "exec sleep 3600")])).await?;
    scene.event("Unhealthy", "Readiness probe failed").await?;
    scene.kubectl(&["exec", "web", "--", "touch", "/tmp/ready"])?;
    scene.pod("web", "to be ready", is_ready).await?;
    scene.kubectl(&["exec", "web", "--", "rm", "/tmp/ready"])?;
    let pod = scene.pod("web", "to be ready no more", |pod| !is_ready(pod)).await?;
    assert_eq!(restarts_of(&pod, "web"), Some(0));
    scene.end().await
}

#[tokio::test]
async fn commands_of_the_policy_run_when_a_container_has_started_and_before_it_ends() -> anyhow::Result<()> {
    let scene = Scene::with_operator("command-hooks").await?;
    let hooks = "{ postStart: { exec: { command: [touch, /tmp/started] } }, preStop: { exec: { command: [touch, /tmp/drained] } } }";
    let ready = "{ exec: { command: [test, -e, /tmp/up] }, periodSeconds: 1 }";
    vouched(&scene, "hooked", &format!("{{ selector: {{}}, containers: [{{ lifecycle: {hooks}, readinessProbe: {ready} }}] }}")).await?;
    // Ready once the one has run; a good end only if the other has run before the signal.
    let script = "trap 'test -e /tmp/drained; exit $?' TERM; until [ -e /tmp/started ]; do sleep 0.1; done; touch /tmp/up; while :; do sleep 0.1; done";
    scene.apply(&patient("web", &[container("web", script)])).await?;
    scene.pod("web", "to be ready", is_ready).await?;
    assert_eq!(exit_code(&scene.ended("web").await?), Some(0));
    scene.end().await
}

#[tokio::test]
async fn command_of_the_policy_that_fails_after_the_start_is_told_in_an_event() -> anyhow::Result<()> {
    let scene = Scene::with_operator("command-fails").await?;
    vouched(&scene, "hooked", "{ selector: {}, containers: [{ lifecycle: { postStart: { exec: { command: ['false'] } } } }] }").await?;
    scene.apply(&pod("web", &web("exec sleep 3600"))).await?;
    scene.event("FailedPostStartHook", "").await?;
    let pod = scene.pod("web", "to be restarted", |pod| restarts_of(pod, "web") >= Some(1)).await?;
    assert_eq!(containers(&pod).len(), 1);
    scene.end().await
}

/// Writes the policy until the guard has checked who did, which it has not where the policy came too soon after it, and waits until the policy is
/// in force.
async fn vouched(scene: &Scene, name: &str, spec: &str) -> anyhow::Result<()> {
    let spec: Value = podpolicy_e2e::objects::yaml(spec);
    let policy = |attempt: usize| {
        json!({
            "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": { "name": name },
            // A new value is a new generation, which is checked anew.
            "spec": { "selector": spec["selector"], "containers": spec["containers"], "annotations": { "e2e.example.com/attempt": attempt.to_string() } },
        })
    };
    let attempt = std::cell::Cell::new(0);
    eventually("the guard to vouch for the policy", DEADLINE, async || {
        attempt.set(attempt.get() + 1);
        scene.apply(&policy(attempt.get())).await?;
        let is_judged = |status: &podpolicy_api::PodPolicyStatus| verdict(status, "Ready").split(' ').next() != Some("Unknown");
        let status = policies::status(&scene.policies, name, "judged", is_judged).await?;
        let refused: Vec<_> = status.findings.into_iter().filter(|finding| finding.reason == FindingReason::ExecNotAllowed).collect();
        Ok(Seen::when(refused.is_empty(), refused))
    })
    .await?;
    scene.status(name, "in force", |status| verdict(status, "Ready") == "True InForce").await.map(drop)
}
