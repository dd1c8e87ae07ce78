//! The policies that are known, and which pods they select.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use podpolicy_api::{AdmissionBackend, ExecChecked, PodPolicyStatus};
use podpolicy_engine::{Exec, Finding, Policy, PolicyId, PolicyKind};

use super::{PodSlot, World};
use crate::{
    admission::{AdmissionState, AtCreation},
    guard::{GuardState, Written},
    metrics::BackendNow,
    observe::{Key, Observed, is_older},
    rollout::WorkloadId,
};

/// A policy, and how it stands.
pub(crate) struct PolicySlot {
    pub(crate) uid: String,
    resource_version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) status: PodPolicyStatus,
    pub(crate) policy: Arc<Policy>,
    /// How many generations of policies with commands had been seen with this one, if it has commands.
    seen: u64,
    pub(super) members: BTreeSet<Key>,
}

/// Why a policy selects fewer pods than it seems to.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Aside {
    /// How many pods it leaves alone, because their owner is exempt since its rollout failed.
    pub(crate) exempt: u32,
    /// The workloads of those pods.
    pub(crate) workloads: BTreeSet<String>,
    /// The namespaces that it selects, where all of them are excluded.
    pub(crate) excluded: Vec<String>,
}

impl World {
    /// Takes the policies whose status may have changed.
    pub(crate) fn take_changed_policies(&mut self) -> Vec<PolicyId> {
        self.changed_policies.drain().collect()
    }

    /// The status of these policies may have changed.
    pub(crate) fn statuses_changed(&mut self, policies: impl IntoIterator<Item = PolicyId>) {
        self.changed_policies.extend(policies);
    }

