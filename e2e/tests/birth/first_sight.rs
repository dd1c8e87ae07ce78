//! The first version of each pod that a watch brings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt as _};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Watches the pods of a namespace.
pub struct FirstSight {
    pods: Arc<Mutex<BTreeMap<String, Pod>>>,
    task: JoinHandle<()>,
}

impl FirstSight {
    /// Begins to watch. Once it returns, no pod is missed.
    pub async fn of(api: Api<Pod>) -> anyhow::Result<Self> {
        let pods = Arc::<Mutex<BTreeMap<String, Pod>>>::default();
        let (listed, mut is_listed) = watch::channel(false);
        let seen = Arc::clone(&pods);
        let mut events = watcher(api, watcher::Config::default()).boxed();
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::InitApply(pod) | Event::Apply(pod)) => {
                        seen.lock().unwrap_or_else(PoisonError::into_inner).entry(pod.uid().unwrap_or_default()).or_insert(pod);
                    }
                    Ok(Event::InitDone) => _ = listed.send_replace(true),
                    Ok(Event::Init | Event::Delete(_)) => {}
                    Err(error) => panic!("a pod could have been missed: {error}"),
                }
            }
        });
        is_listed.wait_for(|listed| *listed).await?;
        Ok(Self { pods, task })
    }

    /// Waits until so many pods with a label `app` were seen, and returns how they looked at first.
    pub async fn pods(&self, app: &str, count: usize) -> anyhow::Result<Vec<Pod>> {
        eventually(&format!("{count} pods of {app}"), DEADLINE, async || {
            let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
            let found: Vec<_> = pods.values().filter(|pod| pod.labels().get("app").is_some_and(|value| value == app)).cloned().collect();
            Ok(if found.len() == count { Seen::Done(found) } else { Seen::NotYet(format!("{} pods", found.len())) })
        })
        .await
    }
}

impl Drop for FirstSight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Panics where the pod lacks something of the policy `standard`.
#[track_caller]
pub fn assert_right(pod: &Pod) {
    let spec = pod.spec.as_ref().unwrap();
    let container = &spec.containers[0];
    let always = spec.restart_policy.as_deref() == Some("Always");
    let found = (
        pod.labels().get("team").map(String::as_str),
        pod.annotations().get("example.com/oncall").map(String::as_str),
        spec.termination_grace_period_seconds,
        container.readiness_probe.as_ref().and_then(|probe| probe.http_get.as_ref()?.path.as_deref()),
        container.lifecycle.as_ref().and_then(|lifecycle| Some(lifecycle.pre_stop.as_ref()?.sleep.as_ref()?.seconds)),
        pod.annotations().contains_key("podpolicy.dev/applied"),
    );
    let wanted = (Some("shop"), Some("shop@example.com"), Some(60), always.then_some("/ready"), Some(5), true);
    assert_eq!(found, wanted, "pod {}", pod.name_any());
}
