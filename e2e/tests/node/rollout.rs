//! Rollouts to pods that really run: what they cost, and how the pods that they replace end.

mod endings;
mod probes;

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use podpolicy_api::{PodPolicyStatus, RolloutPhase};
use podpolicy_e2e::pods::{self, is_ready};
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::wait::{Seen, eventually};
use serde_json::{Value, json};

use crate::scene::Scene;

/// How long a rollout over a few pods may take.
const PATIENCE: Duration = Duration::from_mins(5);

/// A Deployment `web` of pods with this container, which by themselves have a second to end.
fn deployment(replicas: usize, container: &Value) -> Value {
    let labels = json!({ "app": "web" });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "terminationGracePeriodSeconds": 1, "containers": [container] } },
        },
    })
}

/// A policy for these pods.
fn policy(strategy: &str, on_failure: &str, settings: Value) -> Value {
    let mut spec = json!({
        "selector": { "matchLabels": { "app": "web" } },
        "precedence": "Policy",
        "rollout": { "strategy": strategy, "minReadySeconds": 1, "progressDeadlineSeconds": 120, "onFailure": on_failure },
    });
    if let (Some(spec), Value::Object(settings)) = (spec.as_object_mut(), settings) {
        spec.extend(settings);
    }
    json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": { "name": "standard" }, "spec": spec })
}

/// Waits until the policy's status holds, for as long as a rollout may take.
async fn until(scene: &Scene, what: &str, holds: impl Fn(&PodPolicyStatus) -> bool) -> anyhow::Result<PodPolicyStatus> {
    eventually(what, PATIENCE, async || {
        let policy = scene.policies.get("standard").await?;
        let status = policy.status.clone().unwrap_or_default();
        let speaks = status.observed_generation == policy.metadata.generation;
        Ok(if speaks && holds(&status) { Seen::Done(status) } else { Seen::NotYet(format!("{status:?}")) })
    })
    .await
}

/// Waits until nothing is left to do.
async fn complete(scene: &Scene) -> anyhow::Result<PodPolicyStatus> {
    until(scene, "the rollout to be complete", |status| {
        status.rollout.as_ref().is_some_and(|rollout| rollout.phase == RolloutPhase::Complete) && verdict(status, "Ready") == "True InForce"
    })
    .await
}

/// Waits until there are so many pods and no others, all ready, and each of them `holds`.
async fn settled(scene: &Scene, count: usize, holds: impl Fn(&Pod) -> bool) -> anyhow::Result<Vec<Pod>> {
    let params = ListParams::default().labels("app=web");
    eventually(&format!("{count} ready pods as they should be"), PATIENCE, async || {
        let found = scene.pods.list(&params).await?.items;
        let all = found.len() == count && found.iter().all(|pod| is_ready(pod) && holds(pod));
        Ok(if all { Seen::Done(found) } else { Seen::NotYet(pods::describe(&found)) })
    })
    .await
}

async fn uids(pods: &Api<Pod>) -> anyhow::Result<BTreeSet<String>> {
    let pods = pods.list(&ListParams::default().labels("app=web")).await?;
    Ok(pods.iter().filter_map(kube::ResourceExt::uid).collect())
}

/// The grace period that the pod was created with.
fn grace(pod: &Pod) -> Option<i64> {
    pod.spec.as_ref()?.termination_grace_period_seconds
}
