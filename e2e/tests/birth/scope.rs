//! Where policies act, with operators of the whole cluster. Each test has a control plane of its own.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use podpolicy_admission::webhook::{Endpoint, Options};
use podpolicy_api::{ClusterPodPolicy, PodPolicy};
use podpolicy_controller::{AdmissionMode, Config, DEFAULT_EXCLUDED_NAMESPACES};
use podpolicy_e2e::backend::lacks_native;
use podpolicy_e2e::environment::free_address;
use podpolicy_e2e::policies::{status, verdict};
use podpolicy_e2e::{ControlPlane, InProcess, objects, shared};
use serde_json::{Value, json};

const OWN_NAMESPACE: &str = "podpolicy-system";

/// Policies that ask for everything, and name another namespace wherever they can name anything.
const GREEDY: &str = "{
    selector: {}, priority: 1000, precedence: Policy, allowSelectorImpact: true,
    labels: { kubernetes.io/metadata.name: bank, namespace: bank, team: shop }, annotations: { namespace: bank },
    terminationGracePeriodSeconds: 60, containers: [{ readinessProbe: { httpGet: { path: /, port: 80, host: web.bank.svc } } }],
}";

async fn namespace(client: &Client, name: &str, labels: Value) -> anyhow::Result<()> {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } });
    Api::<Namespace>::all(client.clone()).patch(name, &PatchParams::apply(objects::FIELD_MANAGER), &Patch::Apply(namespace)).await?;
    Ok(())
}

/// The labels `team` and `cluster` of a pod that is created there, from the first.
async fn labels(client: &Client, namespace: &str) -> anyhow::Result<[Option<String>; 2]> {
    let mut pod = objects::pod("unused", &[("app", "web")]);
    pod.metadata.name = None;
    pod.metadata.generate_name = Some("pod-".to_owned());
    let pod = Api::<Pod>::namespaced(client.clone(), namespace).create(&PostParams::default(), &pod).await?;
    assert_ne!(pod.labels().get("namespace").map(String::as_str), Some("bank").filter(|_| namespace != "shop"));
    Ok(["team", "cluster"].map(|key| pod.labels().get(key).cloned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_act_where_they_may_by_the_api_server() -> anyhow::Result<()> {
    if lacks_native(shared().await).await? {
        return Ok(());
    }
    policies_act_where_they_may(AdmissionMode::Native).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_act_where_they_may_by_the_webhook() -> anyhow::Result<()> {
    policies_act_where_they_may(AdmissionMode::Webhook).await
}

async fn policies_act_where_they_may(admission: AdmissionMode) -> anyhow::Result<()> {
    let plane = ControlPlane::start(options_without_controllers()).await?;
    let client = plane.client();
    for (name, labels) in
        [("shop", json!({ "env": "prod" })), ("bank", json!({ "env": "test" })), (OWN_NAMESPACE, json!({ "env": "prod" }))]
    {
        namespace(&client, name, labels).await?;
    }
    namespace(&client, "kube-system", json!({ "env": "prod" })).await?;
    let address = free_address()?;
    let webhook = Options::new(address, Endpoint::url(&format!("https://{address}"))?, OWN_NAMESPACE);
    let excluded_namespaces = DEFAULT_EXCLUDED_NAMESPACES.into_iter().chain([OWN_NAMESPACE]).map(str::to_owned).collect();
    let config = Config { admission, webhook: Some(webhook), excluded_namespaces, ..Config::default() };
    let operator = InProcess::start(client.clone(), config).await?;

    let policies: Api<PodPolicy> = Api::namespaced(client.clone(), "shop");
    let spec: Value = objects::yaml(GREEDY);
    let greedy = json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": { "name": "greedy" }, "spec": spec });
    policies.patch("greedy", &PatchParams::apply(objects::FIELD_MANAGER), &Patch::Apply(greedy)).await?;
    let cluster: Api<ClusterPodPolicy> = Api::all(client.clone());
    let everywhere = json!({
        "apiVersion": "podpolicy.dev/v1alpha1", "kind": "ClusterPodPolicy", "metadata": { "name": "prod" },
        "spec": { "selector": {}, "namespaceSelector": { "matchLabels": { "env": "prod" } }, "labels": { "cluster": "yes" } },
    });
    cluster.patch("prod", &PatchParams::apply(objects::FIELD_MANAGER), &Patch::Apply(everywhere)).await?;
    status(&cluster, "prod", "ready", |status| verdict(status, "Ready").starts_with("True")).await?;
    let at_creation =
        |status: &podpolicy_api::PodPolicyStatus| status.admission.as_ref().is_some_and(|admission| admission.generation == 1);
    status(&policies, "greedy", "in force at creation", at_creation).await?;

    let yes = || Some("yes".to_owned());
    assert_eq!(labels(&client, "shop").await?, [Some("shop".to_owned()), yes()]);
    assert_eq!(labels(&client, "bank").await?, [None, None]);
    for excluded in ["kube-system", OWN_NAMESPACE] {
        assert_eq!(labels(&client, excluded).await?, [None, None], "{excluded}");
    }
    // A namespace that nobody has seen before, from its first pod on.
    namespace(&client, "new", json!({ "env": "prod" })).await?;
    assert_eq!(labels(&client, "new").await?, [None, yes()]);
    operator.stop().await
}

fn options_without_controllers() -> podpolicy_e2e::Options {
    podpolicy_e2e::Options { crds: true, controller_manager: false }
}
