//! Workloads of every kind that owns pods, and what of them and of their pods a policy must leave as it is.
//!
//! Must never change a workload other than by applying its manifest.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod, ReplicationController};
use kube::api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, PostParams};
use kube::core::ApiResource;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::objects::{self, IMAGE};
use crate::wait::{DEADLINE, Seen, eventually};
use crate::{Stage, pods};

/// The kinds that own pods and select them by label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "Kubernetes' own names")]
pub enum Kind {
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
    ReplicationController,
}

/// A workload: its pods carry the label `app` with its name, and it selects by that.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// How many pods it is to have. A DaemonSet has as many as there are [`StageNode`]s.
    pub pods: usize,
    /// Labels that its pods carry, and that it selects by as well. A Job then selects by hand (`manualSelector`).
    pub labels: BTreeMap<String, String>,
    /// Conditions that its selector has as well (`matchExpressions`). A ReplicationController can have none.
    pub expressions: Vec<Value>,
}

impl Kind {
    fn resource(self) -> ApiResource {
        match self {
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::ReplicaSet => ApiResource::erase::<ReplicaSet>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            Self::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
            Self::Job => ApiResource::erase::<Job>(&()),
            Self::ReplicationController => ApiResource::erase::<ReplicationController>(&()),
        }
    }

    /// Where its status counts the pods that are there, and those that are ready.
    fn counts(self) -> (&'static str, &'static str) {
        match self {
            Self::Deployment | Self::ReplicaSet | Self::StatefulSet | Self::ReplicationController => ("replicas", "readyReplicas"),
            Self::DaemonSet => ("currentNumberScheduled", "numberReady"),
            Self::Job => ("active", "ready"),
        }
    }
}

impl Workload {
    /// One with two pods.
    pub fn new(kind: Kind, name: &str) -> Self {
        Self { kind, name: name.to_owned(), pods: 2, labels: BTreeMap::new(), expressions: Vec::new() }
    }

    /// Applies its manifest.
    pub async fn apply(&self, stage: &Stage) -> anyhow::Result<()> {
        objects::apply(&stage.client, stage.name(), &self.manifest(stage.name()).to_string()).await.map(drop)
    }

    /// Applies its manifest, and waits until its controller has counted its pods.
    pub async fn apply_and_wait(&self, stage: &Stage) -> anyhow::Result<()> {
        self.apply(stage).await?;
        self.wait_for_pods(stage).await
    }

    /// Waits until its controller has counted its pods.
    pub async fn wait_for_pods(&self, stage: &Stage) -> anyhow::Result<()> {
        let (count, _) = self.kind.counts();
        self.counted(stage, count).await
    }

    /// Marks all of its pods as ready, and waits until its controller has counted them. By then the controller has seen
    /// whatever was written to any pod before.
    pub async fn make_ready(&self, stage: &Stage) -> anyhow::Result<()> {
        for pod in stage.pods.list(&self.own()).await? {
            objects::set_ready(&stage.pods, &pod.name_any()).await?;
        }
        let (_, ready) = self.kind.counts();
        self.counted(stage, ready).await
    }

    /// What it is, and how its pods stand with it.
    pub async fn standing(&self, stage: &Stage) -> anyhow::Result<Standing> {
        Standing::of(self, stage).await
    }

    /// The workload as the API server has it.
    pub async fn get(&self, stage: &Stage) -> anyhow::Result<DynamicObject> {
        let api: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), stage.name(), &self.kind.resource());
        api.get(&self.name).await.with_context(|| format!("could not get {:?} {}", self.kind, self.name))
    }

    /// The label selector that finds what belongs to it.
    pub fn selector(&self) -> String {
        format!("app={}", self.name)
    }

    fn own(&self) -> ListParams {
        ListParams::default().labels(&self.selector())
    }

    async fn counted(&self, stage: &Stage, count: &str) -> anyhow::Result<()> {
        let what = format!("{} {count} of {:?} {}", self.pods, self.kind, self.name);
        eventually(&what, DEADLINE, async || {
            let status = &self.get(stage).await?.data["status"];
            if status[count].as_u64() == u64::try_from(self.pods).ok() {
                return Ok(Seen::Done(()));
            }
            let pods = stage.pods.list(&ListParams::default()).await?.items;
            Ok(Seen::NotYet(format!("status {status}{}", pods::describe(&pods))))
        })
        .await
    }

    /// The manifest. Its pods need no node but those of a DaemonSet, which go to the nodes of the stage.
    pub fn manifest(&self, stage: &str) -> Value {
        let mut labels = self.labels.clone();
        labels.insert("app".to_owned(), self.name.clone());
        let mut selector = json!({ "matchLabels": labels });
        if !self.expressions.is_empty() {
            selector["matchExpressions"] = json!(self.expressions);
        }
        let mut pod = json!({ "containers": [{ "name": "web", "image": IMAGE }] });
        let pods = self.pods;
        let mut spec = match self.kind {
            Kind::Deployment | Kind::ReplicaSet => json!({ "replicas": pods, "selector": selector }),
            Kind::ReplicationController => json!({ "replicas": pods, "selector": labels }),
            Kind::StatefulSet => {
                json!({ "replicas": pods, "selector": selector, "serviceName": self.name, "podManagementPolicy": "Parallel" })
            }
            Kind::DaemonSet => {
                pod["nodeSelector"] = json!({ STAGE_LABEL: stage });
                pod["tolerations"] = json!([{ "operator": "Exists" }]);
                json!({ "selector": selector })
            }
            Kind::Job => {
                pod["restartPolicy"] = "Never".into();
                let spec = json!({ "parallelism": pods, "completions": 100 });
                let by_hand = !self.labels.is_empty() || !self.expressions.is_empty();
                if by_hand { merged(spec, json!({ "manualSelector": true, "selector": selector })) } else { spec }
            }
        };
        spec["template"] = json!({ "metadata": { "labels": labels }, "spec": pod });
        let ApiResource { api_version, kind, .. } = self.kind.resource();
        json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": self.name }, "spec": spec })
    }
}

