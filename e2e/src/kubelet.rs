//! A kubelet that runs nothing: it binds pods, says that they are ready, lets them fail as a test wants, and removes those that are
//! deleted. For tests of what reacts to pods that come and go.
//!
//! Must never touch a pod outside its namespace, or anything of a pod but its node and its status.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Event as KubeEvent, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

use crate::objects::IMAGE;
use crate::pods::is_ready;

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is ready.
    Ready,
    /// It is ready, then a probe kills its container, with this message.
    Killed(String),
    /// It runs and is never ready, because of this message of its readiness probe.
    NeverReady(String),
    /// No node takes it, because of this message.
    Unschedulable(String),
}

type Script = dyn Fn(&Pod) -> Fate + Send + Sync;

/// The kubelet of one namespace. It stops when it is dropped.
pub struct FakeKubelet {
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    client: Client,
    namespace: String,
    script: Mutex<Arc<Script>>,
    /// The pods as they were last seen.
    pods: Mutex<BTreeMap<String, Pod>>,
    /// The pods that there ever were, by their label `app`.
    made: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// The nodes that pods are bound to in turn, and whether each is lost.
    nodes: Mutex<VecDeque<(String, bool)>>,
}

impl FakeKubelet {
    /// Starts one to which all pods are alike: ready.
    pub fn start(client: &Client, namespace: &str) -> Self {
        let state = Arc::new(State {
            client: client.clone(),
            namespace: namespace.to_owned(),
            script: Mutex::new(Arc::new(|_: &Pod| Fate::Ready)),
            pods: Mutex::default(),
            made: Mutex::default(),
            nodes: Mutex::new(VecDeque::from([("fake".to_owned(), false)])),
        });
        Self { task: tokio::spawn(Arc::clone(&state).run()), state }
    }

    /// From now on pods have this fate. Those that are there are looked at again.
    pub fn script(&self, script: impl Fn(&Pod) -> Fate + Send + Sync + 'static) {
        *lock(&self.state.script) = Arc::new(script);
        let pods: Vec<_> = lock(&self.state.pods).values().cloned().collect();
        for pod in pods {
            tokio::spawn(Arc::clone(&self.state).handle(pod));
        }
    }

    /// From now on pods are bound to these nodes in turn.
    pub fn nodes(&self, names: &[&str]) {
        *lock(&self.state.nodes) = names.iter().map(|name| ((*name).to_owned(), false)).collect();
    }

    /// Loses a node, as when its machine stops: nothing happens to its pods any more, and the cluster says that they are not ready.
    pub async fn lose(&self, node: &str) -> anyhow::Result<()> {
        lock(&self.state.nodes).iter_mut().filter(|(name, _)| name == node).for_each(|(_, is_lost)| *is_lost = true);
        let pods: Api<Pod> = Api::namespaced(self.state.client.clone(), &self.state.namespace);
        for pod in pods.list(&ListParams::default().fields(&format!("spec.nodeName={node}"))).await? {
            let restarts = restarts(&pod).unwrap_or_default();
            self.state.set(&pods, &pod, &running(false, restarts)).await?;
        }
        Ok(())
    }

    /// How many pods with this label `app` there ever were.
    pub fn made(&self, app: &str) -> usize {
        lock(&self.state.made).get(app).map_or(0, BTreeSet::len)
    }
}

