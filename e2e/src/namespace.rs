//! A namespace for one test.
//!
//! Must never touch an object outside it: tests run side by side on one control plane.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind, ObjectMeta};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;

use crate::wait::{Seen, eventually};

/// How long the deletion of a dropped namespace may hold up the end of its test.
const DROP_DEADLINE: Duration = Duration::from_secs(20);

/// A namespace that no other test has, deleted when it is dropped.
pub struct TestNamespace {
    name: String,
    /// Not a client: in `Drop` the client's own runtime may be the thread that waits.
    config: Config,
    deleted: bool,
}

impl TestNamespace {
    /// Creates a namespace with a name that begins with `prefix`.
    pub async fn create(config: &Config, prefix: &str) -> anyhow::Result<Self> {
        let namespaces: Api<Namespace> = Api::all(Client::try_from(config.clone())?);
        let metadata = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
        let wanted = Namespace { metadata, ..Namespace::default() };
        let created = namespaces.create(&PostParams::default(), &wanted).await;
        let created = created.with_context(|| format!("could not create a namespace {prefix}-*"))?;
        Ok(Self { name: created.name_any(), config: config.clone(), deleted: false })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Deletes the namespace and what policies act on in it, and waits until that is gone.
    ///
    /// The namespace itself goes only where kube-controller-manager runs; nobody waits for it.
    pub async fn delete(mut self) -> anyhow::Result<()> {
        self.deleted = true;
        empty_and_delete(&self.config, &self.name).await
    }
}

impl fmt::Display for TestNamespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

impl Drop for TestNamespace {
    /// Best effort: a test that has failed shall not disturb the others with its pods.
    fn drop(&mut self) {
        if self.deleted {
            return;
        }
        let (config, name) = (self.config.clone(), self.name.clone());
        let deletion = thread::spawn(move || -> anyhow::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { tokio::time::timeout(DROP_DEADLINE, empty_and_delete(&config, &name)).await? })
        });
        if let Ok(Err(error)) = deletion.join() {
            tracing::warn!(namespace = %self.name, "could not delete a test's namespace: {error:#}");
        }
    }
}

/// Deletes the namespace first, so that no controller fills it again, then its pods and policies.
async fn empty_and_delete(config: &Config, name: &str) -> anyhow::Result<()> {
    let client = Client::try_from(config.clone())?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    ignore_missing(namespaces.delete(name, &DeleteParams::background()).await)?;

    let pods: Api<Pod> = Api::namespaced(client.clone(), name);
    let policy = ApiResource::from_gvk(&GroupVersionKind::gvk("podpolicy.dev", "v1alpha1", "PodPolicy"));
    let policies: Api<DynamicObject> = Api::namespaced_with(client, name, &policy);
    eventually(&format!("the pods and policies of namespace {name} to go"), DROP_DEADLINE, async || {
        let remaining = [clear(&pods).await?, clear(&policies).await?].concat();
        Ok(Seen::when(remaining.is_empty(), remaining))
    })
    .await
}

/// Deletes all objects at once, lets go of those that a finalizer holds, and says which were there.
async fn clear<K>(api: &Api<K>) -> anyhow::Result<Vec<String>>
where
    K: kube::Resource + Clone + fmt::Debug + serde::de::DeserializeOwned,
{
    let Some(objects) = ignore_missing(api.list(&ListParams::default()).await)? else {
        return Ok(Vec::new());
    };
    if objects.items.is_empty() {
        return Ok(Vec::new());
    }
    for held in objects.iter().filter(|object| !object.finalizers().is_empty()) {
        let release = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        ignore_missing(api.patch(&held.name_any(), &PatchParams::default(), &release).await)?;
    }
    ignore_missing(api.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await)?;
    Ok(objects.iter().map(kube::ResourceExt::name_any).collect())
}

/// `None` when there is nothing by that name, or no such kind.
fn ignore_missing<T>(result: kube::Result<T>) -> kube::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        // Not `is_not_found`: for an unknown kind the answer is a bare 404 without a reason.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}
