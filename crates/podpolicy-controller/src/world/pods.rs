//! The pods that are known, and what was decided about each.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use podpolicy_engine::{Conflict, Life, MetadataPlan, Outcome, Owner, Pod, PodTemplate};

use super::{World, Write};
use crate::{
    apply::{PodPatch, WriteError},
    observe::{Key, is_older},
};

/// A pod, and what was decided about it.
pub(crate) struct PodSlot {
    pub(crate) pod: Pod,
    pub(crate) outcome: Outcome,
    /// Why the last write failed.
    pub(crate) failure: Option<WriteError>,
}

impl World {
    /// The write that a pod needs now; none when it needs nothing, and while it waits for a decision: what was decided about it does not
    /// hold for what it has become since.
    pub(crate) fn patch_for(&self, key: &Key) -> Option<PodPatch> {
        let slot = self.pods.get(key).filter(|_| !self.undecided.contains(key))?;
        (!slot.outcome.metadata.is_empty()).then(|| PodPatch::new(&slot.pod, &slot.outcome.metadata))
    }

    /// Takes in the metadata of a pod that a write returned. The watch will say the same, but later.
    pub(crate) fn written(&mut self, key: &Key, metadata: ObjectMeta) {
        let Some(slot) = self.pods.get_mut(key) else { return };
        slot.failure = None;
        if metadata.uid.as_ref() != Some(&slot.pod.uid) {
            return;
        }
        let pod = Pod {
            resource_version: metadata.resource_version.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
            life: if metadata.deletion_timestamp.is_some() { Life::Untouchable } else { slot.pod.life },
            ..slot.pod.clone()
        };
        self.apply_pod(pod);
    }

    /// Notes that a write failed.
    pub(crate) fn write_failed(&mut self, key: &Key, error: WriteError) {
        if let Some(slot) = self.pods.get_mut(key) {
            slot.failure = Some(error);
            self.changed_policies.extend(slot.outcome.verdicts.iter().map(|verdict| verdict.policy.id().clone()));
        }
    }

    pub(super) fn apply_pod(&mut self, mut pod: Pod) {
        let key = Key { namespace: pod.namespace.clone(), name: pod.name.clone() };
        if let Some(slot) = self.pods.get(&key) {
            if is_older(&pod.resource_version, &slot.pod.resource_version) {
                return;
            }
            if is_same_but_version(&pod, &slot.pod) {
                if let Some(slot) = self.pods.get_mut(&key) {
                    slot.pod.resource_version = pod.resource_version;
                    slot.pod.running = pod.running;
                }
                return;
            }
        }
        pod.template = self.shared(pod.template);
        pod.owner = pod.owner.map(|owner| self.shared_owner(owner));
        let appeared = self.carried.add(&pod);
        self.carried_changed(&pod.namespace, &appeared);
        let slot = PodSlot { pod, outcome: Outcome::default(), failure: None };
        match self.pods.insert(key.clone(), slot) {
            Some(old) => {
                let vanished = self.carried.remove(&old.pod);
                self.carried_changed(&old.pod.namespace, &vanished);
                // What was decided stays until it is decided anew, so that memberships stay true.
                if let Some(slot) = self.pods.get_mut(&key) {
                    let is_another = old.pod.uid != slot.pod.uid;
                    slot.outcome = old.outcome;
                    slot.failure = old.failure;
                    if is_another {
                        slot.outcome.metadata = MetadataPlan::default();
                        slot.failure = None;
                    }
                }
            }
            None => {
                if !self.facts.contains_key(&key.namespace) {
                    self.stale.facts.insert(key.namespace.clone());
                }
            }
        }
        self.undecided.insert(key);
    }

    pub(super) fn remove_pod(&mut self, key: &Key) {
        self.undecided.remove(key);
        let Some(slot) = self.pods.remove(key) else { return };
        let vanished = self.carried.remove(&slot.pod);
        self.carried_changed(&slot.pod.namespace, &vanished);
        self.changed_policies.extend(slot.outcome.exempting.iter().map(|policy| policy.id().clone()));
        for verdict in &slot.outcome.verdicts {
            let id = verdict.policy.id();
            if let Some(policy) = self.policies.get_mut(id) {
                policy.members.remove(key);
                self.changed_policies.insert(id.clone());
            }
        }
    }

    /// One copy of templates that pods share.
    fn shared(&mut self, template: Arc<PodTemplate>) -> Arc<PodTemplate> {
        if let Some(known) = self.templates.get(&template) {
            return Arc::clone(known);
        }
        if self.templates.len() > 2 * self.pods.len() + 16 {
            self.templates.retain(|template| Arc::strong_count(template) > 1);
        }
        self.templates.insert(Arc::clone(&template));
        template
    }

    /// One copy of owners that pods share.
    fn shared_owner(&mut self, owner: Arc<Owner>) -> Arc<Owner> {
        if let Some(known) = self.owners.get(&owner) {
            return Arc::clone(known);
        }
        if self.owners.len() > 2 * self.pods.len() + 16 {
            self.owners.retain(|owner| Arc::strong_count(owner) > 1);
        }
        self.owners.insert(Arc::clone(&owner));
        owner
    }

    /// Decides about a pod.
    pub(super) fn decide(&mut self, key: &Key) -> Option<Write> {
        let slot = self.pods.get_mut(key)?;
        let mut outcome = self.program.decide(&slot.pod);
        // The values are in the pod or in the plan; memory is for many pods.
        outcome.fields = Vec::new();
        let write = if outcome.metadata.is_empty() {
            slot.failure = None;
            Write::None
        } else if outcome.metadata == slot.outcome.metadata {
            Write::Same
        } else {
            Write::New
        };
        let old = std::mem::replace(&mut slot.outcome, outcome);
        let new = &slot.outcome;
        for verdict in old.verdicts.iter().filter(|old| !new.verdicts.iter().any(|new| new.policy.id() == old.policy.id())) {
            if let Some(policy) = self.policies.get_mut(verdict.policy.id()) {
                policy.members.remove(key);
            }
            self.changed_policies.insert(verdict.policy.id().clone());
        }
        let exempting = |outcome: &Outcome| -> Vec<_> { outcome.exempting.iter().map(|policy| policy.id().clone()).collect() };
        let (before, now) = (exempting(&old), exempting(new));
        if before != now {
            self.changed_policies.extend(before.into_iter().chain(now));
        }
        let same_conflicts = old.conflicts.iter().map(Conflict::key).eq(new.conflicts.iter().map(Conflict::key));
        for verdict in &new.verdicts {
            let id = verdict.policy.id();
            if let Some(policy) = self.policies.get_mut(id) {
                policy.members.insert(key.clone());
            }
            let same =
                old.verdicts.iter().any(|old| old.policy.id() == id && old.state == verdict.state && old.findings == verdict.findings);
            if !same || !same_conflicts {
                self.changed_policies.insert(id.clone());
            }
        }
        Some(write)
    }
}

fn is_same_but_version(pod: &Pod, known: &Pod) -> bool {
    let Pod { namespace: _, name: _, uid, resource_version: _, labels, annotations, life, owner, running: _, template } = pod;
    *uid == known.uid
        && *labels == known.labels
        && *annotations == known.annotations
        && *life == known.life
        && *owner == known.owner
        && *template == known.template
}
