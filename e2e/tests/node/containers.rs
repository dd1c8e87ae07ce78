//! Containers of all sorts under a policy: which of them get probes and hooks, how they come to their ends, and what their pods say.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt as _;
use podpolicy_api::FindingReason;
use serde_json::json;

use crate::manifest::{SERVE, container, patient, pod, web};
use crate::scene::{Scene, condition, containers, exit_code, is_ready, phase, restarts, state, waits_for};

/// Names of the containers with a probe or a hook.
fn touched(containers: Option<&[Container]>) -> Vec<&str> {
    let has = |container: &&Container| {
        container.liveness_probe.is_some()
            || container.startup_probe.is_some()
            || container.readiness_probe.is_some()
            || container.lifecycle.is_some()
    };
    containers.into_iter().flatten().filter(has).map(|container| container.name.as_str()).collect()
}

#[tokio::test]
async fn sidecar_gets_probes_and_the_init_container_beside_it_none() -> anyhow::Result<()> {
    let scene = Scene::with_operator("sidecar").await?;
    scene
        .policy(
            "probed",
            "
            selector: {}
            containers:
              - startupProbe: { httpGet: { path: /made, port: 8080 }, periodSeconds: 1, failureThreshold: 120 }
                lifecycle: { preStop: { sleep: { seconds: 1 } } }
            ",
        )
        .await?;
    let mounts = json!([{ "name": "shared", "mountPath": "/shared" }]);
    let mut init = container("init", "sleep 1; touch /shared/made");
    let mut sidecar = container("sidecar", "sleep 3; exec httpd -f -p 8080 -h /shared");
    sidecar["restartPolicy"] = "Always".into();
    let mut main = container("main", "wget -q -O - http://127.0.0.1:8080/made && echo served; exec sleep 3600");
    for container in [&mut init, &mut sidecar, &mut main] {
        container["volumeMounts"] = mounts.clone();
    }
    let mut pod = patient("web", &[main]);
    pod["spec"]["initContainers"] = json!([init, sidecar]);
    pod["spec"]["volumes"] = json!([{ "name": "shared", "emptyDir": {} }]);
    scene.apply(&pod).await?;
    let pod = scene.pod("web", "to be ready", is_ready).await?;

    let spec = pod.spec.as_ref().context("a pod has a spec")?;
    assert_eq!((touched(spec.init_containers.as_deref()), touched(Some(&spec.containers))), (vec!["sidecar"], vec!["main"]));
    // The policy's startup probe has held the main container back until the sidecar served.
    assert_eq!(scene.kubectl(&["logs", "web", "--container", "main"])?, "served\n");
    let init = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let restarts: Vec<_> = init.iter().map(|container| (container.name.as_str(), container.restart_count)).collect();
    assert_eq!(restarts, [("init", 0), ("sidecar", 0)]);
    assert_eq!(condition(&pod, "Initialized"), "True");
    scene.end().await
}

#[tokio::test]
async fn every_restart_policy_is_honoured_and_only_always_gets_probes() -> anyhow::Result<()> {
    let scene = Scene::with_operator("restarts").await?;
    scene
        .policy(
            "probed",
            "
            selector: {}
            containers:
              - livenessProbe: { tcpSocket: { port: 8080 }, initialDelaySeconds: 60 }
                lifecycle: { preStop: { sleep: { seconds: 1 } } }
            ",
        )
        .await?;
    let twice = "[ -e /shared/once ] && exit 0; touch /shared/once; exit 4";
    for (name, policy, script) in [("always", "Always", "exit 0"), ("on-failure", "OnFailure", twice), ("never", "Never", "exit 3")] {
        let mut web = web(script);
        web["volumeMounts"] = json!([{ "name": "shared", "mountPath": "/shared" }]);
        let mut pod = patient(name, &[web]);
        pod["spec"]["restartPolicy"] = policy.into();
        pod["spec"]["volumes"] = json!([{ "name": "shared", "emptyDir": {} }]);
        scene.apply(&pod).await?;
    }
    let always = scene.pod("always", "to be started again", |pod| restarts(pod) >= 2).await?;
    let on_failure = scene.pod("on-failure", "to have succeeded", |pod| phase(pod) == "Succeeded").await?;
    let never = scene.pod("never", "to have failed", |pod| phase(pod) == "Failed").await?;
    assert_eq!((restarts(&on_failure), exit_code(&on_failure)), (1, Some(0)));
    assert_eq!((restarts(&never), exit_code(&never)), (0, Some(3)));
    assert_eq!(phase(&always), "Running");

    for (pod, probed) in [(&always, true), (&on_failure, false), (&never, false)] {
        let container = &pod.spec.as_ref().context("a pod has a spec")?.containers[0];
        assert_eq!(container.liveness_probe.is_some(), probed, "{}", pod.name_any());
        assert!(container.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.pre_stop.is_some()), "{}", pod.name_any());
    }
    // Pods that are at their end are nobody's any more.
    let status = scene.status("probed", "one pod", |status| status.pods.is_some_and(|pods| pods.matched == 1)).await?;
    assert_eq!(status.pods.map(|pods| pods.compliant), Some(1));
    scene.end().await
}

