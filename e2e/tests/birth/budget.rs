//! What the API server spends on an expression has a bound, and so has what it takes: policies within the compiler's bounds are in force on the
//! largest pods, and what is beyond them is left out and said, never sent.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use podpolicy_admission::cel::{Compilation, compile};
use podpolicy_e2e::backend::lacks_native;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{Stage, objects, shared};
use podpolicy_engine::{Exec, Policy, Program, Settings};
use serde_json::{Map, Value, json};

/// Policies that all select the pod, each by conditions of its own, so that none hides another.
fn program(namespace: &str, count: usize, keys: usize, rules: usize) -> Program {
    let policy = |number: usize| {
        let entries = |prefix: &str| -> Map<String, Value> {
            (0..keys).map(|key| (format!("example.com/{prefix}-{key}"), format!("value-{number}").into())).collect()
        };
        let rule = |rule: usize| {
            json!({
                "names": [format!("c*{rule}"), "c*"],
                "livenessProbe": { "httpGet": { "path": format!("/live-{number}"), "port": 8080 } },
                "readinessProbe": { "httpGet": { "path": format!("/ready-{number}"), "port": "http" } },
                "startupProbe": { "periodSeconds": 7 },
                "lifecycle": { "preStop": { "sleep": { "seconds": 5 } }, "postStart": { "exec": { "command": ["true", format!("{number}")] } } },
            })
        };
        let policy = json!({
            "metadata": { "name": format!("policy-{number}"), "namespace": namespace },
            "spec": {
                "selector": { "matchExpressions": [{ "key": "app", "operator": "In", "values": ["web", format!("other-{number}")] }] },
                "precedence": "Policy", "labels": entries("label"), "annotations": entries("annotation"), "terminationGracePeriodSeconds": 60 + number,
                "containers": (0..rules).map(rule).collect::<Vec<_>>(),
            },
        });
        Arc::new(Policy::from_namespaced(&serde_json::from_value(policy).unwrap()).with_exec(Exec::Vouched))
    };
    Program::new((0..count).map(policy), HashMap::new(), Settings::default())
}

/// A pod with many containers.
fn large_pod() -> Pod {
    let container = |number: usize| json!({ "name": format!("c{number}"), "image": "image", "ports": [{ "name": format!("p{number}"), "containerPort": 8080 }] });
    let mut pod = objects::pod("large", &[("app", "web")]);
    pod.spec.as_mut().unwrap().containers = (0..20).map(|number| serde_json::from_value(container(number)).unwrap()).collect();
    pod
}

/// Puts the one unit on the API server, and waits until a pod shows that it is in force.
async fn is_in_force(stage: &Stage, compilation: &Compilation) -> anyhow::Result<Pod> {
    let unit = &compilation.units[0];
    Api::<MutatingAdmissionPolicy>::all(stage.client.clone()).create(&PostParams::default(), &unit.policy).await?;
    Api::<MutatingAdmissionPolicyBinding>::all(stage.client.clone()).create(&PostParams::default(), &unit.binding).await?;
    let params = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the unit to be in force", DEADLINE, async || {
        let pod = stage.pods.create(&params, &large_pod()).await?;
        let is_changed = pod.annotations().contains_key("podpolicy.dev/applied");
        Ok(if is_changed { Seen::Done(pod) } else { Seen::NotYet("the pod as it was".to_owned()) })
    })
    .await
}

#[tokio::test]
async fn fifty_policies_are_in_force_on_a_large_pod() -> anyhow::Result<()> {
    if lacks_native(shared().await).await? {
        return Ok(());
    }
    let stage = Stage::set("budget").await?;
    let compilation = compile(&program(stage.name(), 50, 10, 3));
    assert_eq!(compilation.omissions, []);
    let pod = is_in_force(&stage, &compilation).await?;
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.termination_grace_period_seconds, Some(60));
    assert!(spec.containers.iter().all(|container| container.liveness_probe.is_some()));
    Ok(())
}

#[tokio::test]
async fn what_is_too_much_is_left_out_and_the_rest_is_in_force() -> anyhow::Result<()> {
    if lacks_native(shared().await).await? {
        return Ok(());
    }
    let stage = Stage::set("budget").await?;
    let compilation = compile(&program(stage.name(), 700, 64, 16));
    assert!(!compilation.omissions.is_empty());
    let first = &compilation.units[0].policies;
    assert!(!first.is_empty());
    let message = &compilation.omissions[0].message;
    assert!(message.contains("merge policies"), "{message}");
    is_in_force(&stage, &compilation).await?;
    Ok(())
}
