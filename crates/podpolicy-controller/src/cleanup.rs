//! Takes away what an operator leaves behind when it is uninstalled: the objects by which the API server gives new pods their settings, and
//! the records on pods. No pod is restarted or deleted, and without a record nothing is left that another operator would act on.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ClusterResourceScope,
    api::{
        admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration},
        coordination::v1::Lease,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, PartialObjectMeta},
};
use podpolicy_admission::{
    cel::{self, OWNER_LABEL},
    webhook,
};
use podpolicy_api::{APPLIED_ANNOTATION, ClusterPodPolicy, PodPolicy};
use podpolicy_engine::{MetadataPlan, Pod, PolicyId, Program, Settings};
use serde::de::DeserializeOwned;

use crate::{
    apply::{self, PodPatch, WriteError},
    leadership::LEASE_NAME,
    projection::ProjectedPod,
};

/// How many pods are listed at once, so that a large cluster needs little memory.
const PAGE: u32 = 500;
/// How many pods are written at once.
const CONCURRENCY: usize = 16;
/// How often a pod that changes meanwhile is looked at anew.
const ATTEMPTS: usize = 5;

/// What is to be cleaned up, and how.
#[derive(Clone, Debug)]
pub struct CleanUp {
    /// The only namespace that is cleaned up; without one it is the whole cluster, with the objects that belong to no namespace.
    pub namespace: Option<String>,
    /// The namespace of the operator, where its Lease is.
    pub own_namespace: String,
    /// Whether labels and annotations that policies wrote are taken back as well, and what they replaced put back.
    pub undo: bool,
    /// Whether nothing is written.
    pub dry_run: bool,
    /// Whether it goes on while an operator runs, or there are policies.
    pub force: bool,
}

/// What was cleaned up, or would be.
#[derive(Debug, Default)]
pub struct CleanedUp {
    /// The objects that were deleted, as `kind/name`.
    pub objects: Vec<String>,
    /// What became of pods that had a record, by namespace.
    pub pods: BTreeMap<String, CleanedPods>,
    /// What could not be written: the object, and why.
    pub failures: Vec<(String, String)>,
}

/// The pods of one namespace that had a record.
#[derive(Debug, Default)]
pub struct CleanedPods {
    /// How many.
    pub count: usize,
    /// The fields that were taken off them or put back to what they were, such as `labels[team]`.
    pub undone: BTreeSet<String>,
}

/// Why nothing could be cleaned up.
#[derive(Debug, thiserror::Error)]
pub enum CleanUpError {
    /// An operator runs, and would write all of it anew.
    #[error(
        "an operator runs ({holder} renewed the Lease {namespace}/{LEASE_NAME} a moment ago) and would write the records again: delete its Deployment first, or give --force"
    )]
    OperatorRuns {
        /// The replica that leads.
        holder: String,
        /// The operator's namespace.
        namespace: String,
    },
    /// There are policies: an operator that runs would write all of it anew, and one that runs later could not undo what they wrote.
    #[error(
        "there are policies ({example}{}): without the records no operator can take back what they wrote. Delete them first, or give --force",
        match others { 0 => String::new(), others => format!(" and {others} more") }
    )]
    PoliciesExist {
        /// One of them.
        example: PolicyId,
        /// How many there are beside it.
        others: usize,
    },
    /// Something could not be listed.
    #[error("cannot list {kind}: {source}")]
    List {
        /// What.
        kind: String,
        /// Why.
        source: kube::Error,
    },
}

/// Cleans up: first what gives records to new pods, then the pods. `now` judges whether an operator runs.
pub async fn clean_up(client: &Client, what: &CleanUp, now: Timestamp) -> Result<CleanedUp, CleanUpError> {
    if !what.force && !what.dry_run {
        no_operator_runs(client, &what.own_namespace, now).await?;
        no_policies_exist(client, what.namespace.as_deref()).await?;
    }
    let mut done = CleanedUp::default();
    if what.namespace.is_none() {
        // The bindings first: a policy without one does nothing, a binding without its policy is an error to the API server.
        delete_owned::<MutatingAdmissionPolicyBinding>(client, what, &mut done).await?;
        delete_owned::<MutatingAdmissionPolicy>(client, what, &mut done).await?;
        delete_owned::<MutatingWebhookConfiguration>(client, what, &mut done).await?;
    }
    clean_pods(client, what, &mut done).await?;
    Ok(done)
}

