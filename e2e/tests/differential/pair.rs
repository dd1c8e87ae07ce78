//! Pairs: the policies of a world with one pod, as the API server stored it beside what the engine predicted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind, Status};
use kube::{Api, Client};
use podpolicy_api::APPLIED_ANNOTATION;
use podpolicy_e2e::ControlPlane;
use podpolicy_engine::{Pod, Program};
use serde::Deserialize as _;
use serde_json::{Value as Json, json};

use crate::generator::World;

/// The namespace that the worlds' policies and pods are in, as they are generated.
const GENERATED: &str = "shop";

/// The label of the namespaces of pairs. Its value is the namespace's name.
const PAIR_LABEL: &str = "e2e.podpolicy.dev/pair";

/// How many requests are under way at once.
const CONCURRENCY: usize = 8;

/// Something that gives pods their settings at creation.
pub trait Backend {
    /// Puts the programs into force, each in its namespace, and waits until they are.
    async fn enforce(&self, programs: &[(String, Arc<Program>)]) -> anyhow::Result<()>;

    /// Takes them away again.
    async fn withdraw(&self, programs: &[(String, Arc<Program>)]) -> anyhow::Result<()>;
}

/// How a pair compares.
pub enum Pair {
    /// The pod is what was predicted.
    Same { is_changed: bool, has_settings: bool },
    /// The API server refuses the pod without policies.
    Refused,
    /// It is something else: in words.
    Different(String),
}

/// Policies in their surroundings, and pods to create there.
#[derive(Clone, Debug)]
pub struct Case {
    pub world: World,
    pub pods: Vec<Json>,
}

/// Puts all cases into the cluster, creates their pods, and compares. The pairs of each case, in the order of its pods.
pub async fn differences(plane: &ControlPlane, backend: &impl Backend, cases: &[Case]) -> anyhow::Result<Vec<Vec<Pair>>> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let client = plane.client();
    let programs: Vec<_> =
        cases.iter().map(|case| (format!("pair-{}", NUMBER.fetch_add(1, Ordering::Relaxed)), Arc::new(case.world.program()))).collect();
    let places = || cases.iter().zip(&programs).map(|(case, (namespace, program))| (case, namespace, program));
    let pods =
        || places().flat_map(|(case, namespace, _)| (0..).zip(&case.pods).map(move |(number, pod)| (namespace, pod_named(number, pod))));
    each(places(), |(case, namespace, _)| create_namespace(&client, namespace, &case.world.surroundings.namespace_labels)).await?;
    // What admission sees: the pod with the API server's defaults. No backend acts in the namespace yet.
    let defaulted = each(pods(), |(namespace, pod)| create(&client, namespace, pod, true)).await?;
    backend.enforce(&programs).await?;
    let stored = each(pods(), |(namespace, pod)| create(&client, namespace, pod, false)).await?;
    backend.withdraw(&programs).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    each(programs.iter(), |(name, _)| {
        let namespaces = namespaces.clone();
        async move { Ok(namespaces.delete(name, &DeleteParams::background()).await?) }
    })
    .await?;
    let mut answers = defaulted.into_iter().zip(stored);
    let pairs = places().map(|(case, _, program)| {
        let answers = answers.by_ref().take(case.pods.len());
        answers.map(|(defaulted, stored)| compare(&case.world, program, defaulted, stored)).collect()
    });
    pairs.collect()
}

fn compare(world: &World, program: &Program, defaulted: Result<Json, String>, stored: Result<Json, String>) -> anyhow::Result<Pair> {
    let Ok(mut defaulted) = defaulted else { return Ok(Pair::Refused) };
    defaulted["metadata"]["namespace"] = GENERATED.into();
    let pod = Pod::deserialize(&defaulted)?;
    let creation = program.create(&pod);
    let mut predicted = defaulted.clone();
    let patch: json_patch::Patch = serde_json::from_value(serde_json::to_value(podpolicy_admission::patch(&pod, &creation))?)?;
    json_patch::patch(&mut predicted, &patch).context("the patch does not apply")?;
    let stored = match stored {
        Ok(stored) => comparable(stored),
        Err(refusal) => {
            return Ok(Pair::Different(format!(
                "the API server refuses the pod: {refusal}\npolicies: {}\npod: {defaulted:#}",
                Json::from(world.policies.clone())
            )));
        }
    };
    let predicted = comparable(predicted);
    if stored == predicted {
        return Ok(Pair::Same { is_changed: !creation.is_empty(), has_settings: !creation.settings.is_empty() });
    }
    let difference = json_patch::diff(&predicted, &stored);
    let World { policies, surroundings, .. } = world;
    let policies = Json::from(policies.clone());
    Ok(Pair::Different(format!(
        "policies: {policies:#}\n{surroundings:?}\npod: {defaulted:#}\npredicted: {predicted:#}\nstored differs from it by: {difference}"
    )))
}

/// Without what the API server adds to each pod, and with the record as what it says.
fn comparable(mut pod: Json) -> Json {
    let metadata = pod["metadata"].as_object_mut().unwrap();
    for field in ["uid", "creationTimestamp", "namespace", "managedFields", "resourceVersion", "generation"] {
        metadata.remove(field);
    }
    if let Some(record) = pod.pointer_mut(&format!("/metadata/annotations/{}", APPLIED_ANNOTATION.replace('/', "~1"))) {
        *record = serde_json::from_str(record.as_str().unwrap()).unwrap_or_else(|error| json!(format!("unreadable ({error}): {record}")));
    }
    pod.as_object_mut().unwrap().remove("status");
    pod
}

/// A pod that the API server takes: it has a name that no other has, and containers have images.
fn pod_named(number: usize, pod: &Json) -> Json {
    let mut pod = pod.clone();
    pod["metadata"]["name"] = format!("pod-{number}").into();
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            container["image"] = "registry.example.com/image".into();
        }
    }
    pod
}

async fn create_namespace(client: &Client, name: &str, labels: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let labels = labels.iter().filter(|(key, _)| !key.starts_with("kubernetes.io/")).map(|(key, value)| (key.clone(), value.clone()));
    let labels = labels.chain([(PAIR_LABEL.to_owned(), name.to_owned())]).collect();
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    namespace.metadata.labels = Some(labels);
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    Ok(())
}

/// Creates the pod: the pod as it is then, or the refusal.
async fn create(client: &Client, namespace: &str, mut pod: Json, dry_run: bool) -> anyhow::Result<Result<Json, String>> {
    pod["metadata"].as_object_mut().unwrap().remove("namespace");
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    let pods: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let params = PostParams { dry_run, ..PostParams::default() };
    match pods.create(&params, &serde_json::from_value(pod)?).await {
        Ok(pod) => Ok(Ok(serde_json::to_value(pod)?)),
        Err(kube::Error::Api(status)) if is_refusal(&status) => Ok(Err(status.message)),
        Err(error) => Err(error.into()),
    }
}

fn is_refusal(status: &Status) -> bool {
    matches!(status.code, 400 | 403 | 422 | 500)
}

/// Does something with each, some at a time, and returns the results in order.
pub async fn each<I, T, F>(items: impl Iterator<Item = I>, act: impl Fn(I) -> F) -> anyhow::Result<Vec<T>>
where
    F: Future<Output = anyhow::Result<T>>,
{
    stream::iter(items.map(act).collect::<Vec<_>>()).buffered(CONCURRENCY).try_collect().await
}
