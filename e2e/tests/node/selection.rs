//! Labels and annotations of pods that run: which pods policies select, and which pods are found by what policies set.

use std::collections::BTreeSet;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use podpolicy_api::{ClusterPodPolicy, FindingReason};
use podpolicy_e2e::policies;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use serde_json::json;

use crate::manifest::{SERVE, pod, web};
use crate::scene::{Scene, containers, exit_code, is_ready, phase, restarts};

/// Pods that do nothing, with these labels, until they run.
async fn idle(scene: &Scene, pods: &[(&str, serde_json::Value)]) -> anyhow::Result<()> {
    for (name, labels) in pods {
        let mut pod = pod(name, &web("exec sleep 3600"));
        pod["metadata"]["labels"] = labels.clone();
        scene.apply(&pod).await?;
    }
    for (name, _) in pods {
        scene.pod(name, "to run", |pod| phase(pod) == "Running").await?;
    }
    Ok(())
}

/// Waits until exactly these pods have the annotation.
async fn annotated(scene: &Scene, key: &str, wanted: &[&str]) -> anyhow::Result<()> {
    eventually(&format!("exactly {wanted:?} to have {key}"), DEADLINE, async || {
        let pods = scene.pods.list(&ListParams::default()).await?.items;
        let found: BTreeSet<_> = pods.iter().filter(|pod| pod.annotations().contains_key(key)).map(ResourceExt::name_any).collect();
        Ok(Seen::when(found.iter().eq(wanted), found))
    })
    .await
}

#[tokio::test]
async fn every_operator_of_a_selector_selects_running_pods() -> anyhow::Result<()> {
    let scene = Scene::with_operator("selectors").await?;
    idle(
        &scene,
        &[
            ("db", json!({ "stage": "live", "tier": "db" })),
            ("none", json!({})),
            ("trial", json!({ "stage": "trial" })),
            ("web", json!({ "stage": "live", "tier": "web" })),
        ],
    )
    .await?;
    let before: Vec<_> = scene.pods.list(&ListParams::default()).await?.items.iter().map(ResourceExt::uid).collect();
    let cases: [(&str, &str, &[&str]); 6] = [
        ("equal", "matchLabels: { stage: live }", &["db", "web"]),
        ("in", "matchExpressions: [{ key: tier, operator: In, values: [web, cache] }]", &["web"]),
        ("not-in", "matchExpressions: [{ key: stage, operator: NotIn, values: [live] }]", &["none", "trial"]),
        ("exists", "matchExpressions: [{ key: tier, operator: Exists }]", &["db", "web"]),
        ("does-not-exist", "matchExpressions: [{ key: tier, operator: DoesNotExist }]", &["none", "trial"]),
        ("both", "matchLabels: { stage: live }, matchExpressions: [{ key: tier, operator: NotIn, values: [db] }]", &["web"]),
    ];
    for (name, selector, wanted) in cases {
        scene.policy(name, &format!("{{ selector: {{ {selector} }}, annotations: {{ example.com/{name}: 'true' }} }}")).await?;
        annotated(&scene, &format!("example.com/{name}"), wanted).await?;
    }
    // Whatever changed, it changed in place.
    let after = scene.pods.list(&ListParams::default()).await?.items;
    assert_eq!(after.iter().map(ResourceExt::uid).collect::<Vec<_>>(), before);
    assert!(after.iter().all(|pod| restarts(pod) == 0 && phase(pod) == "Running"));
    // And goes again in place.
    scene.kubectl(&["delete", "podpolicy", "equal"])?;
    annotated(&scene, "example.com/equal", &[]).await?;
    scene.end().await
}

#[tokio::test]
async fn pods_are_found_by_the_labels_that_policies_set() -> anyhow::Result<()> {
    let scene = Scene::with_operator("found").await?;
    for team in ["shop", "billing"] {
        scene.policy(team, &format!("{{ selector: {{ matchLabels: {{ app: {team} }} }}, labels: {{ team: {team} }} }}")).await?;
    }
    idle(&scene, &[("billing", json!({ "app": "billing" })), ("free", json!({})), ("shop", json!({ "app": "shop" }))]).await?;
    for (selector, wanted) in [
        ("team=shop", "pod/shop\n"),
        ("team==shop", "pod/shop\n"),
        ("team!=shop", "pod/billing\npod/free\n"),
        ("team in (shop,billing)", "pod/billing\npod/shop\n"),
        ("team notin (shop)", "pod/billing\npod/free\n"),
        ("team", "pod/billing\npod/shop\n"),
        ("!team", "pod/free\n"),
        ("team,team!=billing", "pod/shop\n"),
    ] {
        assert_eq!(scene.kubectl(&["get", "pods", "--selector", selector, "--output=name"])?, wanted, "{selector}");
    }
    scene.end().await
}

