//! Takes away what an operator leaves behind when it is uninstalled: the objects by which the API server gives new pods their settings, and
//! the records on pods. No pod is restarted or deleted, and without a record nothing is left that another operator would act on.

use std::collections::{BTreeMap, HashMap};

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
    api::{DeleteParams, ListParams},
};
use podpolicy_admission::{
    cel::{self, OWNER_LABEL},
    webhook,
};
use podpolicy_api::APPLIED_ANNOTATION;
use podpolicy_engine::{MetadataPlan, Pod, Program, Settings};
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
    /// Whether it goes on while an operator runs.
    pub force: bool,
}

/// What was cleaned up, or would be.
#[derive(Debug, Default)]
pub struct CleanedUp {
    /// The objects that were deleted, as `kind/name`.
    pub objects: Vec<String>,
    /// How many pods had a record, by namespace.
    pub pods: BTreeMap<String, usize>,
    /// What could not be written: the object, and why.
    pub failures: Vec<(String, String)>,
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
    if !what.force {
        no_operator_runs(client, &what.own_namespace, now).await?;
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

/// Deletes the objects of a kind that an operator owns.
async fn delete_owned<K>(client: &Client, what: &CleanUp, done: &mut CleanedUp) -> Result<(), CleanUpError>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let (key, value) = OWNER_LABEL;
    let objects = match api.list(&ListParams::default().labels(&format!("{key}={value}"))).await {
        Ok(objects) => objects.items,
        // An API server older than the kind.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(source) => return Err(CleanUpError::List { kind: K::plural(&()).into_owned(), source }),
    };
    for object in objects {
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
                Ok(true) => *done.pods.entry(namespace).or_default() += 1,
                Ok(false) => {}
                Err(error) => done.failures.push((title, error.to_string())),
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// Takes the record off one pod. Returns whether there was one: the pod may be gone, or another have its name.
async fn clean_pod(client: &Client, what: &CleanUp, nothing: &Program, mut pod: Pod) -> Result<bool, WriteError> {
    let api: Api<ProjectedPod> = Api::namespaced(client.clone(), &pod.namespace);
    let uid = pod.uid.clone();
    if what.dry_run {
        return Ok(true);
    }
    for _ in 0..ATTEMPTS {
        match apply::patch_pod(client.clone(), PodPatch::new(&pod, &plan(what, nothing, &pod))).await {
            Ok(_) => return Ok(true),
            Err(WriteError::Gone) => return Ok(false),
            Err(WriteError::Changed) => {}
            Err(error) => return Err(error),
        }
        let present = apply::within(api.get_opt(&pod.name)).await?;
        match present.map(|present| present.pod) {
            Some(present) if present.uid == uid && present.annotations.contains_key(APPLIED_ANNOTATION) => pod = present,
            _ => return Ok(false),
        }
    }
    Err(WriteError::Changed)
}

/// What is written to the pod: the record goes in any case, also the part of it that tells where settings from its creation came from.
fn plan(what: &CleanUp, nothing: &Program, pod: &Pod) -> MetadataPlan {
    let mut plan = if what.undo { nothing.decide(pod).metadata } else { MetadataPlan::default() };
    plan.annotations.insert(APPLIED_ANNOTATION.to_owned(), None);
    plan
}
