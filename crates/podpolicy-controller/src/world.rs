//! All that is known: policies, pods, namespaces and selectors as last seen, the program made of them, and for each pod what
//! was decided. It does no I/O and reads no clock: observations go in, decisions come out.

mod carried;
mod selectors;
mod sources;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use podpolicy_api::PodPolicyStatus;
use podpolicy_engine::{Conflict, Life, MetadataPlan, NamespaceFacts, Outcome, Pod, PodTemplate, Policy, PolicyId, PolicyKind, Program};

use crate::{
    apply::{PodPatch, WriteError},
    config::Config,
    observe::{Key, Observation, Observed, What},
    source::{Source, Watchable},
};

use carried::Carried;
use selectors::{Selectors, Touched};
use sources::Sources;

/// All that is known.
pub(crate) struct World {
    config: Config,
    sources: Sources,
    policies: HashMap<PolicyId, PolicySlot>,
    pods: BTreeMap<Key, PodSlot>,
    templates: HashSet<Arc<PodTemplate>>,
    namespace_labels: HashMap<String, BTreeMap<String, String>>,
    selectors: Selectors,
    carried: Carried,
    facts: HashMap<String, Arc<NamespaceFacts>>,
    program: Program,
    stale: Stale,
    undecided: BTreeSet<Key>,
    changed_policies: HashSet<PolicyId>,
}

/// What of the program no longer says what is known.
#[derive(Debug, Default)]
struct Stale {
    program: bool,
    facts: HashSet<String>,
    /// Pods to decide anew once the program is made.
    pods: Affected,
}

#[derive(Debug, Default)]
enum Affected {
    #[default]
    None,
    Namespaces(HashSet<String>),
    All,
}

/// A policy, and how it stands.
pub(crate) struct PolicySlot {
    pub(crate) uid: String,
    resource_version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) status: PodPolicyStatus,
    pub(crate) policy: Arc<Policy>,
    members: BTreeSet<Key>,
}

/// A pod, and what was decided about it.
pub(crate) struct PodSlot {
    pub(crate) pod: Pod,
    pub(crate) outcome: Outcome,
    /// Why the last write failed.
    pub(crate) failure: Option<WriteError>,
}

/// A pod that was decided anew.
pub(crate) struct Planned {
    pub(crate) key: Key,
    pub(crate) write: Write,
}

/// What a decision says about writing to the pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Write {
    /// There is nothing to write.
    None,
    /// The same is to be written as was before.
    Same,
    /// Something else is to be written than was before, or the same to another pod.
    New,
}

impl World {
    pub(crate) fn new(config: Config, sources: &[Source]) -> Self {
        let program = Program::new([], HashMap::new(), config.settings(BTreeSet::new(), BTreeSet::new()));
        Self {
            config,
            sources: Sources::waiting(sources),
            policies: HashMap::new(),
            pods: BTreeMap::new(),
            templates: HashSet::new(),
            namespace_labels: HashMap::new(),
            selectors: Selectors::default(),
            carried: Carried::default(),
            facts: HashMap::new(),
            program,
            stale: Stale { program: true, ..Stale::default() },
            undecided: BTreeSet::new(),
            changed_policies: HashSet::new(),
        }
    }

    /// Takes in what a watch saw.
    pub(crate) fn observe(&mut self, observation: Observation) {
        let Observation { source, what } = observation;
        match what {
            What::Applied(object) => self.applied(*object, &source),
            What::Deleted(key) => self.deleted(&source, &key),
            What::Listed(keys) => {
                for gone in self.known(&source).into_iter().filter(|key| !keys.contains(key)).collect::<Vec<_>>() {
                    self.deleted(&source, &gone);
                }
                if self.sources.listed(&source) {
                    self.sources_changed();
                }
            }
            What::Failing(failure) => {
                if self.sources.failing(&source, failure) {
                    self.sources_changed();
                }
            }
        }
    }

    /// Whether everything has been seen that can be.
    pub(crate) fn is_synced(&self) -> bool {
        self.sources.is_synced()
    }

    /// The sources that have not been listed, for people who wait.
    pub(crate) fn unsynced(&self) -> Vec<String> {
        self.sources.unsynced()
    }

    /// What the operator may not do that makes it blind, in words.
    pub(crate) fn blindness(&self) -> Option<String> {
        self.sources.blindness()
    }

    /// Makes the program anew if something changed, and decides up to `limit` pods. The caller asks again until none is left.
    pub(crate) fn plan(&mut self, limit: usize) -> Vec<Planned> {
        self.refresh();
        let keys: Vec<_> = self.undecided.iter().take(limit).cloned().collect();
        keys.into_iter()
            .filter_map(|key| {
                self.undecided.remove(&key);
                self.decide(&key).map(|write| Planned { key, write })
            })
            .collect()
    }

