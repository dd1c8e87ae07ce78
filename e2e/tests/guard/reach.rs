//! A PodPolicy reaches nothing outside its namespace, whatever it says: who may write one must gain nothing elsewhere.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool};
use kube::api::{Patch, PatchParams, PostParams, ValidationDirective};
use kube::{Api, CustomResourceExt as _, ResourceExt as _};
use podpolicy_api::{FindingReason, PodPolicy, PodPolicyStatus};
use podpolicy_controller::{AdmissionMode, Config, Watched};
use podpolicy_e2e::wait::{self, DEADLINE, Seen, eventually};
use podpolicy_e2e::{InProcess, TestNamespace, backend, objects, policies};
use serde_json::{Value, json};

use crate::scene::{Scene, plane, policy};

/// Every field of a spec that holds a text, by its last name, and why it reaches nothing elsewhere. A new one must be thought of here, and be
/// tried below if it names something.
const TEXTS: [(&str, &str); 23] = [
    ("annotations", "written on selected pods"),
    ("command", "runs in selected pods, and only from who may run commands there"),
    ("enforcement", "one of two words"),
    ("host", "refused"),
    ("key", "of a label of pods"),
    ("labels", "written on selected pods"),
    ("matchLabels", "labels of pods"),
    ("maxUnavailable", "a number"),
    ("mode", "one of two words"),
    ("name", "of an HTTP header, sent to the pod itself"),
    ("names", "of containers of selected pods"),
    ("onFailure", "one of two words"),
    ("operator", "one of four words"),
    ("path", "asked of the pod itself"),
    ("port", "asked of the pod itself"),
    ("precedence", "one of two words"),
    ("protocol", "one of two words"),
    ("scheme", "one of two words"),
    ("service", "a word that is sent to the pod itself"),
    ("stopSignal", "the name of a signal"),
    ("strategy", "one of three words"),
    ("value", "of an HTTP header, sent to the pod itself"),
    ("values", "of a label of pods"),
];

#[test]
fn every_field_that_holds_a_text_is_known() {
    let definition = PodPolicy::crd();
    let schema = definition.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()).unwrap();
    let mut found = BTreeSet::new();
    texts("spec", &schema.properties.as_ref().unwrap()["spec"], &mut found);
    assert_eq!(found, TEXTS.iter().map(|(name, _)| (*name).to_owned()).collect());
}

fn texts(name: &str, schema: &JSONSchemaProps, found: &mut BTreeSet<String>) {
    if schema.type_.as_deref() == Some("string") || schema.x_kubernetes_int_or_string == Some(true) {
        found.insert(name.to_owned());
    }
    for (name, schema) in schema.properties.iter().flatten() {
        texts(name, schema, found);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        texts(name, items, found);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        texts(name, values, found);
    }
}

#[tokio::test]
async fn policy_that_names_another_namespace_in_every_field_reaches_nothing_there() -> anyhow::Result<()> {
    let plane = plane().await?;
    let scene = Scene::set(&plane).await?;
    let other = TestNamespace::create(&plane.config(), "other").await?;
    let of_other: Api<Pod> = Api::namespaced(scene.client.clone(), other.name());
    let of_scene: Api<Pod> = Api::namespaced(scene.client.clone(), scene.namespace.name());
    // Both have the labels that the policy selects; there, the namespace is one of them.
    let labels = [("app", "web"), ("kubernetes.io/metadata.name", other.name())];
    let before = of_other.create(&PostParams::default(), &objects::pod("web", &labels)).await?;
    of_scene.create(&PostParams::default(), &objects::pod("web", &labels)).await?;
    // One that acts in all namespaces would find them.
    let config = backend::operator_in(scene.namespace.name(), AdmissionMode::Auto)?;
    let operator = InProcess::start(scene.tap.client(plane.config())?, Config { watched: Watched::Cluster, ..config }).await?;

    let host = format!("web.{}.svc", other.name());
    let http = json!({ "httpGet": { "host": host, "port": 80 } });
    let tcp = json!({ "tcpSocket": { "host": host, "port": 80 } });
    let spec = json!({
        "selector": {
            "matchLabels": { "kubernetes.io/metadata.name": other.name() },
            "matchExpressions": [{ "key": "kubernetes.io/metadata.name", "operator": "In", "values": [other.name()] }],
        },
        "labels": { "team": "shop" },
        "annotations": { "example.com/namespace": other.name() },
        "containers": [
            { "livenessProbe": http, "readinessProbe": tcp, "startupProbe": http, "lifecycle": { "postStart": http, "preStop": http } },
            { "names": [other.name()], "livenessProbe": http },
        ],
    });
    scene.policies.create(&PostParams::default(), &policy("reach", &spec)).await?;
    let refused =
        |status: &PodPolicyStatus| status.findings.iter().filter(|finding| finding.reason == FindingReason::HostNotAllowed).count() == 5;
    let status = policies::status(&scene.policies, "reach", "five hosts are refused", refused).await?;
    assert_eq!(status.pods.map(|pods| pods.matched), Some(1), "{status:#?}");
    let here =
        wait::object(&of_scene, "web", "the label", DEADLINE, |pod: Option<&Pod>| pod.is_some_and(|pod| pod.labels().contains_key("team")));
    here.await?;
    // New pods there get nothing, and new pods here no host.
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    eventually("new pods to get what the policy says", DEADLINE, async || {
        let pod = of_scene.create(&dry_run, &objects::pod("new", &labels)).await?;
        let text = serde_json::to_string(&pod.spec)?;
        anyhow::ensure!(!text.contains(&host), "{text}");
        Ok(Seen::when(pod.labels().contains_key("team"), text))
    })
    .await?;
    let new = of_other.create(&dry_run, &objects::pod("new", &labels)).await?;
    assert!(!new.labels().contains_key("team") && new.annotations().is_empty(), "{new:?}");
    let after = of_other.get("web").await?;
    assert_eq!(after.resource_version(), before.resource_version());
    operator.stop().await
}

#[tokio::test]
async fn policy_of_a_namespace_cannot_say_that_it_is_for_others() -> anyhow::Result<()> {
    let plane = plane().await?;
    let scene = Scene::set(&plane).await?;
    for (field, value) in [("namespaceSelector", json!({})), ("namespace", json!("kube-system")), ("namespaces", json!(["*"]))] {
        let mut said: Value = serde_json::to_value(policy("reach", &json!({ "selector": {} })))?;
        said["spec"][field] = value;
        said["metadata"]["namespace"] = scene.namespace.name().into();
        let strict =
            PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply(objects::FIELD_MANAGER).force() };
        let error = scene.policies.patch("reach", &strict, &Patch::Apply(&said)).await.unwrap_err().to_string();
        assert!(error.contains(field), "{field}: {error}");
    }
    Ok(())
}