#[tokio::test]
async fn pods_that_run_to_their_end_are_reported_while_they_run() -> anyhow::Result<()> {
    let scene = Scene::with_operator("job").await?;
    scene.policy("probed", "{ selector: {}, containers: [{ livenessProbe: { tcpSocket: { port: 8080 } } }] }").await?;
    let mut pod = pod("job", &web("until [ -e /tmp/end ]; do sleep 0.1; done"));
    pod["spec"]["restartPolicy"] = "Never".into();
    scene.apply(&pod).await?;
    scene.pod("job", "to run", |pod| phase(pod) == "Running").await?;
    let found = scene.status("probed", "a finding", |status| !status.findings.is_empty()).await?;
    assert_eq!(found.findings[0].reason, FindingReason::RestartPolicy);
    assert_eq!(found.findings[0].example, "job");
    scene.kubectl(&["exec", "job", "--", "touch", "/tmp/end"])?;
    scene.pod("job", "to have succeeded", |pod| phase(pod) == "Succeeded").await?;
    scene.status("probed", "no pod", |status| status.pods.is_some_and(|pods| pods.matched == 0) && status.findings.is_empty()).await?;
    scene.end().await
}

/// What a pod comes to: how it is made, its phase, and the reason why its first container waits or has ended.
type Fate = (&'static str, serde_json::Value, &'static str, &'static [&'static str]);

#[tokio::test]
async fn pods_that_cannot_run_say_why_and_have_the_settings_of_the_policy() -> anyhow::Result<()> {
    let scene = Scene::with_operator("fates").await?;
    scene
        .policy(
            "standard",
            "{ selector: {}, labels: { team: shop }, terminationGracePeriodSeconds: 7, containers: [{ readinessProbe: { tcpSocket: { port: 8080 } } }] }",
        )
        .await?;
    let idle = || web("exec sleep 3600");
    let with = |key: &str, value: serde_json::Value| {
        let mut container = idle();
        container[key] = value;
        container
    };
    let mut absent = idle();
    absent["image"] = "podpolicy.invalid/absent:1".into();
    let mut pulled = absent.clone();
    pulled["imagePullPolicy"] = "Always".into();
    let mut if_absent = absent.clone();
    if_absent["imagePullPolicy"] = "IfNotPresent".into();
    let mut hungry = web("x=a; while :; do x=$x$x; done");
    hungry["resources"] = json!({ "limits": { "memory": "16Mi" } });
    let fates: [Fate; 8] = [
        ("never-pulled", absent, "Pending", &["ErrImageNeverPull"]),
        ("always-pulled", pulled, "Pending", &["ErrImagePull", "ImagePullBackOff"]),
        ("pulled-if-absent", if_absent, "Pending", &["ErrImagePull", "ImagePullBackOff"]),
        ("not-pulled", with("imagePullPolicy", "IfNotPresent".into()), "Running", &[""]),
        ("no-config", with("envFrom", json!([{ "configMapRef": { "name": "absent" } }])), "Pending", &["CreateContainerConfigError"]),
        ("no-program", with("command", json!(["/absent"])), "Running", &["CrashLoopBackOff"]),
        ("hungry", hungry, "Running", &["CrashLoopBackOff"]),
        ("huge", with("resources", json!({ "requests": { "cpu": "1000" } })), "Pending", &[""]),
    ];
    for (name, container, ..) in &fates {
        scene.apply(&patient(name, std::slice::from_ref(container))).await?;
    }
    for (name, _, wanted, reasons) in fates {
        let holds = |pod: &Pod| phase(pod) == wanted && (reasons.contains(&waits_for(pod).unwrap_or_default()));
        let pod = scene.pod(name, &format!("to be {wanted} {reasons:?}"), holds).await?;
        let spec = pod.spec.as_ref().context("a pod has a spec")?;
        assert_eq!(spec.termination_grace_period_seconds, Some(7), "{name}");
        assert!(spec.containers[0].readiness_probe.is_some(), "{name}");
        assert_eq!(pod.labels()["team"], "shop", "{name}");
        assert!(!is_ready(&pod), "{name}");
    }
    let hungry = scene.pods.get("hungry").await?;
    let last = containers(&hungry)[0].last_state.as_ref().and_then(|state| state.terminated.as_ref()).context("it has ended")?;
    assert_eq!((last.reason.as_deref(), last.exit_code), (Some("OOMKilled"), 128 + 9));
    assert_eq!(condition(&scene.pods.get("huge").await?, "PodScheduled"), "False Unschedulable");
    scene.event("FailedScheduling", "Insufficient cpu").await?;
    let status = scene.status("standard", "eight pods", |status| status.pods.is_some_and(|pods| pods.compliant == 8)).await?;
    assert_eq!(status.findings, []);
    scene.end().await
}