impl Drop for FakeKubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    async fn run(self: Arc<Self>) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut events = watcher(pods, watcher::Config::default()).boxed();
        let mut handling = JoinSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::InitApply(pod) | Event::Apply(pod)) => {
                    let app = pod.labels().get("app").cloned().unwrap_or_default();
                    lock(&self.made).entry(app).or_default().extend(pod.uid());
                    lock(&self.pods).insert(pod.name_any(), pod.clone());
                    handling.spawn(Arc::clone(&self).handle(pod));
                }
                Ok(Event::Delete(pod)) => _ = lock(&self.pods).remove(&pod.name_any()),
                Ok(Event::Init | Event::InitDone) => {}
                Err(error) => tracing::warn!("the kubelet's watch failed: {error}"),
            }
            while handling.try_join_next().is_some() {}
        }
    }

    /// Does what is next for a pod, if anything is; the watch comes back with what that makes of it.
    async fn handle(self: Arc<Self>, pod: Pod) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        // What fails here fails because the pod is gone or has changed, and then the watch says more.
        if let Err(error) = self.next(&pods, &pod).await {
            tracing::debug!(pod = pod.name_any(), "the kubelet: {error:#}");
        }
    }

    async fn next(&self, pods: &Api<Pod>, pod: &Pod) -> anyhow::Result<()> {
        let name = pod.name_any();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if node.is_some_and(|node| lock(&self.nodes).iter().any(|(name, is_lost)| name == node && *is_lost)) {
            return Ok(());
        }
        if pod.metadata.deletion_timestamp.is_some() {
            // Never the next one of a StatefulSet, which has the same name.
            let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
            pods.delete(&name, &DeleteParams::default().grace_period(0).preconditions(preconditions)).await?;
            return Ok(());
        }
        let script = Arc::clone(&lock(&self.script));
        let fate = script(pod);
        let restarts = restarts(pod);
        match (fate, node.is_some()) {
            (Fate::Unschedulable(message), _) => {
                if has_condition(pod, "PodScheduled").is_none() {
                    let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message });
                    self.set(pods, pod, &json!({ "conditions": [condition] })).await?;
                }
            }
            (_, false) => {
                let target = json!({ "kind": "Node", "name": own_node(pod).map_or_else(|| self.next_node(), str::to_owned) });
                let binding: Binding = serde_json::from_value(json!({ "metadata": { "name": name }, "target": target }))?;
                pods.create_subresource::<_, Value>("binding", &name, &PostParams::default(), &binding).await?;
            }
            (Fate::Ready, true) if !is_ready(pod) => self.set(pods, pod, &running(true, 0)).await?,
            (Fate::Killed(_), true) if restarts.is_none() => self.set(pods, pod, &running(true, 0)).await?,
            (Fate::Killed(message), true) if restarts == Some(0) => {
                self.tell(pod, "Unhealthy", &message).await?;
                self.set(pods, pod, &running(false, 1)).await?;
            }
            (Fate::NeverReady(message), true) if has_condition(pod, "Ready").is_none() => {
                self.tell(pod, "Unhealthy", &message).await?;
                self.set(pods, pod, &running(false, 0)).await?;
            }
            (Fate::Ready | Fate::Killed(_) | Fate::NeverReady(_), true) => {}
        }
        Ok(())
    }

    /// The node whose turn it is.
    fn next_node(&self) -> String {
        let mut nodes = lock(&self.nodes);
        nodes.rotate_left(1);
        nodes.iter().find(|(_, is_lost)| !is_lost).map(|(name, _)| name.clone()).unwrap_or_default()
    }

    /// Only of the pod that was looked at.
    async fn set(&self, pods: &Api<Pod>, pod: &Pod, status: &Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({ "metadata": { "uid": pod.uid() }, "status": status }));
        pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn tell(&self, pod: &Pod, reason: &str, message: &str) -> anyhow::Result<()> {
        let events: Api<KubeEvent> = Api::namespaced(self.client.clone(), &self.namespace);
        let event: KubeEvent = serde_json::from_value(json!({
            "metadata": { "generateName": format!("{}.", pod.name_any()) },
            "involvedObject": {
                "kind": "Pod", "namespace": self.namespace, "name": pod.name_any(), "uid": pod.uid(), "fieldPath": "spec.containers{web}",
            },
            "reason": reason, "message": message, "type": "Warning", "source": { "component": "kubelet" },
        }))?;
        events.create(&PostParams::default(), &event).await?;
        Ok(())
    }
}

/// The node that the pod of a DaemonSet is for.
fn own_node(pod: &Pod) -> Option<&str> {
    let required =
        pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    fields.filter_map(|field| field.values.as_ref()?.first()).map(String::as_str).next()
}

/// A status as a kubelet writes it.
fn running(is_ready: bool, restarts: i32) -> Value {
    let status = if is_ready { "True" } else { "False" };
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "lastTransitionTime": now });
    let last = if restarts > 0 { json!({ "terminated": { "exitCode": 137, "reason": "Error" } }) } else { json!({}) };
    json!({
        "phase": "Running",
        "conditions": [condition("PodScheduled", "True"), condition("ContainersReady", status), condition("Ready", status)],
        "containerStatuses": [{
            "name": "web", "image": IMAGE, "imageID": "", "ready": is_ready, "started": true, "restartCount": restarts,
            "state": { "running": {} }, "lastState": last,
        }],
    })
}

/// How often its container was started again; none before it was started.
fn restarts(pod: &Pod) -> Option<i32> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first().map(|status| status.restart_count)
}

/// The status of a condition.
fn has_condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