fn merged(mut one: Value, other: Value) -> Value {
    if let (Some(one), Value::Object(other)) = (one.as_object_mut(), other) {
        one.extend(other);
    }
    one
}

/// What of a workload a policy must leave as it is, by the name of the object: everything about the workload, its ReplicaSets and its
/// revisions but their status, and of its pods who they are and whose.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing(pub BTreeMap<String, Value>);

impl Standing {
    async fn of(workload: &Workload, stage: &Stage) -> anyhow::Result<Self> {
        let object = workload.get(stage).await?;
        let observed = object.data["status"]["observedGeneration"].clone();
        let name = format!("{:?} {}", workload.kind, workload.name);
        let mut standing = BTreeMap::from([(name, json!({ "object": untouched(&object)?, "observedGeneration": observed }))]);

        let own = workload.own();
        let (client, namespace) = (&stage.client, stage.name());
        for replica_set in Api::<ReplicaSet>::namespaced(client.clone(), namespace).list(&own).await? {
            standing.insert(format!("replica set {}", replica_set.name_any()), untouched(&replica_set)?);
        }
        for revision in Api::<ControllerRevision>::namespaced(client.clone(), namespace).list(&own).await? {
            standing.insert(format!("revision {}", revision.name_any()), untouched(&revision)?);
        }
        for pod in Api::<Pod>::namespaced(client.clone(), namespace).list(&own).await? {
            let Pod { metadata, spec, .. } = &pod;
            let identity = json!({
                "uid": metadata.uid,
                "owners": metadata.owner_references,
                "deleted": metadata.deletion_timestamp,
                "generation": metadata.generation,
                "spec": spec,
            });
            standing.insert(format!("pod {}", pod.name_any()), identity);
        }
        Ok(Self(standing))
    }

    /// The names of the pods, with their UIDs.
    pub fn pods(&self) -> BTreeMap<&str, &Value> {
        self.0.iter().filter_map(|(name, pod)| Some((name.strip_prefix("pod ")?, &pod["uid"]))).collect()
    }

    /// Panics with what differs, when something does.
    #[track_caller]
    pub fn assert_same(&self, earlier: &Self) {
        let names = self.0.keys().chain(earlier.0.keys());
        let differing: BTreeMap<_, _> = names
            .filter(|name| self.0.get(*name) != earlier.0.get(*name))
            .map(|name| (name, format!("\n{name}: before {:#}\nnow {:#}", show(earlier.0.get(name)), show(self.0.get(name)))))
            .collect();
        assert!(differing.is_empty(), "{}", differing.into_values().collect::<String>());
    }
}

fn show(object: Option<&Value>) -> Value {
    object.cloned().unwrap_or_else(|| "absent".into())
}

/// The object without its status, and without what changes with it.
fn untouched(object: &impl serde::Serialize) -> anyhow::Result<Value> {
    let mut object = serde_json::to_value(object)?;
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
        metadata.remove("managedFields");
    }
    Ok(object)
}

/// The label by which DaemonSets find the nodes of their stage.
const STAGE_LABEL: &str = "e2e.example.com/stage";

/// A node that runs nothing, for the DaemonSets of one stage. One that is not deleted disturbs nobody: no other selects it.
pub struct StageNode {
    client: Client,
    name: String,
}

impl StageNode {
    /// Creates one.
    pub async fn create(stage: &Stage) -> anyhow::Result<Self> {
        let metadata = ObjectMeta {
            generate_name: Some(format!("{}-", stage.name())),
            labels: Some(BTreeMap::from([(STAGE_LABEL.to_owned(), stage.name().to_owned())])),
            ..ObjectMeta::default()
        };
        let nodes: Api<Node> = Api::all(stage.client.clone());
        let node = nodes.create(&PostParams::default(), &Node { metadata, ..Node::default() }).await.context("could not create a node")?;
        Ok(Self { client: stage.client.clone(), name: node.name_any() })
    }

    /// Deletes it.
    pub async fn delete(self) -> anyhow::Result<()> {
        Api::<Node>::all(self.client).delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }
}