    /// A policy and its pods.
    pub(crate) fn policy<'a>(&'a self, id: &PolicyId) -> Option<(&'a PolicySlot, impl Iterator<Item = (&'a Key, &'a PodSlot)> + use<'a>)> {
        let slot = self.policies.get(id)?;
        Some((slot, slot.members.iter().filter_map(|key| self.pods.get_key_value(key))))
    }

    /// Takes in the policy that a write of its status returned.
    pub(crate) fn status_written(&mut self, policy: Observed) {
        match policy {
            Observed::PodPolicy(policy)
                if self.is_known(&PolicyId::namespaced(policy.namespace().unwrap_or_default(), policy.name_any())) =>
            {
                self.apply_policy(Policy::from_namespaced(&policy), policy.metadata, policy.status);
            }
            Observed::ClusterPodPolicy(policy) if self.is_known(&PolicyId::cluster(policy.name_any())) => {
                self.apply_policy(Policy::from_cluster(&policy), policy.metadata, policy.status);
            }
            _ => {}
        }
    }

    fn is_known(&self, id: &PolicyId) -> bool {
        self.policies.contains_key(id)
    }

    pub(super) fn apply_policy(&mut self, policy: Policy, metadata: ObjectMeta, status: Option<PodPolicyStatus>) {
        let id = policy.id().clone();
        if metadata.deletion_timestamp.is_some() {
            self.remove_policy(&id);
            return;
        }
        let (uid, generation) = (metadata.uid.unwrap_or_default(), metadata.generation);
        let resource_version = metadata.resource_version.unwrap_or_default();
        let status = status.unwrap_or_default();
        if self.policies.get(&id).is_some_and(|slot| is_older(&resource_version, &slot.resource_version)) {
            return;
        }
        let seen = self.note_commands(&policy, &uid, generation);
        let policy = vouched(&self.guard, policy, &uid, generation, &status).with_exempt(exempt(generation, &status));
        match self.policies.get_mut(&id) {
            Some(slot) if slot.uid == uid && *slot.policy == policy => {
                slot.generation = generation;
                slot.resource_version = resource_version;
                slot.status = status;
                slot.seen = seen;
            }
            Some(_) | None => {
                let policy = Arc::new(policy);
                self.policy_changed(&policy);
                let members = self.policies.remove(&id).map(|slot| slot.members).unwrap_or_default();
                self.policies.insert(id.clone(), PolicySlot { uid, resource_version, generation, status, policy, seen, members });
            }
        }
        self.changed_policies.insert(id);
    }

    /// Notes a policy with commands, or that it has none any more. Says how many generations of such policies have been seen with it.
    fn note_commands(&mut self, policy: &Policy, uid: &str, generation: Option<i64>) -> u64 {
        let id = policy.id();
        if !policy.runs_commands() {
            self.commands.is_new |= self.commands.policies.remove(id);
            return 0;
        }
        if let Some(slot) = self.policies.get(id)
            && slot.seen > 0
            && (slot.uid.as_str(), slot.generation) == (uid, generation)
        {
            return slot.seen;
        }
        self.commands.policies.insert(id.clone());
        self.commands.seen += 1;
        self.commands.is_new = true;
        self.commands.seen
    }

    /// Takes in how the guard stands: policies with commands may do more or less than before.
    pub(crate) fn guard_changed(&mut self, state: Arc<GuardState>) {
        self.guard = state;
        for id in self.commands.policies.clone() {
            let Some(slot) = self.policies.get_mut(&id) else { continue };
            let policy = vouched(&self.guard, Policy::clone(&slot.policy), &slot.uid, slot.generation, &slot.status);
            if *slot.policy != policy {
                slot.policy = Arc::new(policy);
                let policy = Arc::clone(&slot.policy);
                self.policy_changed(&policy);
            }
            self.changed_policies.insert(id);
        }
    }

    /// What the status of a policy should remember of the guard.
    pub(crate) fn exec_checked(&self, slot: &PolicySlot) -> Option<ExecChecked> {
        if !slot.policy.runs_commands() {
            return None;
        }
        let is_vouched = *slot.policy.exec() == Exec::Vouched;
        let now = slot.generation.filter(|_| is_vouched).and_then(|generation| self.guard.to_remember(generation, slot.seen));
        now.or_else(|| slot.status.exec_checked.clone())
    }

    pub(super) fn remove_policy(&mut self, id: &PolicyId) {
        self.commands.is_new |= self.commands.policies.remove(id);
        if let Some(slot) = self.policies.remove(id) {
            self.undecided.extend(slot.members);
            self.policy_changed(&slot.policy);
        }
    }

    /// The policy as it is now makes a new program. Only pods that it concerns, or did, are decided anew.
    fn policy_changed(&mut self, policy: &Policy) {
        self.stale.program = true;
        let id = policy.id();
        self.undecided.extend(self.policies.get(id).iter().flat_map(|before| &before.members).cloned());
        let concerned = self.pods_in_scope(id).filter(|(_, slot)| policy.may_concern(&slot.pod)).map(|(key, _)| key.clone());
        let concerned: Vec<_> = concerned.collect();
        self.undecided.extend(concerned);
    }

    /// The pods of a namespace, or all for a cluster-scoped policy.
    fn pods_in_scope(&self, id: &PolicyId) -> impl Iterator<Item = (&Key, &PodSlot)> {
        let from = Key { namespace: id.namespace.clone(), name: String::new() };
        let namespace = id.namespace.clone();
        let is_namespaced = match id.kind {
            PolicyKind::PodPolicy => true,
            PolicyKind::ClusterPodPolicy => false,
        };
        self.pods.range(from..).take_while(move |(key, _)| !is_namespaced || key.namespace == namespace)
    }

    /// Takes in how policies stand at creation.
    pub(crate) fn admission_changed(&mut self, state: Arc<AdmissionState>) {
        let before = std::mem::replace(&mut self.admission, state);
        let changed = self.policies.iter().filter(|(_, slot)| before.of(&slot.policy) != self.admission.of(&slot.policy));
        self.changed_policies.extend(changed.map(|(id, _)| id.clone()));
    }

    /// Who gives pods their settings when they are created, as far as is known.
    pub(crate) fn backend(&self) -> BackendNow {
        match &*self.admission {
            AdmissionState::Starting => BackendNow::Unknown,
            AdmissionState::Off => BackendNow::None,
            AdmissionState::On(standings) => match standings.backend {
                AdmissionBackend::Native => BackendNow::Native,
                AdmissionBackend::Webhook => BackendNow::Webhook,
            },
        }
    }

    /// How a policy stands at creation; nothing where pods are given nothing then.
    pub(crate) fn at_creation(&self, slot: &PolicySlot) -> Option<AtCreation> {
        Some(self.admission.of(&slot.policy)?.or_as_before(&slot.status, slot.generation))
    }

    /// Why the policy selects fewer pods than it seems to.
    pub(crate) fn aside(&self, slot: &PolicySlot) -> Aside {
        let mut aside = Aside { excluded: self.excluded(slot), ..Aside::default() };
        let id = slot.policy.id();
        if slot.policy.exempt().is_empty() {
            return aside;
        }
        for (key, pod) in self.pods_in_scope(id).filter(|(_, pod)| pod.outcome.exempting.iter().any(|policy| policy.id() == id)) {
            aside.exempt += 1;
            let workload = pod.pod.owner.as_ref().and_then(|owner| self.workloads.of(&key.namespace, owner));
            if let Some((kind, key, ..)) = workload {
                aside.workloads.insert(WorkloadId { kind, key }.named_by(id));
            }
        }
        aside
    }

    /// The excluded namespaces that a policy without pods selects, if it selects no other.
    fn excluded(&self, slot: &PolicySlot) -> Vec<String> {
        let Some(selector) = slot.policy.namespace_selector().filter(|_| slot.members.is_empty()) else { return Vec::new() };
        let selected = || self.namespace_labels.iter().filter(|(_, labels)| selector.matches(labels)).map(|(name, _)| name);
        if !selected().all(|name| self.program.excluded_namespaces().contains(name)) {
            return Vec::new();
        }
        let mut excluded: Vec<_> = selected().cloned().collect();
        excluded.sort();
        excluded
    }

    /// A namespace came, went or has other labels: policies that select namespaces and no pod may say something else of it.
    pub(super) fn namespace_changed(&mut self) {
        let selecting = self.policies.iter().filter(|(_, slot)| slot.policy.namespace_selector().is_some() && slot.members.is_empty());
        self.changed_policies.extend(selecting.map(|(id, _)| id.clone()));
    }

    /// What of a policy no pod gets.
    pub(crate) fn refused_everywhere(&self, slot: &PolicySlot) -> Vec<Finding> {
        self.program.refused_everywhere(&slot.policy)
    }
}

/// The owners that a failed rollout of the present spec has exempted.
fn exempt(generation: Option<i64>, status: &PodPolicyStatus) -> BTreeSet<String> {
    let rollout = status.rollout.as_ref().filter(|rollout| rollout.generation == generation);
    rollout.and_then(|rollout| rollout.failure.as_ref()?.exempt.clone()).into_iter().collect()
}

/// The policy with who vouches for its authors.
fn vouched(guard: &GuardState, policy: Policy, uid: &str, generation: Option<i64>, status: &PodPolicyStatus) -> Policy {
    if !policy.runs_commands() {
        return policy;
    }
    let written =
        Written { uid, generation: generation.unwrap_or_default(), created: policy.created(), checked: status.exec_checked.as_ref() };
    let exec = guard.vouches_for(&written);
    policy.with_exec(exec)
}
