//! The webhook on a node: kube-apiserver asks the operator's pods through their Service, and pods start with what the answer gives them. On a
//! node of its own: a cluster has one backend.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};
use podpolicy_api::{PodPolicy, PodPolicyStatus};
use podpolicy_e2e::installation::{self, NAMESPACE};
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::wait::{self, DEADLINE};
use podpolicy_e2e::{Cluster, Installation, TestNamespace, objects, policies};
use serde_json::json;

use crate::manifest::{SERVE, patient, web};
use crate::scene::is_ready;

/// Has the second argument after `run` checked, so that a change of the manifest is noticed.
const BY_WEBHOOK: &str = r"
patches:
  - target: { kind: Deployment }
    patch: |
      - { op: test, path: /spec/template/spec/containers/0/args/2, value: --admission=auto }
      - { op: replace, path: /spec/template/spec/containers/0/args/2, value: --admission=webhook }
";

#[tokio::test]
async fn pods_get_their_settings_by_webhook_also_while_a_replica_is_gone() -> anyhow::Result<()> {
    let cluster = Cluster::get().await?;
    let installation = Installation::install(&cluster, BY_WEBHOOK).await?;
    let client = cluster.client()?;
    let namespace = TestNamespace::create(&cluster.config(), "webhook").await?;
    let policy = json!({
        "apiVersion": "podpolicy.dev/v1alpha1",
        "kind": "PodPolicy",
        "metadata": { "name": "probed" },
        "spec": {
            "selector": {},
            "labels": { "team": "shop" },
            "terminationGracePeriodSeconds": 5,
            "containers": [{ "readinessProbe": { "httpGet": { "port": 8080 }, "periodSeconds": 1 } }],
        },
    });
    objects::apply(&client, namespace.name(), &policy.to_string()).await?;
    let in_force = |status: &PodPolicyStatus| {
        let by = serde_json::to_value(&status.admission).is_ok_and(|admission| admission["backend"] == "Webhook");
        by && verdict(status, "Ready") == "True InForce"
    };
    let known: Api<PodPolicy> = Api::namespaced(client.clone(), namespace.name());
    policies::status(&known, "probed", "in force by webhook", in_force).await?;

    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.name());
    let create = async |name: &str| -> anyhow::Result<()> {
        let pod = serde_json::from_value(patient(name, &[web(SERVE)]))?;
        let pod = pods.create(&PostParams::default(), &pod).await?;
        assert_eq!(pod.labels().get("team").map(String::as_str), Some("shop"), "{name}");
        let spec = pod.spec.context("a pod has a spec")?;
        assert_eq!(spec.termination_grace_period_seconds, Some(5), "{name}");
        assert!(spec.containers[0].readiness_probe.is_some(), "{name}");
        Ok(())
    };
    create("first").await?;
    let ready = |pod: Option<&Pod>| pod.is_some_and(is_ready);
    wait::object(&pods, "first", "a pod that is ready", DEADLINE, ready).await?;

    // The leader goes as pods of a Deployment do. Until another has taken its place, the other replica answers.
    let leader = installation::leader(&client, None).await?;
    let operators: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    operators.delete(leader.split('_').next().unwrap_or_default(), &DeleteParams::default()).await?;
    for number in 0..20 {
        create(&format!("during-{number}")).await?;
    }
    installation::leader(&client, Some(&leader)).await?;
    create("after").await?;
    installation.rolled_out().await?;

    // One command takes it away; pods go on.
    policies_gone(&installation, &pods).await?;
    installation.kubectl(&["delete", "-k", installation.folder(), "--timeout=120s"]).await?;
    let first = pods.get("first").await?;
    assert!(is_ready(&first) && first.metadata.deletion_timestamp.is_none());
    assert!(pods.create(&PostParams::default(), &serde_json::from_value(patient("last", &[web(SERVE)]))?).await.is_ok());
    namespace.delete().await
}

/// Deletes all policies, and waits until the pods have lost their labels.
async fn policies_gone(installation: &Installation, pods: &Api<Pod>) -> anyhow::Result<()> {
    installation.kubectl(&["delete", "podpolicies", "--all", "--all-namespaces"]).await?;
    let bare = |pod: Option<&Pod>| pod.is_some_and(|pod| !pod.labels().contains_key("team"));
    wait::object(pods, "first", "a pod without the label", DEADLINE, bare).await.map(drop)
}
