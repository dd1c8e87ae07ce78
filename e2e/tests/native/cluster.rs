//! An operator for the whole cluster: the unit that all namespaces share, and namespaces that move between it and one of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicy;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use podpolicy_api::{ClusterPodPolicy, PodPolicy};
use podpolicy_controller::{AdmissionMode, Config};
use podpolicy_e2e::objects::{self, apply};
use podpolicy_e2e::policies::{status, verdict};
use podpolicy_e2e::tap::Disturbance;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, History, InProcess, Options, Tap, TestNamespace};
use tokio::task::JoinHandle;

#[tokio::test]
async fn no_pod_goes_without_while_its_namespace_changes_hands() -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options { crds: true, controller_manager: false }).await?;
    let (client, tap) = (plane.client(), Tap::default());
    let config = Config { admission: AdmissionMode::Native, ..Config::default() };
    let operator = InProcess::start(tap.client(plane.config())?, config).await?;
    let cluster_policies: Api<ClusterPodPolicy> = Api::all(client.clone());
    let policies: Api<MutatingAdmissionPolicy> = Api::all(client.clone());
    let namespace = TestNamespace::create(&plane.config(), "moves").await?;
    let unit = format!("podpolicy-namespace-{namespace}");

    apply(&client, "default", &policy("ClusterPodPolicy", "org", "org: all")).await?;
    status(&cluster_policies, "org", "ready", |status| verdict(status, "Ready") == "True InForce").await?;
    assert!(policies.get_opt("podpolicy-others").await?.is_some());
    assert!(policies.get_opt(&unit).await?.is_none());
    let later = TestNamespace::create(&plane.config(), "later").await?;
    let pod = Api::<Pod>::namespaced(client.clone(), later.name()).create(&PostParams::default(), &objects::pod("first", &[])).await?;
    assert_eq!(pod.labels()["org"], "all", "the first pod of a namespace that is new");

    let history = History::of(cluster_policies.clone(), "org").await?;
    let mut births = Births::watch(client.clone(), namespace.name());
    let own: Api<PodPolicy> = Api::namespaced(client.clone(), namespace.name());
    for round in ["first", "second"] {
        let held = tap.disturb(Disturbance::Hold, {
            let unit = unit.clone();
            move |sent| sent.writes("mutatingadmissionpolicies") && sent.name == unit
        });
        apply(&client, namespace.name(), &policy("PodPolicy", "team", "team: shop")).await?;
        held.met(1).await?;
        taken_up(&client, later.name(), &format!("{round}-in")).await?;
        births.more().await?;
        held.end();
        status(&own, "team", "ready", |status| verdict(status, "Ready") == "True InForce").await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.name());
        let pod = pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &objects::pod("both", &[])).await?;
        assert_eq!((pod.labels()["org"].as_str(), pod.labels()["team"].as_str()), ("all", "shop"));
        excludes(&client, namespace.name(), true).await?;
        births.more().await?;

        let held = tap.disturb(Disturbance::Hold, |sent| sent.writes("mutatingadmissionpolicies") && sent.name == "podpolicy-others");
        own.delete("team", &DeleteParams::default()).await?;
        held.met(1).await?;
        taken_up(&client, later.name(), &format!("{round}-out")).await?;
        births.more().await?;
        held.end();
        eventually("the unit of the namespace to go", DEADLINE, async || {
            let unit = policies.get_opt(&unit).await?;
            Ok(Seen::when(unit.is_none(), "it is there"))
        })
        .await?;
        excludes(&client, namespace.name(), false).await?;
        births.more().await?;
    }
    births.end().await?;
    let ready = history.map(|policy| verdict(&policy.status.clone().unwrap_or_default(), "Ready"));
    assert_eq!(ready, ["True InForce"], "a policy that did not change");

    cluster_policies.delete("org", &DeleteParams::default()).await?;
    eventually("the shared unit to go", DEADLINE, async || {
        Ok(Seen::when(policies.get_opt("podpolicy-others").await?.is_none(), "it is there"))
    })
    .await?;
    operator.stop().await
}

fn policy(kind: &str, name: &str, label: &str) -> String {
    format!(
        "{{ apiVersion: podpolicy.dev/v1alpha1, kind: {kind}, metadata: {{ name: {name} }}, spec: {{ selector: {{}}, labels: {{ {label} }} }} }}"
    )
}

/// Waits until the API server has taken up an object of this kind that is written now: then it has taken up all that were written before.
async fn taken_up(client: &Client, namespace: &str, marker: &str) -> anyhow::Result<()> {
    let rule = "{ apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods] }";
    let expression = format!("Object{{ metadata: Object.metadata{{ labels: {{ 'marker': '{marker}' }} }} }}");
    let manifests = format!(
        "
        apiVersion: admissionregistration.k8s.io/v1
        kind: MutatingAdmissionPolicy
        metadata: {{ name: e2e-marker }}
        spec:
          matchConstraints: {{ resourceRules: [{rule}] }}
          reinvocationPolicy: Never
          mutations: [{{ patchType: ApplyConfiguration, applyConfiguration: {{ expression: \"{expression}\" }} }}]
        ---
        apiVersion: admissionregistration.k8s.io/v1
        kind: MutatingAdmissionPolicyBinding
        metadata: {{ name: e2e-marker }}
        spec: {{ policyName: e2e-marker }}
        "
    );
    apply(client, "default", &manifests).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    eventually(&format!("the marker {marker}"), DEADLINE, async || {
        let pod = pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &objects::pod("marked", &[])).await?;
        Ok(Seen::when(pod.labels().get("marker").is_some_and(|found| found == marker), pod.labels()))
    })
    .await
}

/// Waits until the binding of the shared unit excludes the namespace, or does not.
async fn excludes(client: &Client, namespace: &str, wanted: bool) -> anyhow::Result<()> {
    let bindings: Api<k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicyBinding> = Api::all(client.clone());
    eventually(&format!("the shared binding to exclude {namespace}: {wanted}"), DEADLINE, async || {
        let binding = serde_json::to_string(&bindings.get("podpolicy-others").await?.spec)?;
        Ok(Seen::when(binding.contains(&format!("\"{namespace}\"")) == wanted, binding))
    })
    .await
}

/// Pods that would be born all the time, each of which must have the label of the cluster's policy.
struct Births {
    count: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Births {
    fn watch(client: Client, namespace: &str) -> Self {
        let (count, is_over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let (counting, stopping) = (Arc::clone(&count), Arc::clone(&is_over));
        let task = tokio::spawn(async move {
            let params = PostParams { dry_run: true, ..PostParams::default() };
            while !stopping.load(Ordering::Relaxed) {
                let pod = pods.create(&params, &objects::pod("born", &[])).await?;
                anyhow::ensure!(pod.labels().contains_key("org"), "a pod went without: {:?}", pod.labels());
                counting.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Self { count, is_over, task }
    }

    /// Waits for some that begin from now on.
    async fn more(&mut self) -> anyhow::Result<()> {
        let before = self.count.load(Ordering::Relaxed);
        eventually("more births", DEADLINE, async || {
            let now = self.count.load(Ordering::Relaxed);
            Ok(Seen::when(now > before + 20 || self.task.is_finished(), now))
        })
        .await?;
        // It ends by itself only with an error.
        if self.task.is_finished() { (&mut self.task).await? } else { Ok(()) }
    }

    async fn end(self) -> anyhow::Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await?
    }
}
