//! A namespace on the shared cluster, for one test. Says what was there when the test fails.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Event, Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use podpolicy_api::{PodPolicy, PodPolicyStatus};
pub use podpolicy_e2e::pods::is_ready;
use podpolicy_e2e::policies::{self, verdict};
use podpolicy_e2e::wait::{self, DEADLINE, Seen, eventually};
use podpolicy_e2e::{Cluster, TestNamespace, cluster, installation, objects};
use serde_json::{Value, json};

/// How long a pod may take for what it is to do: kubelet waits ever longer before it starts a container again, and a busy machine is slow.
const PATIENCE: Duration = Duration::from_mins(4);

/// The finalizer that keeps a deleted pod for those who want to see how it ended.
const KEEP: &str = "e2e.example.com/look";

/// A namespace, and what tests do in it.
pub struct Scene {
    pub cluster: &'static Cluster,
    pub client: Client,
    pub pods: Api<Pod>,
    pub policies: Api<PodPolicy>,
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
        let (pods, policies) = (Api::namespaced(client.clone(), &name), Api::namespaced(client.clone(), &name));
        Ok(Self { cluster, pods, policies, client, namespace: Some(namespace), name })
    }

    /// The same on a cluster with the operator.
    pub async fn with_operator(prefix: &str) -> anyhow::Result<Self> {
        let scene = Self::set(prefix).await?;
        installation::shared().await;
        Ok(scene)
    }

    /// Creates the policy, or gives it this spec, and waits until new pods get what it says.
    pub async fn policy(&self, name: &str, spec: &str) -> anyhow::Result<()> {
        let spec: Value = objects::yaml(spec);
        self.apply(&json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": { "name": name }, "spec": spec }))
            .await?;
        self.status(name, "in force", |status| verdict(status, "Ready") == "True InForce").await.map(drop)
    }

    /// Waits until the policy's status speaks of the present spec and `holds`.
    pub async fn status(&self, policy: &str, what: &str, holds: impl Fn(&PodPolicyStatus) -> bool) -> anyhow::Result<PodPolicyStatus> {
        policies::status(&self.policies, policy, what, holds).await
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
        let pod = wait::object(&self.pods, name, &format!("pod {name} {what}"), PATIENCE, holds).await?;
        Ok(pod.expect("what was waited for holds for a pod only"))
    }

    /// Waits for an event with this reason whose message contains `words`.
    pub async fn event(&self, reason: &str, words: &str) -> anyhow::Result<()> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.name);
        eventually(&format!("an event {reason} that says {words:?}"), PATIENCE, async || {
            let events = events.list(&ListParams::default()).await?.items;
            let fits = |event: &Event| {
                event.reason.as_deref() == Some(reason) && event.message.as_deref().is_some_and(|message| message.contains(words))
            };
            let seen: Vec<_> = events.iter().map(|event| (&event.reason, &event.message)).collect();
            Ok(Seen::when(events.iter().any(fits), seen))
        })
        .await
    }

    /// Deletes the pod, waits until its first container has ended, and returns the pod as it was then.
    pub async fn ended(&self, name: &str) -> anyhow::Result<Pod> {
        self.keep(name).await?;
        self.pods.delete(name, &DeleteParams::default()).await?;
        self.end_of(name).await
    }

    /// Has the pod stay, once it is deleted, until [`Self::end_of`] has looked at it.
    pub async fn keep(&self, name: &str) -> anyhow::Result<()> {
        self.set_finalizers(name, json!([KEEP])).await
    }

    /// Waits until a pod that is kept is deleted and its first container has ended, lets the pod go, and returns it as it was then, but for its
    /// deletion: kubelet's own at the very end writes over what the first one said.
    pub async fn end_of(&self, name: &str) -> anyhow::Result<Pod> {
        let leaving = self.pod(name, "to be deleted", |pod| pod.metadata.deletion_timestamp.is_some()).await?;
        let mut pod = self.pod(name, "to have ended", |pod| exit_code(pod).is_some()).await?;
        pod.metadata.deletion_timestamp = leaving.metadata.deletion_timestamp;
        pod.metadata.deletion_grace_period_seconds = leaving.metadata.deletion_grace_period_seconds;
        self.set_finalizers(name, Value::Null).await?;
        Ok(pod)
    }

    async fn set_finalizers(&self, name: &str, finalizers: Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
        self.pods.patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
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
            let shown = self.kubectl(&["get", "pods,events", "--output=wide"]).map(|shown| beginning(&shown));
            #[expect(clippy::print_stderr, reason = "the test runner keeps it for tests that fail")]
            {
                eprintln!("--- namespace {}\n{}", self.name, shown.unwrap_or_else(|error| format!("{error:#}")));
            }
        }
    }
}

/// So much of a text that the reason for which it is shown is not lost behind it.
fn beginning(text: &str) -> String {
    const LINES: usize = 60;
    let mut lines: Vec<_> = text.lines().take(LINES).map(str::to_owned).collect();
    let more = text.lines().count() - lines.len();
    if more > 0 {
        lines.push(format!("and {more} more lines"));
    }
    lines.join("\n")
}

/// How containers stand, those that ran before the others apart.
pub fn containers(pod: &Pod) -> &[ContainerStatus] {
    pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default()
}

/// How often the first container has been started again.
pub fn restarts(pod: &Pod) -> i32 {
    containers(pod).first().map_or(0, |container| container.restart_count)
}

/// How often the container of this name has been started again; none before kubelet has looked at it.
pub fn restarts_of(pod: &Pod, name: &str) -> Option<i32> {
    containers(pod).iter().find(|container| container.name == name).map(|container| container.restart_count)
}

/// The code with which the first container has ended for good.
pub fn exit_code(pod: &Pod) -> Option<i32> {
    Some(state(pod)?.terminated.as_ref()?.exit_code)
}

/// How long the first container took to end, once its pod had been deleted.
pub fn seconds_to_end(pod: &Pod) -> anyhow::Result<i64> {
    let deadline = pod.metadata.deletion_timestamp.as_ref().context("it was deleted")?.0;
    let grace = pod.metadata.deletion_grace_period_seconds.context("it was deleted")?;
    let ended = state(pod).and_then(|state| state.terminated.as_ref()?.finished_at.as_ref()).context("it has ended")?.0;
    let seconds = |time: Timestamp| time.as_second();
    let took = seconds(ended) - (seconds(deadline) - grace);
    ensure!(took >= 0, "it ended {took} s after its deletion");
    Ok(took)
}

/// What the first container does.
pub fn state(pod: &Pod) -> Option<&ContainerState> {
    containers(pod).first()?.state.as_ref()
}

/// Why the first container does not run.
pub fn waits_for(pod: &Pod) -> Option<&str> {
    state(pod)?.waiting.as_ref()?.reason.as_deref()
}

/// The phase.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Status and reason of a condition, such as `False ContainersNotReady`; without a reason the status alone; empty when there is none.
pub fn condition(pod: &Pod, kind: &str) -> String {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let found = conditions.into_iter().find(|condition| condition.type_ == kind);
    found
        .map_or_else(String::new, |found| format!("{} {}", found.status, found.reason.as_deref().unwrap_or_default()).trim_end().to_owned())
}
