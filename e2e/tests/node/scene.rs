//! A namespace on the shared cluster, for one test. Says what was there when the test fails.

use k8s_openapi::api::core::v1::{Event, Pod, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, Client};
use podpolicy_e2e::wait::{self, DEADLINE, Seen, eventually};
use podpolicy_e2e::{Cluster, TestNamespace, cluster, objects};
use serde_json::Value;

/// A namespace, and what tests do in it.
pub struct Scene {
    pub cluster: &'static Cluster,
    pub client: Client,
    pub pods: Api<Pod>,
    namespace: Option<TestNamespace>,
    name: String,
}

impl Scene {
    /// An empty namespace with a name that begins with `prefix`.
    pub async fn set(prefix: &str) -> anyhow::Result<Self> {
        let cluster = cluster::shared().await;
        let namespace = TestNamespace::create(&cluster.config(), prefix).await?;
        let client = cluster.client()?;
        let name = namespace.name().to_owned();
        // Pods are refused until it is there.
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
        let exists = |account: Option<&ServiceAccount>| account.is_some();
        wait::object(&accounts, "default", "the service account of the namespace", DEADLINE, exists).await?;
        Ok(Self { cluster, pods: Api::namespaced(client.clone(), &name), client, namespace: Some(namespace), name })
    }

    /// The name of the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Applies the object.
    pub async fn apply(&self, object: &Value) -> anyhow::Result<()> {
        objects::apply(&self.client, &self.name, &object.to_string()).await.map(drop)
    }

    /// Waits until the pod is as it should be.
    pub async fn pod(&self, name: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> anyhow::Result<Pod> {
        let holds = |pod: Option<&Pod>| pod.is_some_and(&holds);
        let pod = wait::object(&self.pods, name, &format!("pod {name} {what}"), DEADLINE, holds).await?;
        Ok(pod.expect("what was waited for holds for a pod only"))
    }

    /// Waits for an event with this reason whose message contains `words`.
    pub async fn event(&self, reason: &str, words: &str) -> anyhow::Result<()> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.name);
        eventually(&format!("an event {reason} that says {words:?}"), DEADLINE, async || {
            let events = events.list(&ListParams::default()).await?.items;
            let fits = |event: &Event| {
                event.reason.as_deref() == Some(reason) && event.message.as_deref().is_some_and(|message| message.contains(words))
            };
            let seen: Vec<_> = events.iter().map(|event| (&event.reason, &event.message)).collect();
            Ok(Seen::when(events.iter().any(fits), seen))
        })
        .await
    }

    /// What kubectl prints in this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.cluster.kubectl().output(&[&["--namespace", &self.name], arguments].concat())
    }

    /// Ends the test: all has been seen.
    pub async fn end(mut self) -> anyhow::Result<()> {
        match self.namespace.take() {
            Some(namespace) => namespace.delete().await,
            None => Ok(()),
        }
    }
}

impl Drop for Scene {
    /// Shows what is there when the test has not come to its end.
    fn drop(&mut self) {
        if self.namespace.is_some() {
            let shown = self.kubectl(&["get", "pods,events", "--output=wide"]);
            #[expect(clippy::print_stderr, reason = "the test runner keeps it for tests that fail")]
            {
                eprintln!("--- namespace {}\n{}", self.name, shown.unwrap_or_else(|error| format!("{error:#}")));
            }
        }
    }
}

/// Whether a pod serves.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How often the first container has been started again.
pub fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()?.first());
    status.map_or(0, |container| container.restart_count)
}

/// The code with which the first container has ended for good.
pub fn exit_code(pod: &Pod) -> Option<i32> {
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    Some(container.state.as_ref()?.terminated.as_ref()?.exit_code)
}
