//! Other admission plugins beside the operator's: they change the same pods, before and after.

use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};
use podpolicy_e2e::backend::lacks_native;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{Stage, objects, shared};
use serde_json::Value;

use crate::backends::{Backend, operator};
use crate::first_sight::assert_right;

/// Injects a sidecar, and says something of its own about what policies set as well.
const INJECT: &str = r#"
    [JSONPatch{op: "add", path: "/spec/initContainers", value: [{"name": "proxy", "image": "registry.example.com/proxy", "restartPolicy": "Always"}]}]
    .filter(patch, !has(object.spec.initContainers))
    + [JSONPatch{op: "add", path: "/metadata/annotations", value: {}}].filter(patch, !has(object.metadata.annotations))
    + [JSONPatch{op: "add", path: "/metadata/annotations/injected", value: "yes"}]
"#;

/// Another mutating policy for the namespace, in force when this returns. Plugins run in the order of their names, if any.
async fn inject(stage: &Stage, name: &str) -> anyhow::Result<()> {
    let mut policy: MutatingAdmissionPolicy = objects::yaml(
        "
        metadata: {}
        spec:
          failurePolicy: Fail
          reinvocationPolicy: IfNeeded
          matchConstraints: { resourceRules: [{ apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods] }] }
          mutations: [{ patchType: JSONPatch, jsonPatch: {} }]
        ",
    );
    policy.metadata.name = Some(name.to_owned());
    policy.spec.as_mut().unwrap().mutations.as_mut().unwrap()[0].json_patch.as_mut().unwrap().expression = Some(INJECT.to_owned());
    let binding: MutatingAdmissionPolicyBinding = objects::yaml(&format!(
        "
        metadata: {{ name: {name} }}
        spec:
          policyName: {name}
          matchResources: {{ namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {} }} }} }}
        ",
        stage.name()
    ));
    Api::all(stage.client.clone()).create(&PostParams::default(), &policy).await?;
    Api::all(stage.client.clone()).create(&PostParams::default(), &binding).await?;
    let params = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the other policy to be in force", DEADLINE, async || {
        let pod: Pod = stage.pods.create(&params, &objects::pod("probe", &[])).await?;
        Ok(Seen::when(pod.annotations().contains_key("injected"), pod.annotations()))
    })
    .await
}

async fn remove(stage: &Stage, name: &str) -> anyhow::Result<()> {
    Api::<MutatingAdmissionPolicyBinding>::all(stage.client.clone()).delete(name, &DeleteParams::default()).await?;
    Api::<MutatingAdmissionPolicy>::all(stage.client.clone()).delete(name, &DeleteParams::default()).await?;
    Ok(())
}

#[tokio::test]
async fn containers_that_others_inject_get_their_settings_too_and_nothing_is_done_twice() -> anyhow::Result<()> {
    if lacks_native(shared().await).await? {
        return Ok(());
    }
    for backend in [Backend::Native, Backend::Webhook] {
        let stage = Stage::set("birth").await?;
        let _operator = operator(&stage, backend).await?;
        // The names sort before and after the operator's own objects.
        for order in ["a", "z"] {
            let name = format!("{order}-inject-{}", stage.name());
            inject(&stage, &name).await?;
            let pod = stage.create_pod(order, &[("app", "web")]).await?;
            assert_right(&pod);
            let sidecar = &pod.spec.as_ref().unwrap().init_containers.as_ref().unwrap()[0];
            assert!(sidecar.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.pre_stop.is_some()), "{backend:?} {order}: {sidecar:?}");
            let record: Value = serde_json::from_str(&pod.annotations()["podpolicy.dev/applied"])?;
            let mut paths: Vec<_> = record["created"].as_object().unwrap().keys().map(String::as_str).collect();
            paths.sort_unstable();
            assert_eq!(
                paths,
                [
                    "containers[proxy].lifecycle.preStop",
                    "containers[proxy].readinessProbe",
                    "containers[web].lifecycle.preStop",
                    "containers[web].readinessProbe",
                    "terminationGracePeriodSeconds",
                ]
            );
            assert_eq!(record["labels"], serde_json::json!({ "team": { "by": "PodPolicy/standard", "value": "shop" } }));
            remove(&stage, &name).await?;
        }
    }
    Ok(())
}
