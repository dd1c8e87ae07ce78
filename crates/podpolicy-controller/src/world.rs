//! All that is known: policies, pods, namespaces and selectors as last seen, the program made of them, and for each pod what
//! was decided. It does no I/O and reads no clock: observations go in, decisions come out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use podpolicy_api::PodPolicyStatus;
use podpolicy_engine::{
    Conflict, Life, NamespaceFacts, Outcome, Pod, PodTemplate, Policy, PolicyId, PolicyKind, Program, Reach, Reader, Record, SelectorUse,
    selector_use,
};

use crate::{
    apply::{PodPatch, WriteError},
    config::Config,
    observe::{Failure, Key, Observation, Observed, What},
    projection::Selecting,
    source::{SelectingKind, Source, Watchable},
};

/// All that is known.
pub(crate) struct World {
    config: Config,
    sources: HashMap<Source, SourceState>,
    policies: HashMap<PolicyId, PolicySlot>,
    pods: BTreeMap<Key, PodSlot>,
    templates: HashSet<Arc<PodTemplate>>,
    namespace_labels: HashMap<String, BTreeMap<String, String>>,
    /// What selectors read in their own namespace, by namespace, kind and name.
    selectors: HashMap<String, BTreeMap<(SelectingKind, String), Vec<SelectorUse>>>,
    /// What peers of NetworkPolicies read in other namespaces.
    peers: BTreeMap<Key, Vec<SelectorUse>>,
    /// How many pods of a namespace carry a label of a policy: (policy as in records, key).
    carried: HashMap<String, BTreeMap<(String, String), usize>>,
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

/// How the watch of a source stands.
#[derive(Clone, Debug, Eq, PartialEq)]
enum SourceState {
    Waiting,
    Listed,
    Failing { failure: Failure, listed_before: bool },
}

impl SourceState {
    /// Whether the objects of the source have been seen, even if they cannot be now.
    fn was_listed(&self) -> bool {
        match self {
            Self::Listed => true,
            Self::Failing { listed_before, .. } => *listed_before,
            Self::Waiting => false,
        }
    }
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
    pub(crate) needs_write: bool,
}

impl World {
    pub(crate) fn new(config: Config, sources: &[Source]) -> Self {
        let program = Program::new([], HashMap::new(), config.settings(BTreeSet::new(), BTreeSet::new()));
        Self {
            config,
            sources: sources.iter().map(|source| (source.clone(), SourceState::Waiting)).collect(),
            policies: HashMap::new(),
            pods: BTreeMap::new(),
            templates: HashSet::new(),
            namespace_labels: HashMap::new(),
            selectors: HashMap::new(),
            peers: BTreeMap::new(),
            carried: HashMap::new(),
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
                self.set_source(&source, SourceState::Listed);
            }
            What::Failing(failure) => {
                let listed_before = self.sources.get(&source).is_some_and(SourceState::was_listed);
                self.set_source(&source, SourceState::Failing { failure, listed_before });
            }
        }
    }

    /// Whether every source has been listed, or cannot be. Definitions of policies that are not installed are waited for: as long as
    /// nobody can have written a policy there is nothing to do.
    pub(crate) fn is_synced(&self) -> bool {
        self.sources.iter().all(|(source, state)| match state {
            SourceState::Listed | SourceState::Failing { failure: Failure::Forbidden { .. }, .. } => true,
            SourceState::Failing { failure: Failure::NotServed, listed_before } => {
                *listed_before || !matches!(source.resource, Watchable::PodPolicies | Watchable::ClusterPodPolicies)
            }
            SourceState::Failing { failure: Failure::Other(_), listed_before } => *listed_before,
            SourceState::Waiting => false,
        })
    }

    /// The sources that have not been listed, for people who wait.
    pub(crate) fn unsynced(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.sources.iter().filter(|(_, state)| **state != SourceState::Listed).map(|(source, _)| source.to_string()).collect();
        names.sort();
        names
    }

    /// Makes the program anew if something changed, and decides up to `limit` pods. The caller asks again until none is left.
    pub(crate) fn plan(&mut self, limit: usize) -> Vec<Planned> {
        self.refresh();
        let keys: Vec<_> = self.undecided.iter().take(limit).cloned().collect();
        keys.into_iter()
            .filter_map(|key| {
                self.undecided.remove(&key);
                self.decide(&key).map(|needs_write| Planned { key, needs_write })
            })
            .collect()
    }

    /// Whether pods wait for a decision.
    pub(crate) fn has_undecided(&self) -> bool {
        !self.undecided.is_empty()
    }

