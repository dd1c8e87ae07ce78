//! What most tests of policies start from: a namespace of its own, and operators that act in it and nowhere else, with a
//! [`Tap`] on their line.
//!
//! Must never act outside the namespace.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use podpolicy_api::{PodPolicy, PodPolicyStatus};
use serde_json::{Value, json};

use crate::tap::Exchange;
use crate::wait::{self, DEADLINE};
use crate::{ControlPlane, InProcess, Tap, TestNamespace, objects, policies, shared};

/// The annotation in which pods carry what policies wrote.
pub const RECORD: &str = "podpolicy.dev/applied";

/// The policy and the label of the pods with which [`Stage::pass`] sees that the operator has come by.
const MARKER: &str = "marker";

/// A namespace on the shared control plane.
pub struct Stage {
    plane: &'static ControlPlane,
    namespace: TestNamespace,
    /// A client of the test's own: a person, or a controller.
    pub client: Client,
    /// The pods.
    pub pods: Api<Pod>,
    /// The policies.
    pub policies: Api<PodPolicy>,
    /// The line of the operators.
    pub tap: Tap,
    passes: AtomicU32,
}

impl Stage {
    /// An empty namespace with a name that begins with `prefix`, and no operator.
    pub async fn set(prefix: &str) -> anyhow::Result<Self> {
        let plane = shared().await;
        let namespace = TestNamespace::create(&plane.config(), prefix).await?;
        let client = plane.client();
        Ok(Self {
            pods: Api::namespaced(client.clone(), namespace.name()),
            policies: Api::namespaced(client.clone(), namespace.name()),
            plane,
            namespace,
            client,
            tap: Tap::default(),
            passes: AtomicU32::new(0),
        })
    }

    /// The name of the namespace.
    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    /// Starts an operator on the tapped line and waits until it has listed everything.
    pub async fn operator(&self) -> anyhow::Result<InProcess> {
        InProcess::in_namespace(self.tap.client(self.plane.config())?, self.name()).await
    }

    /// Creates the policy, or gives it this spec: keys that are no longer there go.
    pub async fn policy(&self, name: &str, spec: &str) -> anyhow::Result<PodPolicy> {
        let spec: Value = objects::yaml(spec);
        let policy = json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": { "name": name }, "spec": spec });
        let params = PatchParams::apply(objects::FIELD_MANAGER).force();
        self.policies.patch(name, &params, &Patch::Apply(policy)).await.with_context(|| format!("could not apply policy {name}"))
    }

    /// Deletes the policy. It is gone at once: nothing holds it.
    pub async fn delete_policy(&self, name: &str) -> anyhow::Result<()> {
        self.policies.delete(name, &DeleteParams::default()).await?;
        anyhow::ensure!(self.policies.get_opt(name).await?.is_none(), "policy {name} is still there");
        Ok(())
    }

    /// Creates a pod as [`objects::pod`] makes it.
    pub async fn create_pod(&self, name: &str, labels: &[(&str, &str)]) -> anyhow::Result<Pod> {
        self.create(&objects::pod(name, labels)).await
    }

    /// Creates a pod.
    pub async fn create(&self, pod: &Pod) -> anyhow::Result<Pod> {
        self.pods.create(&PostParams::default(), pod).await.with_context(|| format!("could not create {pod:?}"))
    }

    /// Deletes a pod and waits until it is gone.
    pub async fn delete_pod(&self, name: &str) -> anyhow::Result<()> {
        self.pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
        wait::object(&self.pods, name, "the pod to be gone", DEADLINE, |pod: Option<&Pod>| pod.is_none()).await?;
        Ok(())
    }

    /// Changes a pod as a person would. A value of `null` removes.
    pub async fn change_pod(&self, name: &str, patch: Value) -> anyhow::Result<Pod> {
        let changed = self.pods.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        changed.with_context(|| format!("could not change pod {name}"))
    }

    /// Waits until the pod is as it should be.
    pub async fn pod(&self, name: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> anyhow::Result<Pod> {
        let holds = |pod: Option<&Pod>| pod.is_some_and(&holds);
        let pod = wait::object(&self.pods, name, &format!("pod {name} with {what}"), DEADLINE, holds).await?;
        pod.context("a pod was waited for that is there")
    }

    /// Waits until the pod has the label with this value; none: until it lacks the label.
    pub async fn label(&self, name: &str, key: &str, value: Option<&str>) -> anyhow::Result<Pod> {
        let what = format!("label {key}={}", value.unwrap_or("(absent)"));
        self.pod(name, &what, |pod| pod.labels().get(key).map(String::as_str) == value).await
    }

    /// Waits until the policy's status speaks of the present spec and `holds`.
    pub async fn status(&self, policy: &str, what: &str, holds: impl Fn(&PodPolicyStatus) -> bool) -> anyhow::Result<PodPolicyStatus> {
        policies::status(&self.policies, policy, what, holds).await
    }

    /// Waits until the policy selects so many pods and has nothing left to write to them, or cannot.
    pub async fn settled(&self, policy: &str, matched: u32) -> anyhow::Result<PodPolicyStatus> {
        policies::settled(&self.policies, policy, matched).await
    }

    /// Waits until the operator has seen a policy and a pod that are newer than all there is, written both, and come to rest.
    /// What has not happened by then does not happen.
    pub async fn pass(&self) -> anyhow::Result<()> {
        let number = self.passes.fetch_add(1, Ordering::Relaxed) + 1;
        self.policy(MARKER, &format!("{{ selector: {{ matchLabels: {{ {MARKER}: 'true' }} }}, labels: {{ pass: '{number}' }} }}")).await?;
        let name = format!("{MARKER}-{number}");
        self.create_pod(&name, &[(MARKER, "true")]).await?;
        self.label(&name, "pass", Some(&number.to_string())).await?;
        self.settled(MARKER, number).await?;
        Ok(())
    }

    /// The resourceVersions of the pods and policies, those of [`Stage::pass`] apart.
    pub async fn versions(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let pods = self.pods.list(&ListParams::default()).await?;
        let policies = self.policies.list(&ListParams::default()).await?;
        let versions = pods.iter().map(|pod| version("pod", pod)).chain(policies.iter().map(|policy| version("policy", policy)));
        Ok(versions.filter(|(name, _)| !name.contains(&format!("/{MARKER}"))).collect())
    }

    /// How many requests that change something the operators have sent, those for [`Stage::pass`], events and dry runs apart: one that changes nothing in the
    /// end leaves the version as it is.
    pub fn changes_sent(&self) -> usize {
        let exchanges = self.tap.exchanges();
        // PodTemplates are only ever sent as a dry run.
        let is_other = |exchange: &Exchange| ["events", "podtemplates"].contains(&exchange.resource.as_str());
        let is_change = |exchange: &&Exchange| exchange.method != Method::GET && !is_other(exchange) && !exchange.name.starts_with(MARKER);
        exchanges.iter().filter(is_change).count()
    }

    /// What kubectl writes to its standard output when called for this namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let arguments: Vec<String> = ["-n", self.name()].iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
        let plane = self.plane;
        let call = move || plane.kubectl_output(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(call).await?
    }
}

fn version(kind: &str, object: &impl ResourceExt) -> (String, String) {
    (format!("{kind}/{}", object.name_any()), object.resource_version().unwrap_or_default())
}

/// The record on the pod; `null` when there is none.
pub fn record(pod: &Pod) -> Value {
    pod.annotations().get(RECORD).map_or(Value::Null, |text| serde_json::from_str(text).expect("the record is JSON"))
}