async fn no_operator_runs(client: &Client, namespace: &str, now: Timestamp) -> Result<(), CleanUpError> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let lease = leases.get_opt(LEASE_NAME).await.map_err(|source| CleanUpError::List { kind: "Leases".to_owned(), source })?;
    let Some(spec) = lease.and_then(|lease| lease.spec) else { return Ok(()) };
    let Some(holder) = spec.holder_identity.filter(|holder| !holder.is_empty()) else { return Ok(()) };
    let lasts = SignedDuration::from_secs(spec.lease_duration_seconds.unwrap_or_default().into());
    match spec.renew_time {
        Some(renewed) if now.duration_since(renewed.0) < lasts => {
            Err(CleanUpError::OperatorRuns { holder, namespace: namespace.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Fails where a policy is left that acts on the pods to be cleaned up. An operator cannot be seen in all cases: one without a Lease runs as well.
async fn no_policies_exist(client: &Client, namespace: Option<&str>) -> Result<(), CleanUpError> {
    let namespaced: Api<PodPolicy> = namespace.map_or_else(|| Api::all(client.clone()), |name| Api::namespaced(client.clone(), name));
    let cluster: Api<ClusterPodPolicy> = Api::all(client.clone());
    let of_namespaces = listed(&namespaced, "").await?;
    let of_cluster = listed(&cluster, "").await?;
    let of_namespaces = of_namespaces.iter().map(|policy| PolicyId::namespaced(policy.namespace().unwrap_or_default(), policy.name_any()));
    let policies: Vec<_> = of_namespaces.chain(of_cluster.iter().map(|policy| PolicyId::cluster(policy.name_any()))).collect();
    match policies.split_first() {
        None => Ok(()),
        Some((example, others)) => Err(CleanUpError::PoliciesExist { example: example.clone(), others: others.len() }),
    }
}

/// The objects of a kind with these labels; none where the API server is older than the kind, or does not know it.
async fn listed<K>(api: &Api<K>, labels: &str) -> Result<Vec<PartialObjectMeta<K>>, CleanUpError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    match api.list_metadata(&ListParams::default().labels(labels)).await {
        Ok(objects) => Ok(objects.items),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(source) => Err(CleanUpError::List { kind: K::plural(&()).into_owned(), source }),
    }
}

/// Deletes the objects of a kind that an operator owns.
async fn delete_owned<K>(client: &Client, what: &CleanUp, done: &mut CleanedUp) -> Result<(), CleanUpError>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let (key, value) = OWNER_LABEL;
    for object in listed(&api, &format!("{key}={value}")).await? {
        let name = object.name_any();
        // Others may use the label's value for objects of their own.
        if !name.starts_with(cel::NAME_PREFIX) && name != webhook::CONFIGURATION_NAME {
            continue;
        }
        let title = format!("{}/{name}", K::kind(&()).to_lowercase());
        let parameters = DeleteParams { dry_run: what.dry_run, ..DeleteParams::default() };
        match api.delete(&name, &parameters).await {
            Ok(_) => done.objects.push(title),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => done.failures.push((title, error.to_string())),
        }
    }
    Ok(())
}

/// Takes the records off the pods, page by page.
async fn clean_pods(client: &Client, what: &CleanUp, done: &mut CleanedUp) -> Result<(), CleanUpError> {
    let api: Api<ProjectedPod> = match &what.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    // Without policies, all that is recorded is taken back.
    let nothing = Program::new(std::iter::empty(), HashMap::new(), Settings::default());
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&parameters).await.map_err(|source| CleanUpError::List { kind: "pods".to_owned(), source })?;
        let recorded = page.items.into_iter().map(|listed| listed.pod).filter(|pod| pod.annotations.contains_key(APPLIED_ANNOTATION));
        let results: Vec<_> = stream::iter(recorded)
            .map(|pod| {
                let (namespace, title) = (pod.namespace.clone(), format!("pod {}/{}", pod.namespace, pod.name));
                let cleaning = clean_pod(client, what, &nothing, pod);
                async move { (namespace, title, cleaning.await) }
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        for (namespace, title, result) in results {
            match result {
                Ok(Some(undone)) => {
                    let pods = done.pods.entry(namespace).or_default();
                    pods.count += 1;
                    pods.undone.extend(undone);
                }
                Ok(None) => {}
                Err(error) => done.failures.push((title, error.to_string())),
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// Takes the record off one pod. Returns the fields that were undone; none if there was no record: the pod may be gone, or another have its name.
async fn clean_pod(client: &Client, what: &CleanUp, nothing: &Program, mut pod: Pod) -> Result<Option<Vec<String>>, WriteError> {
    let api: Api<ProjectedPod> = Api::namespaced(client.clone(), &pod.namespace);
    let uid = pod.uid.clone();
    for _ in 0..ATTEMPTS {
        let plan = plan(what, nothing, &pod);
        if what.dry_run {
            return Ok(Some(undone(&plan)));
        }
        match apply::patch_pod(client.clone(), PodPatch::new(&pod, &plan)).await {
            Ok(_) => return Ok(Some(undone(&plan))),
            Err(WriteError::Gone) => return Ok(None),
            Err(WriteError::Changed) => {}
            Err(error) => return Err(error),
        }
        let present = apply::within(api.get_opt(&pod.name)).await?;
        match present.map(|present| present.pod) {
            Some(present) if present.uid == uid && present.annotations.contains_key(APPLIED_ANNOTATION) => pod = present,
            _ => return Ok(None),
        }
    }
    Err(WriteError::Changed)
}

/// The fields that a plan changes, but for the record.
fn undone(plan: &MetadataPlan) -> Vec<String> {
    let labels = plan.labels.keys().map(|key| format!("labels[{key}]"));
    let annotations = plan.annotations.keys().filter(|key| *key != APPLIED_ANNOTATION).map(|key| format!("annotations[{key}]"));
    labels.chain(annotations).collect()
}

/// What is written to the pod: the record goes in any case, also the part of it that tells where settings from its creation came from.
fn plan(what: &CleanUp, nothing: &Program, pod: &Pod) -> MetadataPlan {
    let mut plan = if what.undo { nothing.decide(pod).metadata } else { MetadataPlan::default() };
    plan.annotations.insert(APPLIED_ANNOTATION.to_owned(), None);
    plan
}
