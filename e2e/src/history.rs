//! Every version of one object, in order: for tests of what was said in between, not only of what is said in the end.
//!
//! Must never ask for the object again and again: versions in between would be missed.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wait::{DEADLINE, Seen, eventually};

/// The versions of one object, from the one that was there at the start.
pub struct History<K> {
    versions: Arc<Mutex<Vec<K>>>,
    task: JoinHandle<()>,
}

impl<K> History<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Begins to collect. Once it returns, no version is missed.
    pub async fn of(api: Api<K>, name: &str) -> anyhow::Result<Self> {
        let versions = Arc::<Mutex<Vec<K>>>::default();
        let (listed, mut is_listed) = watch::channel(false);
        let mut events = watcher(api, watcher::Config::default().fields(&format!("metadata.name={name}"))).boxed();
        let collected = Arc::clone(&versions);
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::InitApply(object) | Event::Apply(object)) => {
                        collected.lock().unwrap_or_else(PoisonError::into_inner).push(object);
                    }
                    Ok(Event::InitDone) => _ = listed.send_replace(true),
                    Ok(Event::Init | Event::Delete(_)) => {}
                    Err(error) => tracing::warn!("the history has a gap: {error}"),
                }
            }
        });
        is_listed.wait_for(|listed| *listed).await?;
        Ok(Self { versions, task })
    }

    /// What `look` makes of each version so far; what does not differ from the one before is left out.
    pub fn map<T: PartialEq>(&self, look: impl Fn(&K) -> T) -> Vec<T> {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen: Vec<T> = versions.iter().map(look).collect();
        seen.dedup();
        seen
    }

    /// Waits until the version that the API server calls so has come, and with it all before: others may have come since.
    pub async fn reaches(&self, resource_version: &str) -> anyhow::Result<()> {
        eventually(&format!("the history to reach version {resource_version}"), DEADLINE, async || {
            let versions = self.map(|object| object.meta().resource_version.clone());
            Ok(Seen::when(versions.iter().flatten().any(|version| version == resource_version), versions))
        })
        .await
    }
}

impl<K> Drop for History<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
