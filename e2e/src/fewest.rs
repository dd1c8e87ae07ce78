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

/// The pods of a namespace, by their label `app`, since it began to look.
pub struct Fewest {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    pods: BTreeMap<String, Pod>,
    fewest: BTreeMap<String, usize>,
}

impl Fewest {
    /// Begins to look. Once it returns, no change is missed.
    pub async fn of(pods: Api<Pod>) -> anyhow::Result<Self> {
        let seen = Arc::<Mutex<Seen>>::default();
        let (listed, mut is_listed) = watch::channel(false);
        let mut events = watcher(pods, watcher::Config::default()).boxed();
        let looking = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let mut seen = looking.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Ok(Event::Init) => seen.pods.clear(),
                    Ok(Event::InitApply(pod)) => _ = seen.pods.insert(pod.name_any(), pod),
                    Ok(Event::InitDone) => {
                        seen.count();
                        listed.send_replace(true);
                    }
                    Ok(Event::Apply(pod)) => {
                        seen.pods.insert(pod.name_any(), pod);
                        seen.count();
                    }
                    Ok(Event::Delete(pod)) => {
                        seen.pods.remove(&pod.name_any());
                        seen.count();
                    }
                    Err(error) => tracing::warn!("what was ready has a gap: {error}"),
                }
            }
        });
        is_listed.wait_for(|listed| *listed).await?;
        Ok(Self { seen, task })
    }

    /// The fewest pods of this app that were ready at once, and not being deleted.
    pub fn ready(&self, app: &str) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).fewest.get(app).copied().unwrap_or_default()
    }
}

impl Seen {
    fn count(&mut self) {
        let mut now: BTreeMap<_, _> = self.fewest.keys().map(|app| (app.clone(), 0)).collect();
        for pod in self.pods.values() {
            let serves = is_ready(pod) && pod.metadata.deletion_timestamp.is_none();
            *now.entry(pod.labels().get("app").cloned().unwrap_or_default()).or_default() += usize::from(serves);
        }
        for (app, ready) in now {
            self.fewest.entry(app).and_modify(|fewest| *fewest = ready.min(*fewest)).or_insert(ready);
        }
    }
}

impl Drop for Fewest {
    fn drop(&mut self) {
        self.task.abort();
    }
}
