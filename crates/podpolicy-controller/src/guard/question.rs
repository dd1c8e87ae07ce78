//! What is asked of the API server: whether the guard is in force, by a dry run that it alone denies, and which generations policies have.
//! Nothing is ever stored.

use std::{collections::HashMap, fmt::Debug};

use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use podpolicy_api::{ClusterPodPolicy, PodPolicy};
use podpolicy_engine::{PolicyId, PolicyKind};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::found::NAME;
use crate::{
    Watched,
    apply::{FIELD_MANAGER, WriteError, within},
};

/// The condition that the guard denies in dry runs, and how its words begin.
const CONDITION: &str = "podpolicy.dev/Guarded";

/// What a dry run shows.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// The guard denied it.
    InForce,
    /// Nobody denied it.
    NotInForce,
    /// Somebody else denied it, with these words.
    Other(String),
}

/// Asks whether the guard is in force, on the first of the policies that is still there.
pub(super) async fn ask(client: &Client, policies: &[PolicyId]) -> Result<Answer, WriteError> {
    let mut answer = Err(WriteError::Gone);
    for id in policies {
        answer = match id.kind {
            PolicyKind::PodPolicy => ask_policy::<PodPolicy>(Api::namespaced(client.clone(), &id.namespace), &id.name).await,
            PolicyKind::ClusterPodPolicy => ask_policy::<ClusterPodPolicy>(Api::all(client.clone()), &id.name).await,
        };
        if !matches!(answer, Err(WriteError::Gone)) {
            break;
        }
    }
    answer
}

async fn ask_policy<K>(api: Api<K>, name: &str) -> Result<Answer, WriteError>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let params = PatchParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let condition = json!({
        "type": CONDITION, "status": "Unknown", "reason": "Asked", "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z",
    });
    match within(api.patch_status(name, &params, &Patch::Merge(json!({ "status": { "conditions": [condition] } })))).await {
        Ok(_) => Ok(Answer::NotInForce),
        Err(WriteError::Refused(message)) if is_denial(&message) => Ok(Answer::InForce),
        // An API server that has just started.
        Err(WriteError::Refused(message)) if message.contains("not yet ready to handle request") => Err(WriteError::Unavailable(message)),
        Err(WriteError::Refused(message)) => Ok(Answer::Other(message)),
        Err(error) => Err(error),
    }
}

fn is_denial(message: &str) -> bool {
    message.contains(&format!("ValidatingAdmissionPolicy '{NAME}' with binding '{NAME}' denied request: {CONDITION} is "))
}

/// The generations that all policies have now, by UID.
pub(super) async fn generations(client: &Client, watched: &Watched) -> Result<HashMap<String, i64>, WriteError> {
    let mut generations = HashMap::new();
    match watched {
        Watched::Cluster => {
            list::<PodPolicy>(Api::all(client.clone()), &mut generations).await?;
            list::<ClusterPodPolicy>(Api::all(client.clone()), &mut generations).await?;
        }
        Watched::Namespaces(names) => {
            for name in names {
                list::<PodPolicy>(Api::namespaced(client.clone(), name), &mut generations).await?;
            }
        }
    }
    Ok(generations)
}

async fn list<K>(api: Api<K>, generations: &mut HashMap<String, i64>) -> Result<(), WriteError>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let list = within(api.list_metadata(&ListParams::default())).await?;
    generations.extend(list.iter().filter_map(|policy| Some((policy.uid()?, policy.meta().generation?))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_guards_own_denial_is_one() {
        let denied = "podpolicies.podpolicy.dev \"web\" is forbidden: ValidatingAdmissionPolicy 'podpolicy-guard' with binding \
                      'podpolicy-guard' denied request: podpolicy.dev/Guarded is the operator's question whether this guard is in force";
        assert!(is_denial(denied));
        assert!(!is_denial(&denied.replace("'podpolicy-guard' with", "'other' with")));
        assert!(!is_denial(&denied.replace("request: podpolicy.dev/Guarded is", "request: expression failed")));
    }
}
