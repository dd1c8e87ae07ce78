//! From one backend to the other, and without an operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};
use podpolicy_api::AdmissionBackend;
use podpolicy_e2e::backend::lacks_native;
use podpolicy_e2e::policies::status;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{InProcess, Stage, objects, shared};

use crate::backends::{Backend, config, operator};

/// Creates pods, one after the other, until it is told to stop; how many there were, and which of them lacked something.
async fn stream(pods: Api<Pod>, stop: Arc<AtomicBool>) -> anyhow::Result<(usize, Vec<String>)> {
    let (mut count, mut lacking) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let mut pod = objects::pod("unused", &[("app", "stream")]);
        pod.metadata.name = None;
        pod.metadata.generate_name = Some("stream-".to_owned());
        let pod = pods.create(&PostParams::default(), &pod).await?;
        if pod.labels().get("team").map(String::as_str) != Some("shop")
            || pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds) != Some(60)
        {
            lacking.push(pod.name_any());
        }
        pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
        count += 1;
    }
    Ok((count, lacking))
}

/// Waits until pods are given their settings by this backend.
async fn by(stage: &Stage, wanted: AdmissionBackend) -> anyhow::Result<()> {
    // Without a message it is in force, and not only on its way.
    let is_by = |status: &podpolicy_api::PodPolicyStatus| {
        status.admission.as_ref().is_some_and(|admission| admission.backend == wanted && admission.message.is_none())
    };
    status(&stage.policies, "standard", "the other backend", is_by).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pod_goes_without_while_the_backend_changes() -> anyhow::Result<()> {
    if lacks_native(shared().await).await? {
        return Ok(());
    }
    let stage = Stage::set("moving").await?;
    let plane = shared().await;
    let client = || stage.tap.client(plane.config());
    let native = operator(&stage, Backend::Native).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let creating = tokio::spawn(stream(stage.pods.clone(), Arc::clone(&stop)));

    // As in a rolling update: the next operator is there before the last one goes.
    let webhook_config = config(&stage, Backend::Webhook)?;
    let name = webhook_config.webhook.as_ref().unwrap().name.clone();
    let unit = format!("podpolicy-namespace-{}", stage.name());
    let webhook = InProcess::start(client()?, webhook_config.clone()).await?;
    native.stop().await?;
    by(&stage, AdmissionBackend::Webhook).await?;
    let units: Api<MutatingAdmissionPolicy> = Api::all(stage.client.clone());
    eventually("the native objects to go", DEADLINE, async || Ok(Seen::when(units.get_opt(&unit).await?.is_none(), "still there"))).await?;

    let native = InProcess::start(client()?, config(&stage, Backend::Native)?).await?;
    by(&stage, AdmissionBackend::Native).await?;
    webhook.stop().await?;
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(stage.client.clone());
    eventually("the webhook's configuration to go", DEADLINE, async || {
        Ok(Seen::when(configurations.get_opt(&name).await?.is_none(), "still there"))
    })
    .await?;

    stop.store(true, Ordering::Relaxed);
    let (count, lacking) = creating.await??;
    assert!(count > 20, "only {count} pods were created");
    assert_eq!(lacking, Vec::<String>::new(), "of {count} pods");
    native.stop().await
}

#[tokio::test]
async fn pods_that_came_while_the_webhook_was_down_are_reported_when_it_is_back() -> anyhow::Result<()> {
    let stage = Stage::set("moving").await?;
    let crashing = operator(&stage, Backend::Webhook).await?;
    drop(crashing);
    let pod = stage.create_pod("orphan", &[("app", "web")]).await?;
    assert_eq!(pod.spec.unwrap().termination_grace_period_seconds, Some(30), "nobody was there to be asked");
    let _operator = InProcess::start(stage.tap.client(shared().await.config())?, config(&stage, Backend::Webhook)?).await?;
    let outdated = |status: &podpolicy_api::PodPolicyStatus| status.pods.is_some_and(|pods| pods.outdated == 1 && pods.matched == 1);
    status(&stage.policies, "standard", "one outdated pod", outdated).await?;
    // What can change on a live pod has been brought to it.
    assert_eq!(stage.pods.get("orphan").await?.labels().get("team").map(String::as_str), Some("shop"));
    Ok(())
}