#[tokio::test]
async fn namespaces_have_policies_of_their_own_and_share_those_of_the_cluster() -> anyhow::Result<()> {
    let (live, trial) = (Scene::with_operator("live").await?, Scene::with_operator("trial").await?);
    let name = live.name().to_owned();
    let spec = json!({
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } },
        "selector": {},
        "terminationGracePeriodSeconds": 5,
        "annotations": { "example.com/stage": "live" },
    });
    let api = "podpolicy.dev/v1alpha1";
    live.apply(&json!({ "apiVersion": api, "kind": "ClusterPodPolicy", "metadata": { "name": name }, "spec": spec })).await?;
    for (scene, team) in [(&live, "shop"), (&trial, "lab")] {
        scene.policy("team", &format!("{{ selector: {{}}, labels: {{ team: {team} }} }}")).await?;
    }
    let shared: Api<ClusterPodPolicy> = Api::all(live.client.clone());
    policies::in_force(&shared, &name, 0).await?;
    for (scene, team, grace, stage) in [(&live, "shop", 5, Some("live")), (&trial, "lab", 30, None)] {
        let mut web = pod("web", &web(SERVE));
        web["spec"]["terminationGracePeriodSeconds"] = serde_json::Value::Null;
        scene.apply(&web).await?;
        let pod = scene.pod("web", "to be ready", is_ready).await?;
        assert_eq!(pod.labels()["team"], team);
        assert_eq!(pod.annotations().get("example.com/stage").map(String::as_str), stage, "{team}");
        assert_eq!(pod.spec.and_then(|spec| spec.termination_grace_period_seconds), Some(grace), "{team}");
    }
    policies::in_force(&shared, &name, 1).await?;
    shared.delete(&name, &DeleteParams::default()).await?;
    live.pod("web", "without the annotation", |pod| !pod.annotations().contains_key("example.com/stage")).await?;
    live.end().await?;
    trial.end().await
}

#[tokio::test]
async fn program_reads_from_its_first_moment_what_policies_have_set_on_its_pod() -> anyhow::Result<()> {
    let scene = Scene::with_operator("downward").await?;
    scene
        .policy(
            "standard",
            "{ selector: {}, labels: { team: shop }, annotations: { example.com/oncall: 'shop@example.com, by \"phone\"' } }",
        )
        .await?;
    let mut web = web("echo $TEAM; cat /pod/oncall");
    web["env"] = json!([{ "name": "TEAM", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['team']" } } }]);
    web["volumeMounts"] = json!([{ "name": "pod", "mountPath": "/pod" }]);
    let mut pod = pod("web", &web);
    pod["spec"]["restartPolicy"] = "Never".into();
    let field = json!({ "path": "oncall", "fieldRef": { "fieldPath": "metadata.annotations['example.com/oncall']" } });
    pod["spec"]["volumes"] = json!([{ "name": "pod", "downwardAPI": { "items": [field] } }]);
    scene.apply(&pod).await?;
    scene.pod("web", "to have ended", |pod| exit_code(pod) == Some(0)).await?;
    assert_eq!(scene.kubectl(&["logs", "web"])?, "shop\nshop@example.com, by \"phone\"");
    scene.end().await
}

#[tokio::test]
async fn recommended_labels_are_set_on_running_pods_and_kubernetes_own_are_not() -> anyhow::Result<()> {
    let scene = Scene::with_operator("recommended").await?;
    idle(&scene, &[("web", json!({ "app": "web" }))]).await?;
    let started = |pod: &Pod| containers(pod).first().and_then(|container| container.container_id.clone());
    let before = started(&scene.pods.get("web").await?).context("it runs")?;
    let labels = [
        ("name", "web"),
        ("instance", "web-eu"),
        ("version", "1.2.3"),
        ("component", "frontend"),
        ("part-of", "shop"),
        ("managed-by", "podpolicy"),
    ];
    let text = labels.iter().map(|(key, value)| format!("app.kubernetes.io/{key}: '{value}', ")).collect::<Vec<_>>().concat();
    let spec = format!("{{ selector: {{ matchLabels: {{ app: web }} }}, labels: {{ {text} kubernetes.io/os: plan9 }} }}");
    scene
        .apply(&json!({
            "apiVersion": "podpolicy.dev/v1alpha1",
            "kind": "PodPolicy",
            "metadata": { "name": "recommended" },
            "spec": podpolicy_e2e::objects::yaml::<serde_json::Value>(&spec),
        }))
        .await?;
    let has_all = |pod: &Pod| {
        labels.iter().all(|(key, value)| pod.labels().get(&format!("app.kubernetes.io/{key}")).map(String::as_str) == Some(value))
    };
    let pod = scene.pod("web", "to have all labels", has_all).await?;
    assert!(!pod.labels().contains_key("kubernetes.io/os"));
    assert_eq!(started(&pod).as_deref(), Some(before.as_str()), "the container was started again");
    let found = scene.status("recommended", "a finding", |status| !status.findings.is_empty()).await?;
    assert_eq!((found.findings[0].reason, found.findings[0].field.as_str()), (FindingReason::ProtectedKey, "labels[kubernetes.io/os]"));
    assert_eq!(scene.kubectl(&["get", "pods", "--selector", "app.kubernetes.io/part-of=shop", "--output=name"])?, "pod/web\n");
    scene.end().await
}
