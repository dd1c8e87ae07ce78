//! The workloads that own pods: how many pods they are to have, and how they replace them. No rollout is decided here.

use std::collections::HashMap;

use podpolicy_engine::Owner;

use crate::{
    observe::Key,
    projection::{RollingUpdate, Selecting, UpdateStrategy, WorkloadStatus},
    rollout::WorkloadView,
    source::SelectingKind,
};

/// A workload that is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    /// The Deployment of a ReplicaSet.
    pub(crate) owner: Option<Owner>,
    pub(crate) own: WorkloadView,
}

/// All of them.
#[derive(Default)]
pub(super) struct Workloads {
    known: HashMap<(SelectingKind, Key), Known>,
}

impl Workloads {
    /// Takes in an object, new or changed; says whether anything changed that rollouts look at.
    pub(super) fn apply(&mut self, kind: SelectingKind, object: &Selecting) -> bool {
        let key = (kind, Key::of(object));
        match known(kind, object) {
            None => self.known.remove(&key).is_some(),
            Some(known) if self.known.get(&key) == Some(&known) => false,
            Some(known) => {
                self.known.insert(key, known);
                true
            }
        }
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, kind: SelectingKind, key: &Key) -> bool {
        self.known.remove(&(kind, key.clone())).is_some()
    }

    /// The objects of a kind that are known.
    pub(super) fn known(&self, kind: SelectingKind) -> impl Iterator<Item = Key> {
        self.known.keys().filter(move |(other, _)| *other == kind).map(|(_, key)| key.clone())
    }

    pub(super) fn get(&self, kind: SelectingKind, key: &Key) -> Option<&Known> {
        self.known.get(&(kind, key.clone()))
    }

    /// The workload that makes the pods of an owner: of a ReplicaSet, its Deployment. With it, why the owner cannot make pods.
    pub(super) fn of(&self, namespace: &str, owner: &Owner) -> Option<(SelectingKind, Key, &Known, Option<&str>)> {
        let (kind, key, known) = self.find(namespace, owner)?;
        let failure = known.own.failure.as_deref();
        match &known.owner {
            None => Some((kind, key, known, failure)),
            Some(owner) => self.find(namespace, owner).map(|(kind, key, known)| (kind, key, known, failure)),
        }
    }

    fn find(&self, namespace: &str, owner: &Owner) -> Option<(SelectingKind, Key, &Known)> {
        let kind = SelectingKind::ALL.into_iter().find(|kind| kind.kind() == owner.kind)?;
        let key = Key { namespace: namespace.to_owned(), name: owner.name.clone() };
        let known = self.known.get(&(kind, key.clone())).filter(|known| known.own.uid == owner.uid)?;
        Some((kind, key, known))
    }
}

/// What is known of an object that is a workload whose pods can be replaced, and that has pods.
fn known(kind: SelectingKind, object: &Selecting) -> Option<Known> {
    let Selecting { metadata, spec, status } = object;
    let WorkloadStatus {
        observed_generation,
        replicas: present,
        updated_replicas,
        available_replicas,
        desired_number_scheduled,
        updated_number_scheduled,
        number_available,
        ..
    } = status;
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let wanted = spec.replicas.unwrap_or(1);
    let strategy = spec.strategy.as_ref().or(spec.update_strategy.as_ref());
    let partition = match strategy {
        Some(UpdateStrategy { rolling_update: Some(RollingUpdate { partition: Some(partition) }), .. }) => *partition,
        _ => 0,
    };
    let by_hand = strategy.and_then(|strategy| strategy.kind.as_deref()) == Some("OnDelete");
    let updated = updated_replicas.unwrap_or_default();
    let (replicas, is_behind) = match kind {
        SelectingKind::Service | SelectingKind::NetworkPolicy | SelectingKind::PodDisruptionBudget | SelectingKind::Job => return None,
        // Those of earlier templates are many.
        SelectingKind::ReplicaSet if wanted == 0 && present.unwrap_or_default() == 0 => return None,
        SelectingKind::ReplicaSet | SelectingKind::ReplicationController => (wanted, false),
        SelectingKind::Deployment => (wanted, updated < wanted || present.unwrap_or_default() > updated),
        SelectingKind::StatefulSet => {
            (wanted, !by_hand && status.current_revision != status.update_revision && updated < wanted.saturating_sub(partition))
        }
        SelectingKind::DaemonSet => {
            let desired = desired_number_scheduled.unwrap_or_default();
            (desired, !by_hand && updated_number_scheduled.unwrap_or_default() < desired)
        }
    };
    let is_unseen = observed_generation.unwrap_or_default() < metadata.generation.unwrap_or_default();
    let failure = status.conditions.iter().flatten().find(|condition| condition.kind == "ReplicaFailure" && condition.status == "True");
    let template = spec.template.clone().unwrap_or_default();
    let owner = owner.map(|owner| Owner { kind: owner.kind.clone(), name: owner.name.clone(), uid: owner.uid.clone() });
    let own = WorkloadView {
        uid: metadata.uid.clone().unwrap_or_default(),
        replicas,
        unavailable: replicas.saturating_sub(available_replicas.or(*number_available).unwrap_or_default()),
        is_rolling: is_unseen || is_behind,
        is_paused: spec.paused.unwrap_or_default(),
        rolls: !by_hand && matches!(kind, SelectingKind::Deployment | SelectingKind::StatefulSet | SelectingKind::DaemonSet),
        partition,
        template: template.digest,
        stamp: template.stamp,
        failure: failure.and_then(|condition| condition.message.clone()),
    };
    Some(Known { owner, own })
}
