//! Alerts speak of metrics that there are, and say what to do.

use std::collections::BTreeSet;

use kube::Api;
use kube::api::PostParams;
use podpolicy_api::PodPolicy;
use podpolicy_e2e::objects::{self, apply};
use podpolicy_e2e::policies::settled;
use podpolicy_e2e::{ControlPlane, InProcess, Options, TestNamespace};

use crate::render::Overlay;

#[tokio::test]
async fn alerts_use_metrics_that_exist_and_say_what_to_do() -> anyhow::Result<()> {
    let existing = metrics().await?;
    let objects = Overlay::new(&["prometheus"], "")?.objects()?;
    let rules = objects["PrometheusRule podpolicy-system podpolicy"]["spec"]["groups"][0]["rules"].as_array().unwrap();
    for rule in rules {
        let expression = rule["expr"].as_str().unwrap();
        let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let used: BTreeSet<_> = expression.split(|character| !is_part(character)).filter(|word| word.starts_with("podpolicy_")).collect();
        assert!(!used.is_empty(), "{rule:#}");
        assert!(used.iter().all(|name| existing.contains(*name)), "{used:?} are not all among {existing:?}");
        for annotation in ["summary", "runbook"] {
            assert!(rule["annotations"][annotation].as_str().is_some_and(|text| !text.is_empty()), "{rule:#}");
        }
    }
    Ok(())
}

/// The metrics of an operator that has written a pod and a status: what was never counted is not shown.
async fn metrics() -> anyhow::Result<BTreeSet<String>> {
    let plane = ControlPlane::start(Options { crds: true, controller_manager: false }).await?;
    let namespace = TestNamespace::create(&plane.config(), "alerts").await?;
    let client = plane.client();
    Api::namespaced(client.clone(), namespace.name()).create(&PostParams::default(), &objects::pod("web", &[])).await?;
    let policy = "
        apiVersion: podpolicy.dev/v1alpha1
        kind: PodPolicy
        metadata: { name: label }
        spec: { selector: {}, labels: { team: shop } }
    ";
    apply(&client, namespace.name(), policy).await?;
    let operator = InProcess::in_namespace(plane.client(), namespace.name()).await?;
    settled(&Api::<PodPolicy>::namespaced(client, namespace.name()), "label", 1).await?;
    let text = operator.metrics.to_text();
    operator.stop().await?;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    Ok(samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect())
}
