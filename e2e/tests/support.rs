//! What the operator says of settings that the API server drops, and what new pods get then.

#![allow(missing_docs, reason = "a test")]

use kube::api::PostParams;
use podpolicy_api::{FindingReason, PodPolicyStatus};
use podpolicy_controller::{AdmissionMode, ask_support};
use podpolicy_e2e::policies::{status, verdict};
use podpolicy_e2e::{InProcess, Stage, backend, objects, shared};
use podpolicy_engine::{Feature, Support};
use serde_json::{Value, json};

/// One setting that some API servers drop, and two that none does.
const POLICY: &str = "{
    selector: {}, labels: { team: shop }, terminationGracePeriodSeconds: 60,
    containers: [{ lifecycle: { stopSignal: SIGQUIT } }],
}";

#[tokio::test]
async fn dry_run_and_a_pod_that_is_created_agree_on_which_fields_are_kept() -> anyhow::Result<()> {
    let stage = Stage::set("support").await?;
    let found = ask_support(&stage.client, stage.name()).await?;
    // The same fields in a pod that is really created.
    let container = json!({
        "name": "web", "image": "example.invalid/web",
        "lifecycle": { "stopSignal": "SIGQUIT", "preStop": { "sleep": { "seconds": 1 } } },
        "livenessProbe": { "httpGet": { "port": 80, "protocol": "HTTP2" } },
        "readinessProbe": { "grpc": { "port": 80, "mode": "TLS" } },
    });
    let mut pod = objects::pod("web", &[]);
    pod.spec = Some(serde_json::from_value(json!({ "os": { "name": "linux" }, "containers": [container] }))?);
    let pod: Value = serde_json::to_value(stage.pods.create(&PostParams::default(), &pod).await?)?;
    for feature in Feature::ALL.into_iter().filter(|feature| *feature != Feature::ContainerRestartPolicy) {
        let kept = feature.path().iter().try_fold(&pod["spec"]["containers"][0], |value, key| value.get(key)).is_some();
        assert_eq!(found.has(feature), kept, "{feature:?}: {pod:#}");
    }
    let version = found.server().expect("an API server says its version");
    assert!(Support::of(version).has(Feature::SleepHook), "{version}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setting_that_the_api_server_drops_is_refused_and_all_else_is_given() -> anyhow::Result<()> {
    let stage = Stage::set("support").await?;
    let found = ask_support(&stage.client, stage.name()).await?;
    anyhow::ensure!(!found.has(Feature::StopSignal), "this API server keeps stop signals: test another field that it drops");
    let config = backend::operator_in(stage.name(), AdmissionMode::Auto)?;
    let _operator = InProcess::start(stage.tap.client(shared().await.config())?, config).await?;
    stage.policy("standard", POLICY).await?;
    let is_refused = |status: &PodPolicyStatus| {
        let finding = status.findings.iter().find(|finding| finding.reason == FindingReason::NotSupported);
        let field = finding.is_some_and(|finding| {
            finding.field == "containers[*].lifecycle.stopSignal" && finding.message.contains("the feature gate ContainerStopSignals")
        });
        field
            && verdict(status, "Ready") == "False Refused"
            && status.admission.as_ref().is_some_and(|admission| admission.message.is_none())
    };
    status(&stage.policies, "standard", "the stop signal to be refused", is_refused).await?;

    let mut pod = objects::pod("web", &[]);
    pod.spec.as_mut().expect("a pod has a spec").os = Some(serde_json::from_value(json!({ "name": "linux" }))?);
    let pod = stage.pods.create(&PostParams::default(), &pod).await?;
    assert_eq!(pod.metadata.labels.as_ref().and_then(|labels| labels.get("team")).map(String::as_str), Some("shop"));
    let spec = pod.spec.as_ref().expect("a pod has a spec");
    assert_eq!(spec.termination_grace_period_seconds, Some(60));
    assert_eq!(spec.containers[0].lifecycle, None);
    let record = podpolicy_e2e::stage::record(&pod);
    assert!(!record.to_string().contains("stopSignal"), "{record}");
    Ok(())
}
