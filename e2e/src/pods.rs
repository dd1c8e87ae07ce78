//! The pods that a label selector finds, as tests wait for them and show them.
//!
//! Must never change a pod.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use crate::wait::{DEADLINE, Seen, eventually};

/// Waits until the pods that match the label selector `hold`, and returns them.
pub async fn when(pods: &Api<Pod>, selector: &str, what: &str, hold: impl Fn(&[Pod]) -> bool) -> anyhow::Result<Vec<Pod>> {
    let params = ListParams::default().labels(selector);
    eventually(&format!("pods with {selector}: {what}"), DEADLINE, async || {
        let pods = pods.list(&params).await?.items;
        Ok(if hold(&pods) { Seen::Done(pods) } else { Seen::NotYet(describe(&pods)) })
    })
    .await
}

/// Whether a pod serves.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The pods, one on a line, for messages.
pub fn describe(pods: &[Pod]) -> String {
    let line = |pod: &Pod| {
        let owners: Vec<_> = pod.owner_references().iter().map(|owner| format!("{}/{}", owner.kind, owner.name)).collect();
        let (uid, labels, annotations) = (pod.uid().unwrap_or_default(), pod.labels(), pod.annotations());
        let leaving = if pod.metadata.deletion_timestamp.is_some() { ", being deleted" } else { "" };
        format!("\n{} {uid} of {owners:?}{leaving}: labels {labels:?}, annotations {annotations:?}", pod.name_any())
    };
    pods.iter().map(line).collect()
}
