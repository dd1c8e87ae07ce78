//! Writes the MutatingAdmissionPolicy objects: one step at a time, a policy before its binding, and the other way round when they go.
//! Nothing here decides whether to write.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::PartialObjectMeta,
};
use podpolicy_admission::cel::{OWNER_LABEL, Unit};
use serde_json::json;

use super::{objects::Object, scope::Scope, steps::Step};
use crate::apply::{FIELD_MANAGER, WriteError, patch_params, within};

/// How long to wait before the removal of all objects is tried again.
const REMOVE_AGAIN: Duration = Duration::from_secs(10);

/// A write that was done.
pub(super) enum Written {
    Policy(Box<Applied<MutatingAdmissionPolicy>>),
    Binding(Box<Applied<MutatingAdmissionPolicyBinding>>),
    NoPolicy(String),
    NoBinding(String),
}

/// What came of a step: what was done, and the error that ended it.
pub(super) struct Taken {
    pub(super) step: Step,
    pub(super) written: Vec<Written>,
    pub(super) result: Result<(), WriteError>,
}

/// Takes a step. `unit` is what is to be applied.
pub(super) async fn take(client: &Client, step: Step, unit: Option<&Unit>) -> Taken {
    let mut written = Vec::new();
    let result = match (&step, unit) {
        (Step::Apply { name: _, policy, binding }, Some(unit)) => put(client, unit, *policy, *binding, &mut written).await,
        (Step::Remove { name, binding, policy }, _) => delete(client, name, *binding, *policy, &mut written).await,
        // The unit is no longer wanted: there is nothing to apply.
        (Step::Apply { .. }, None) => Ok(()),
    };
    Taken { step, written, result }
}

async fn put(client: &Client, unit: &Unit, policy: bool, binding: bool, written: &mut Vec<Written>) -> Result<(), WriteError> {
    if policy {
        written.push(Written::Policy(Box::new(apply(client, &unit.policy).await?)));
    }
    if binding {
        written.push(Written::Binding(Box::new(apply(client, &unit.binding).await?)));
    }
    Ok(())
}

async fn delete(client: &Client, name: &str, binding: bool, policy: bool, written: &mut Vec<Written>) -> Result<(), WriteError> {
    if binding {
        remove::<MutatingAdmissionPolicyBinding>(client, name).await?;
        written.push(Written::NoBinding(name.to_owned()));
    }
    if policy {
        remove::<MutatingAdmissionPolicy>(client, name).await?;
        written.push(Written::NoPolicy(name.to_owned()));
    }
    Ok(())
}

/// What a write returned, beside the content that was written.
pub(super) struct Applied<K> {
    pub(super) object: K,
    pub(super) wanted: u64,
}

/// Makes the object what it should be, whoever has changed what in it.
async fn apply<K: Object>(client: &Client, wanted: &K) -> Result<Applied<K>, WriteError> {
    let api: Api<K> = Api::all(client.clone());
    let (name, content) = (wanted.name_any(), wanted.clone().into_stored().content());
    let mut object = within(api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(wanted))).await?;
    if object.content() != content {
        // Applying leaves alone what others have added.
        tracing::debug!(name, "replacing what somebody else has added");
        let spec = serde_json::to_value(wanted).map_err(|error| WriteError::Refused(error.to_string()))?;
        let operations = json!([
            { "op": "test", "path": "/metadata/uid", "value": object.uid() },
            { "op": "replace", "path": "/spec", "value": spec["spec"] },
        ]);
        let patch = serde_json::from_value(operations).map_err(|error| WriteError::Refused(error.to_string()))?;
        object = within(api.patch(&name, &patch_params(), &Patch::Json::<()>(patch))).await?;
    }
    Ok(Applied { object, wanted: content })
}

/// Deletes the object; one that is gone is as good.
async fn remove<K: Object>(client: &Client, name: &str) -> Result<(), WriteError> {
    let api: Api<PartialObjectMeta<K>> = Api::all(client.clone());
    match within(api.delete(name, &DeleteParams::default())).await {
        Ok(_) | Err(WriteError::Gone) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes all of the operator's objects, for when another backend gives pods their settings, or none. Without the rights for it there is
/// nothing that it could have written.
pub(super) async fn remove_all(client: &Client, scope: &Scope) {
    loop {
        let bindings = remove_kind::<MutatingAdmissionPolicyBinding>(client, scope).await;
        let removed = match bindings {
            Ok(()) => remove_kind::<MutatingAdmissionPolicy>(client, scope).await,
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => return,
            Err(error @ WriteError::Forbidden(_)) => {
                tracing::debug!(%error, "could not look for MutatingAdmissionPolicy objects to remove");
                return;
            }
            Err(error) => tracing::warn!(%error, "could not remove the operator's MutatingAdmissionPolicy objects; trying again"),
        }
        tokio::time::sleep(REMOVE_AGAIN).await;
    }
}

async fn remove_kind<K: Object>(client: &Client, scope: &Scope) -> Result<(), WriteError> {
    let (key, value) = OWNER_LABEL;
    let api: Api<PartialObjectMeta<K>> = Api::all(client.clone());
    let list = within(api.list_metadata(&ListParams::default().labels(&format!("{key}={value}")))).await?;
    for name in list.iter().map(kube::ResourceExt::name_any).filter(|name| scope.owns(name)) {
        tracing::info!(name, "removing {}", K::kind(&()));
        remove::<K>(client, &name).await?;
    }
    Ok(())
}
