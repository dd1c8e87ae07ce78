//! How few pods were ready at once: for tests that say "never fewer".
//!
//! Must never ask for the pods again and again: what was in between would be missed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::pods::is_ready;

/// The pods that a label selector finds, since it began to look.
pub struct Fewest {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// Whether each pod serves: one that is being deleted does not count.
    serving: BTreeMap<String, bool>,
    fewest: Option<usize>,
}

impl Fewest {
    /// Begins to look. Once it returns, no change is missed.
    pub async fn of(pods: Api<Pod>, selector: &str) -> anyhow::Result<Self> {
        let seen = Arc::<Mutex<Seen>>::default();
        let (listed, mut is_listed) = watch::channel(false);
        let mut events = watcher(pods, watcher::Config::default().labels(selector)).boxed();
        let looking = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let mut seen = looking.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Ok(Event::Init) => seen.serving.clear(),
                    Ok(Event::InitApply(pod)) => seen.take_in(&pod),
                    Ok(Event::InitDone) => {
                        seen.count();
                        listed.send_replace(true);
                    }
                    Ok(Event::Apply(pod)) => {
                        seen.take_in(&pod);
                        seen.count();
                    }
                    Ok(Event::Delete(pod)) => {
                        seen.serving.remove(&pod.name_any());
                        seen.count();
                    }
                    Err(error) => tracing::warn!("what was ready has a gap: {error}"),
                }
            }
        });
        is_listed.wait_for(|listed| *listed).await?;
        Ok(Self { seen, task })
    }

    /// So many, so far.
    pub fn so_far(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).fewest.unwrap_or_default()
    }
}

impl Seen {
    fn take_in(&mut self, pod: &Pod) {
        self.serving.insert(pod.name_any(), is_ready(pod) && pod.metadata.deletion_timestamp.is_none());
    }

    fn count(&mut self) {
        let now = self.serving.values().filter(|serves| **serves).count();
        self.fewest = Some(self.fewest.map_or(now, |fewest| fewest.min(now)));
    }
}

impl Drop for Fewest {
    fn drop(&mut self) {
        self.task.abort();
    }
}