    /// Whether pods wait for a decision.
    pub(crate) fn has_undecided(&self) -> bool {
        !self.undecided.is_empty()
    }

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

    /// Takes the policies whose status may have changed.
    pub(crate) fn take_changed_policies(&mut self) -> Vec<PolicyId> {
        self.changed_policies.drain().collect()
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

    /// How many pods and policies are known.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.pods.len(), self.policies.len())
    }

    fn applied(&mut self, object: Observed, source: &Source) {
        match object {
            Observed::PodPolicy(policy) => self.apply_policy(Policy::from_namespaced(&policy), policy.metadata, policy.status),
            Observed::ClusterPodPolicy(policy) => self.apply_policy(Policy::from_cluster(&policy), policy.metadata, policy.status),
            Observed::Pod(pod) => self.apply_pod(pod.pod),
            Observed::Namespace(namespace) => {
                let name = namespace.name_any();
                let labels = namespace.labels().clone();
                if self.namespace_labels.get(&name) != Some(&labels) {
                    self.namespace_labels.insert(name.clone(), labels);
                    self.stale.facts.insert(name);
                }
            }
            Observed::Selecting(object) => {
                if let Watchable::Selecting(kind) = source.resource {
                    let touched = self.selectors.apply(kind, &object);
                    self.selectors_changed(touched, &Key::of(&object).namespace);
                }
            }
        }
    }

    fn apply_policy(&mut self, policy: Policy, metadata: ObjectMeta, status: Option<PodPolicyStatus>) {
        let id = policy.id().clone();
        if metadata.deletion_timestamp.is_some() {
            self.remove_policy(&id);
            return;
        }
        let (uid, generation) = (metadata.uid.unwrap_or_default(), metadata.generation);
        let resource_version = metadata.resource_version.unwrap_or_default();
        let status = status.unwrap_or_default();
        match self.policies.get_mut(&id) {
            Some(slot) if is_older(&resource_version, &slot.resource_version) => return,
            Some(slot) if slot.uid == uid && *slot.policy == policy => {
                slot.generation = generation;
                slot.resource_version = resource_version;
                slot.status = status;
            }
            Some(_) | None => {
                let policy = Arc::new(policy);
                self.policy_changed(&policy);
                let members = self.policies.remove(&id).map(|slot| slot.members).unwrap_or_default();
                self.policies.insert(id.clone(), PolicySlot { uid, resource_version, generation, status, policy, members });
            }
        }
        self.changed_policies.insert(id);
    }

