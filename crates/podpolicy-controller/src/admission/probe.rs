//! Whether units are in force, which no status of theirs says: they add conditions to the status of a policy that is written with
//! `dryRun=All`. Nothing is ever stored.

use std::collections::BTreeMap;

use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    core::object::HasStatus,
};
use podpolicy_admission::cel::IN_FORCE_CONDITION;
use podpolicy_api::{ClusterPodPolicy, PodPolicy, PodPolicyStatus};
use podpolicy_engine::{PolicyId, PolicyKind};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::apply::{FIELD_MANAGER, WriteError, within};

/// The digests of the units that act on the policy's status, by name: those bound to its namespace; all for a ClusterPodPolicy.
pub(super) async fn ask(client: &Client, id: &PolicyId) -> Result<BTreeMap<String, String>, WriteError> {
    match id.kind {
        PolicyKind::PodPolicy => ask_policy::<PodPolicy>(Api::namespaced(client.clone(), &id.namespace), &id.name).await,
        PolicyKind::ClusterPodPolicy => ask_policy::<ClusterPodPolicy>(Api::all(client.clone()), &id.name).await,
    }
}

async fn ask_policy<K>(api: Api<K>, name: &str) -> Result<BTreeMap<String, String>, WriteError>
where
    K: Resource + HasStatus<Status = PodPolicyStatus> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let params = PatchParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    // It changes nothing, even if it were stored.
    let nothing = json!({ "status": {} });
    let answer = within(api.patch_status(name, &params, &Patch::Merge(nothing))).await?;
    let conditions = answer.status().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let units = conditions.iter().filter_map(|condition| {
        let name = condition.type_.strip_prefix(IN_FORCE_CONDITION)?;
        Some((name.to_owned(), condition.message.clone()))
    });
    Ok(units.collect())
}
