//! The status of policies, as tests read it and wait for it.
//!
//! Must never look at pods: what a policy says of them is what tests compare with the pods themselves.

use std::fmt::Debug;

use anyhow::Context as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::object::HasStatus;
use kube::{Api, Resource};
use podpolicy_api::{PodCounts, PodPolicyStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wait::{self, DEADLINE};

/// Either kind of policy.
pub trait Policy: HasStatus<Status = PodPolicyStatus> + Resource + Clone + Debug + Serialize + DeserializeOwned + Send + 'static {}

impl<K> Policy for K where K: HasStatus<Status = PodPolicyStatus> + Resource + Clone + Debug + Serialize + DeserializeOwned + Send + 'static {}

/// The condition of this type.
pub fn condition<'a>(status: &'a PodPolicyStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Status and reason of the condition of this type, such as `True InForce`; empty when there is none.
pub fn verdict(status: &PodPolicyStatus, kind: &str) -> String {
    condition(status, kind).map(|condition| format!("{} {}", condition.status, condition.reason)).unwrap_or_default()
}

/// Waits until the status speaks of the present spec and `holds`.
pub async fn status<K: Policy>(
    policies: &Api<K>,
    name: &str,
    what: &str,
    holds: impl Fn(&PodPolicyStatus) -> bool,
) -> anyhow::Result<PodPolicyStatus> {
    let speaks = |policy: Option<&K>| {
        let Some((policy, status)) = policy.and_then(|policy| Some((policy, policy.status()?))) else { return false };
        status.observed_generation == policy.meta().generation && holds(status)
    };
    let policy = wait::object(policies, name, &format!("policy {name}: {what}"), DEADLINE, speaks).await?;
    policy.and_then(|policy| policy.status().cloned()).context("a policy was waited for that has a status")
}

/// Waits until the policy selects so many pods and has nothing left to write to them, or cannot.
pub async fn settled<K: Policy>(policies: &Api<K>, name: &str, matched: u32) -> anyhow::Result<PodPolicyStatus> {
    let at_rest = |status: &PodPolicyStatus| {
        let counted = status.pods.is_some_and(|PodCounts { matched: found, pending, .. }| found == matched && pending == 0);
        counted && condition(status, "Reconciling").is_none()
    };
    status(policies, name, &format!("{matched} pods, none of them pending"), at_rest).await
}

/// Waits until the policy is in force on exactly so many pods, all of them compliant.
pub async fn in_force<K: Policy>(policies: &Api<K>, name: &str, pods: u32) -> anyhow::Result<PodPolicyStatus> {
    let compliant = |status: &PodPolicyStatus| {
        let counted = status.pods.is_some_and(|PodCounts { matched, compliant, .. }| matched == pods && compliant == pods);
        counted && verdict(status, "Ready") == "True InForce"
    };
    status(policies, name, &format!("in force on {pods} pods"), compliant).await
}