    /// The write that a pod needs now; none when it needs nothing.
    pub(crate) fn patch_for(&self, key: &Key) -> Option<PodPatch> {
        let slot = self.pods.get(key)?;
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

    /// What the operator may not do that makes it blind, in words.
    pub(crate) fn blindness(&self) -> Option<String> {
        let blind = self.sources.iter().filter(|(source, _)| matches!(source.resource, Watchable::Pods | Watchable::Namespaces));
        let mut messages: Vec<_> = blind
            .filter_map(|(source, state)| match state {
                SourceState::Failing { failure: Failure::Forbidden { verb }, .. } => {
                    Some(format!("the operator may not {verb} {source}; grant it list and watch"))
                }
                SourceState::Failing { .. } | SourceState::Listed | SourceState::Waiting => None,
            })
            .collect();
        messages.sort();
        messages.into_iter().next()
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
                    self.apply_selecting(kind, &object);
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
        self.count_carried(&pod, true);
        let slot = PodSlot { pod, outcome: Outcome::default(), failure: None };
        match self.pods.insert(key.clone(), slot) {
            Some(old) => {
                self.count_carried(&old.pod, false);
                // What was decided stays until it is decided anew, so that memberships stay true.
                if let Some(slot) = self.pods.get_mut(&key) {
                    slot.outcome = old.outcome;
                    slot.failure = old.failure.filter(|_| old.pod.uid == slot.pod.uid);
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
        self.count_carried(&slot.pod, false);
        for verdict in &slot.outcome.verdicts {
            let id = verdict.policy.id();
            if let Some(policy) = self.policies.get_mut(id) {
                policy.members.remove(key);
                self.changed_policies.insert(id.clone());
            }
        }
    }

    fn apply_selecting(&mut self, kind: SelectingKind, object: &Selecting) {
        let Key { namespace, name } = Key::of(object);
        let spec = serde_json::to_value(&object.spec).unwrap_or_default();
        let (own, peers): (Vec<_>, Vec<_>) =
            selector_use(kind.kind(), &spec).into_iter().partition(|used| matches!(used.reach, Reach::Own));
        let objects = self.selectors.entry(namespace.clone()).or_default();
        let before = if own.is_empty() { objects.remove(&(kind, name.clone())) } else { objects.insert((kind, name.clone()), own.clone()) };
        if !own.is_empty() || before.is_some() {
            self.stale.facts.insert(namespace.clone());
        }
        if kind == SelectingKind::NetworkPolicy {
            self.set_peers(Key { namespace, name }, peers);
        }
    }

    fn remove_selecting(&mut self, kind: SelectingKind, key: &Key) {
        if self.selectors.get_mut(&key.namespace).and_then(|objects| objects.remove(&(kind, key.name.clone()))).is_some() {
            self.stale.facts.insert(key.namespace.clone());
        }
        if kind == SelectingKind::NetworkPolicy {
            self.set_peers(key.clone(), Vec::new());
        }
    }

    fn set_peers(&mut self, key: Key, peers: Vec<SelectorUse>) {
        let is_empty = peers.is_empty();
        let before = if is_empty { self.peers.remove(&key) } else { self.peers.insert(key, peers) };
        if !is_empty || before.is_some() {
            self.stale.facts.extend(self.facts.keys().cloned());
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
            Watchable::Selecting(kind) => self.remove_selecting(kind, key),
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
            Watchable::Selecting(kind) => {
                let own = self.selectors.iter().flat_map(|(namespace, objects)| objects.keys().map(move |object| (namespace, object)));
                let own = own
                    .filter(|(_, object)| object.0 == kind)
                    .map(|(namespace, object)| Key { namespace: namespace.clone(), name: object.1.clone() });
                let peers = self.peers.keys().filter(|_| kind == SelectingKind::NetworkPolicy).cloned();
                own.chain(peers).collect()
            }
        };
        keys.into_iter().filter(in_scope).collect()
    }

    fn set_source(&mut self, source: &Source, state: SourceState) {
        if self.sources.get(source) == Some(&state) {
            return;
        }
        log_source(source, &state);
        self.sources.insert(source.clone(), state);
        self.stale.program = true;
        self.stale.pods = Affected::All;
        self.changed_policies.extend(self.policies.keys().cloned());
    }

    /// Resources that could select pods and cannot be seen.
    fn unseen_selectors(&self) -> BTreeSet<String> {
        let selecting = self.sources.iter().filter(|(source, _)| matches!(source.resource, Watchable::Selecting(_)));
        let unseen = selecting.filter(|(_, state)| match state {
            SourceState::Waiting | SourceState::Failing { failure: Failure::Forbidden { .. }, .. } => true,
            // A connection that fails takes away nothing that was seen, and shows nothing that was not.
            SourceState::Failing { failure: Failure::Other(_), listed_before } => !listed_before,
            SourceState::Listed | SourceState::Failing { failure: Failure::NotServed, .. } => false,
        });
        unseen.map(|(source, _)| source.to_string()).collect()
    }

    /// Kinds of policies of which not all have been seen: what they wrote must stay.
    fn unseen_kinds(&self) -> BTreeSet<PolicyKind> {
        let is_seen = |resource: Watchable| {
            let mut states = self.sources.iter().filter(|(source, _)| source.resource == resource).map(|(_, state)| state).peekable();
            states.peek().is_some() && states.all(SourceState::was_listed)
        };
        let pod_policies = (!is_seen(Watchable::PodPolicies)).then_some(PolicyKind::PodPolicy);
        // Without the labels of namespaces nobody can tell where a ClusterPodPolicy acts.
        let cluster = (!is_seen(Watchable::ClusterPodPolicies) || !is_seen(Watchable::Namespaces)).then_some(PolicyKind::ClusterPodPolicy);
        pod_policies.into_iter().chain(cluster).collect()
    }

    /// Counts the labels that policies carry on the pod in, or out.
    fn count_carried(&mut self, pod: &Pod, add: bool) {
        let record = Record::of(pod);
        if record.labels.is_empty() {
            return;
        }
        let blind = !self.unseen_selectors().is_empty();
        let carried = self.carried.entry(pod.namespace.clone()).or_default();
        for (key, entry) in record.labels {
            let read = self.facts.get(&pod.namespace).is_some_and(|facts| facts.readers.contains_key(&key)) || blind;
            let pair = (entry.by, key);
            let count = carried.entry(pair.clone()).or_default();
            let before = *count;
            *count = if add { before + 1 } else { before.saturating_sub(1) };
            let appeared_or_vanished = (before == 0) != (*count == 0);
            if *count == 0 {
                carried.remove(&pair);
            }
            if appeared_or_vanished && read {
                self.stale.facts.insert(pod.namespace.clone());
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

    /// Makes stale facts and the program anew.
    fn refresh(&mut self) {
        for namespace in std::mem::take(&mut self.stale.facts) {
            if self.is_gone(&namespace) {
                self.facts.remove(&namespace);
                self.selectors.remove(&namespace);
                self.carried.remove(&namespace);
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
        let settings = self.config.settings(self.unseen_selectors(), self.unseen_kinds());
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
        let has_selectors = self.selectors.get(namespace).is_some_and(|objects| !objects.is_empty());
        !has_pods && !has_selectors && !self.namespace_labels.contains_key(namespace)
    }

    fn gather(&self, namespace: &str) -> NamespaceFacts {
        // Unknown where namespaces are not watched, and for a moment where a pod comes before its namespace.
        let labels = self.namespace_labels.get(namespace);
        let own = self.selectors.get(namespace).into_iter().flatten();
        let own = own.flat_map(|((kind, name), uses)| uses.iter().map(move |used| (kind.kind(), namespace, name, used)));
        let peers = self
            .peers
            .iter()
            .flat_map(|(key, uses)| uses.iter().map(move |used| ("NetworkPolicy", key.namespace.as_str(), &key.name, used)));
        let peers = peers.filter(|(_, _, _, used)| used.reach.includes(namespace, labels));
        let mut readers: BTreeMap<String, Vec<Reader>> = BTreeMap::new();
        for (kind, home, name, used) in own.chain(peers) {
            for (key, excludes) in &used.keys {
                readers.entry(key.clone()).or_default().push(Reader::new(kind, home, name, *excludes));
            }
        }
        for readers in readers.values_mut() {
            readers.sort();
            readers.dedup();
        }
        let carried = self.carried.get(namespace).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        NamespaceFacts { labels: labels.cloned().unwrap_or_default(), readers, carried }
    }

    /// Decides about a pod; says whether it needs a write.
    fn decide(&mut self, key: &Key) -> Option<bool> {
        let slot = self.pods.get_mut(key)?;
        let mut outcome = self.program.decide(&slot.pod);
        // The values are in the pod or in the plan; memory is for many pods.
        outcome.fields = Vec::new();
        let needs_write = !outcome.metadata.is_empty();
        if !needs_write {
            slot.failure = None;
        }
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
        Some(needs_write)
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

fn log_source(source: &Source, state: &SourceState) {
    match state {
        SourceState::Waiting => {}
        SourceState::Listed => tracing::debug!(%source, "listed"),
        SourceState::Failing { failure: Failure::Forbidden { verb }, .. } => {
            tracing::warn!(resource = %source.resource, verb, "may not {verb} {source}; grant get, list and watch on {}", source.resource);
        }
        SourceState::Failing { failure: Failure::NotServed, .. } => {
            let resource = source.resource;
            match resource {
                Watchable::PodPolicies | Watchable::ClusterPodPolicies => {
                    tracing::warn!(%resource, "the API server does not serve {resource}; waiting for its CRD: install it with `podpolicy crd | kubectl apply -f -`");
                }
                Watchable::Pods | Watchable::Namespaces | Watchable::Selecting(_) => {
                    tracing::warn!(%resource, "the API server does not serve {resource}; going on without");
                }
            }
        }
        SourceState::Failing { failure: Failure::Other(error), .. } => {
            tracing::warn!(resource = %source.resource, error, "could not watch {source}; trying again");
        }
    }
}
