//! The chart renders what kustomize renders.

use serde_json::{Value, json};

use crate::render::{OPTIONS, Objects, Overlay, helm, helm_text};

/// The labels that only the chart's objects have.
const CHART_LABELS: [&str; 4] =
    ["app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart"];

#[test]
fn chart_renders_what_kustomize_renders() -> anyhow::Result<()> {
    let none = std::iter::once((Vec::new(), Vec::new()));
    let each = OPTIONS.iter().map(|(component, value)| (vec![*component], vec![*value]));
    let all = std::iter::once(OPTIONS.iter().copied().unzip());
    for (components, values) in none.chain(each).chain(all) {
        let values: Vec<_> = values.iter().map(|value| format!("{value}=true")).collect();
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        let mut wanted = Overlay::new(&components, "")?.objects()?;
        // Helm itself makes the namespace, or finds it there.
        wanted.remove("Namespace - podpolicy-system").unwrap();
        same(&without_marks(helm("podpolicy-system", &values)?), &wanted, &values);
    }
    Ok(())
}

#[test]
fn chart_goes_into_whatever_namespace() -> anyhow::Result<()> {
    let values = OPTIONS.map(|(_, value)| format!("{value}=true"));
    let text = helm_text("elsewhere", &values.each_ref().map(String::as_str))?;
    let strays: Vec<_> = text.lines().filter(|line| line.contains("podpolicy-system")).collect();
    assert!(strays.is_empty(), "{strays:?}");
    assert!(text.contains("podpolicy-webhook.elsewhere.svc") && text.contains("serverName: podpolicy-metrics.elsewhere.svc"), "{text}");
    Ok(())
}

#[test]
fn definitions_stay_when_the_release_goes() -> anyhow::Result<()> {
    let objects = helm("podpolicy-system", &[])?;
    let definitions: Vec<_> = objects.iter().filter(|(key, _)| key.starts_with("CustomResourceDefinition")).collect();
    assert_eq!(definitions.len(), 2);
    for (_, definition) in definitions {
        assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    let without = helm("podpolicy-system", &["crds=false"])?;
    assert!(without.keys().all(|key| !key.starts_with("CustomResourceDefinition")), "{:?}", without.keys());
    Ok(())
}

#[test]
fn values_reach_the_operator() -> anyhow::Result<()> {
    let values = [
        "image.repository=registry.example/team/podpolicy",
        "image.tag=1.2.3",
        "image.pullPolicy=Always",
        "image.pullSecrets={pull}",
        "admission=webhook",
        "arguments={--webhook-failure-policy=fail}",
        "resources.requests.cpu=1",
        "nodeSelector.disk=fast",
        "tolerations[0].operator=Exists",
        "replicas=0",
    ];
    let objects = helm("podpolicy-system", &values)?;
    let deployment = &objects["Deployment podpolicy-system podpolicy"];
    let spec = &deployment["spec"]["template"]["spec"];
    let container = &spec["containers"][0];
    assert_eq!(container["image"], "registry.example/team/podpolicy:1.2.3");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(spec["imagePullSecrets"], json!([{ "name": "pull" }]));
    let arguments = json!([
        "run",
        "--leader-elect",
        "--admission=webhook",
        "--webhook-service=podpolicy-webhook",
        "--log-format=json",
        "--webhook-failure-policy=fail"
    ]);
    assert_eq!(container["args"], arguments);
    assert_eq!(container["resources"], json!({ "requests": { "cpu": 1, "memory": "64Mi" }, "limits": { "memory": "1Gi" } }));
    assert_eq!(spec["nodeSelector"], json!({ "disk": "fast" }));
    assert_eq!(spec["tolerations"], json!([{ "operator": "Exists" }]));
    assert_eq!(deployment["spec"]["replicas"], 0);
    Ok(())
}

#[test]
fn values_that_do_not_exist_are_refused() {
    for (value, word) in
        [("replica=2", "replica"), ("admission=both", "admission"), ("arguments={run}", "arguments"), ("rollout.evict=1", "evict")]
    {
        let error = helm("podpolicy-system", &[value]).expect_err(value).to_string();
        assert!(error.contains("specifications of the schema") && error.contains(word), "{value}: {error}");
    }
}

#[test]
fn chart_has_the_version_of_the_program() -> anyhow::Result<()> {
    let chart = std::fs::read_to_string(crate::render::root().join("charts/podpolicy/Chart.yaml"))?;
    let chart: Value = serde_saphyr::from_str(&chart)?;
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(env!("CARGO_PKG_VERSION"))));
    Ok(())
}

/// The chart's objects without the labels and the annotation by which Helm knows them.
fn without_marks(mut objects: Objects) -> Objects {
    for (key, object) in &mut objects {
        let metadata = object["metadata"].as_object_mut().unwrap();
        let labels = metadata["labels"].as_object_mut().unwrap();
        for label in CHART_LABELS {
            assert!(labels.remove(label).is_some(), "{key} has no label {label}");
        }
        if labels.is_empty() {
            metadata.remove("labels");
        }
        if key.starts_with("CustomResourceDefinition") {
            metadata.remove("annotations");
        }
    }
    objects
}

fn same(found: &Objects, wanted: &Objects, values: &[&str]) {
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "with {values:?}");
    for (key, wanted) in wanted {
        let difference = json_patch::diff(wanted, &found[key]);
        assert!(difference.is_empty(), "with {values:?}, {key} of the chart differs from kustomize's by {difference}");
    }
}