#[tokio::test]
async fn phases_and_conditions_follow_the_readiness_that_the_policy_asks_for() -> anyhow::Result<()> {
    let scene = Scene::with_operator("phases").await?;
    let probe = "{ httpGet: { path: /ready, port: 8080 }, periodSeconds: 1, failureThreshold: 1 }";
    scene.policy("probed", &format!("{{ selector: {{}}, containers: [{{ readinessProbe: {probe} }}] }}")).await?;
    let mut gated = pod("web", &web(SERVE));
    gated["spec"]["schedulingGates"] = json!([{ "name": "e2e.example.com/gate" }]);
    scene.apply(&gated).await?;
    let pod = scene.pod("web", "to be held back", |pod| condition(pod, "PodScheduled") == "False SchedulingGated").await?;
    assert_eq!(phase(&pod), "Pending");

    scene.kubectl(&["patch", "pod", "web", "--type=json", "--patch", r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#])?;
    let pod = scene.pod("web", "to run", |pod| phase(pod) == "Running" && condition(pod, "Initialized") == "True").await?;
    let seen = ["PodReadyToStartContainers", "ContainersReady", "Ready"].map(|kind| condition(&pod, kind));
    assert_eq!(seen, ["True", "False ContainersNotReady", "False ContainersNotReady"]);
    assert!(state(&pod).is_some_and(|state| state.running.is_some()));

    scene.kubectl(&["exec", "web", "--", "touch", "/tmp/ready"])?;
    let pod = scene.pod("web", "to be ready", is_ready).await?;
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let conditions: BTreeMap<_, _> = conditions.map(|condition| (condition.type_.as_str(), condition.status.as_str())).collect();
    let all = ["ContainersReady", "Initialized", "PodReadyToStartContainers", "PodScheduled", "Ready"];
    assert_eq!(conditions, all.into_iter().map(|kind| (kind, "True")).collect());
    scene.end().await
}

#[tokio::test]
async fn limit_range_and_limits_hold_beside_a_policy() -> anyhow::Result<()> {
    let scene = Scene::with_operator("limits").await?;
    scene
        .policy("standard", "{ selector: {}, terminationGracePeriodSeconds: 7, containers: [{ readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 } }] }")
        .await?;
    let limits = json!([{
        "type": "Container",
        "default": { "cpu": "200m", "memory": "64Mi" },
        "defaultRequest": { "cpu": "10m", "memory": "16Mi" },
        "max": { "memory": "128Mi" },
    }]);
    scene
        .apply(&json!({ "apiVersion": "v1", "kind": "LimitRange", "metadata": { "name": "limits" }, "spec": { "limits": limits } }))
        .await?;
    let mut own = web(SERVE);
    own["resources"] = json!({ "requests": { "memory": "32Mi" }, "limits": { "memory": "96Mi" } });
    scene.apply(&patient("defaulted", &[web(SERVE)])).await?;
    scene.apply(&patient("own", &[own.clone()])).await?;
    for (name, memory) in [("defaulted", ("16Mi", "64Mi")), ("own", ("32Mi", "96Mi"))] {
        let pod = scene.pod(name, "to be ready", is_ready).await?;
        let spec = pod.spec.as_ref().context("a pod has a spec")?;
        let resources = spec.containers[0].resources.as_ref().context("it has resources")?;
        let of = |list: &Option<BTreeMap<String, _>>, what: &str| {
            let quantity: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> = list.as_ref().and_then(|list| list.get(what));
            quantity.map(|quantity| quantity.0.clone()).unwrap_or_default()
        };
        assert_eq!((of(&resources.requests, "memory").as_str(), of(&resources.limits, "memory").as_str()), memory, "{name}");
        assert_eq!(of(&resources.limits, "cpu"), "200m", "{name}");
        assert_eq!(spec.termination_grace_period_seconds, Some(7), "{name}");
        assert!(spec.containers[0].readiness_probe.is_some(), "{name}");
    }
    own["resources"]["limits"]["memory"] = "256Mi".into();
    let refused = scene.apply(&patient("greedy", &[own])).await.expect_err("it is over the limit");
    assert!(format!("{refused:#}").contains("maximum memory usage per Container is 128Mi"), "{refused:#}");
    scene.status("standard", "two pods", |status| status.pods.is_some_and(|pods| (pods.matched, pods.compliant) == (2, 2))).await?;
    scene.end().await
}