    fn remove_policy(&mut self, id: &PolicyId) {
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

    fn apply_pod(&mut self, mut pod: Pod) {
        let key = Key { namespace: pod.namespace.clone(), name: pod.name.clone() };
        if let Some(slot) = self.pods.get(&key) {
            if is_older(&pod.resource_version, &slot.pod.resource_version) {
                return;
            }
            if is_same_but_version(&pod, &slot.pod) {
                if let Some(slot) = self.pods.get_mut(&key) {
                    slot.pod.resource_version = pod.resource_version;
                }
                return;
            }
        }
        pod.template = self.shared(pod.template);
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

    fn remove_pod(&mut self, key: &Key) {
        self.undecided.remove(key);
        let Some(slot) = self.pods.remove(key) else { return };
        let vanished = self.carried.remove(&slot.pod);
        self.carried_changed(&slot.pod.namespace, &vanished);
        for verdict in &slot.outcome.verdicts {
            let id = verdict.policy.id();
            if let Some(policy) = self.policies.get_mut(id) {
                policy.members.remove(key);
                self.changed_policies.insert(id.clone());
            }
        }
    }

    fn deleted(&mut self, source: &Source, key: &Key) {
        match source.resource {
            Watchable::PodPolicies => self.remove_policy(&PolicyId::namespaced(&key.namespace, &key.name)),
            Watchable::ClusterPodPolicies => self.remove_policy(&PolicyId::cluster(&key.name)),
            Watchable::Pods => self.remove_pod(key),
            Watchable::Namespaces => {
                self.namespace_labels.remove(&key.name);
                self.stale.facts.insert(key.name.clone());
            }
            Watchable::Selecting(kind) => {
                let touched = self.selectors.remove(kind, key);
                self.selectors_changed(touched, &key.namespace);
            }
        }
    }

    /// The objects of a source that are known.
    fn known(&self, source: &Source) -> Vec<Key> {
        let in_scope = |key: &Key| source.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace);
        let of_policies = |kind: PolicyKind| {
            let ids = self.policies.keys().filter(move |id| id.kind == kind);
            ids.map(|id| Key { namespace: id.namespace.clone(), name: id.name.clone() }).collect::<Vec<_>>()
        };
        let keys: Vec<Key> = match source.resource {
            Watchable::PodPolicies => of_policies(PolicyKind::PodPolicy),
            Watchable::ClusterPodPolicies => of_policies(PolicyKind::ClusterPodPolicy),
            Watchable::Pods => self.pods.keys().cloned().collect(),
            Watchable::Namespaces => {
                self.namespace_labels.keys().map(|name| Key { namespace: String::new(), name: name.clone() }).collect()
            }
            Watchable::Selecting(kind) => self.selectors.known(kind),
        };
        keys.into_iter().filter(in_scope).collect()
    }

    /// What can be seen changed: what the program was told of it may be wrong anywhere.
    fn sources_changed(&mut self) {
        self.stale.program = true;
        self.stale.pods = Affected::All;
        self.changed_policies.extend(self.policies.keys().cloned());
    }

    fn selectors_changed(&mut self, touched: Touched, namespace: &str) {
        match touched {
            Touched::Nothing => {}
            Touched::Own => _ = self.stale.facts.insert(namespace.to_owned()),
            Touched::All => {
                self.stale.facts.insert(namespace.to_owned());
                self.stale.facts.extend(self.facts.keys().cloned());
            }
        }
    }

    /// Policies began or ceased to carry these labels in the namespace: that matters where a selector reads one, or could.
    fn carried_changed(&mut self, namespace: &str, keys: &[String]) {
        let is_read = |key: &String| self.facts.get(namespace).is_some_and(|facts| facts.readers.contains_key(key));
        if !keys.is_empty() && (keys.iter().any(is_read) || !self.sources.unseen_selectors().is_empty()) {
            self.stale.facts.insert(namespace.to_owned());
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

    /// Makes stale facts and the program anew.
    fn refresh(&mut self) {
        for namespace in std::mem::take(&mut self.stale.facts) {
            if self.is_gone(&namespace) {
                self.facts.remove(&namespace);
                continue;
            }
            let facts = self.gather(&namespace);
            if self.facts.get(&namespace).is_none_or(|known| **known != facts) {
                self.facts.insert(namespace.clone(), Arc::new(facts));
                self.stale.program = true;
                self.stale.pods.add(&namespace);
            }
        }
        if !std::mem::take(&mut self.stale.program) {
            return;
        }
        let policies: Vec<_> = self.policies.values().map(|slot| Arc::clone(&slot.policy)).collect();
        let settings = self.config.settings(self.sources.unseen_selectors(), self.sources.unseen_kinds());
        self.program = Program::new(policies, self.facts.clone(), settings);
        match std::mem::take(&mut self.stale.pods) {
            Affected::None => {}
            Affected::All => self.undecided.extend(self.pods.keys().cloned()),
            Affected::Namespaces(names) => {
                for name in names {
                    let from = Key { namespace: name.clone(), name: String::new() };
                    let keys = self.pods.range(from..).map(|(key, _)| key).take_while(|key| key.namespace == name);
                    self.undecided.extend(keys.cloned());
                }
            }
        }
    }

    /// Whether nothing is left of a namespace that could matter.
    fn is_gone(&self, namespace: &str) -> bool {
        let from = Key { namespace: namespace.to_owned(), name: String::new() };
        let has_pods = self.pods.range(from..).next().is_some_and(|(key, _)| key.namespace == namespace);
        !has_pods && self.selectors.is_empty_in(namespace) && !self.namespace_labels.contains_key(namespace)
    }

    fn gather(&self, namespace: &str) -> NamespaceFacts {
        // Unknown where namespaces are not watched, and for a moment where a pod comes before its namespace.
        let labels = self.namespace_labels.get(namespace);
        NamespaceFacts {
            labels: labels.cloned().unwrap_or_default(),
            readers: self.selectors.readers(namespace, labels),
            carried: self.carried.in_namespace(namespace),
        }
    }

    /// Decides about a pod.
    fn decide(&mut self, key: &Key) -> Option<Write> {
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

impl Affected {
    fn add(&mut self, namespace: &str) {
        match self {
            Self::All => {}
            Self::None => *self = Self::Namespaces(HashSet::from([namespace.to_owned()])),
            Self::Namespaces(names) => _ = names.insert(namespace.to_owned()),
        }
    }
}

/// Whether a version of an object is older than the one that is known. Versions of one resource can be compared as numbers; where they
/// cannot, the later message counts.
fn is_older(version: &str, known: &str) -> bool {
    let number = |version: &str| version.parse::<u64>().ok();
    number(version).zip(number(known)).is_some_and(|(version, known)| version < known)
}

fn is_same_but_version(pod: &Pod, known: &Pod) -> bool {
    let Pod { namespace: _, name: _, uid, resource_version: _, labels, annotations, life, template } = pod;
    *uid == known.uid && *labels == known.labels && *annotations == known.annotations && *life == known.life && *template == known.template
}
