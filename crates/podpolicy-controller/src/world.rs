//! All that is known: policies, pods, namespaces and selectors as last seen, the program made of them, and for each pod what
//! was decided. It does no I/O and reads no clock: observations go in, decisions come out.

mod carried;
mod census;
mod pods;
mod policies;
mod rollout;
mod selectors;
mod sources;
#[cfg(test)]
mod tests;
mod workloads;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use kube::ResourceExt;
use podpolicy_engine::{NamespaceFacts, Owner, PodTemplate, Policy, PolicyId, PolicyKind, Program, Support};

use crate::{
    admission::AdmissionState,
    config::Config,
    guard::{GuardState, Questions},
    observe::{Key, Observation, Observed, What},
    snapshot::{SeenPod, SeenPolicy, Snapshot},
    source::{Source, Watchable},
};

use carried::Carried;
pub(crate) use census::{AtCreationState, Census, PodOutcome, Readiness};
pub(crate) use pods::PodSlot;
pub(crate) use policies::{Aside, PolicySlot};
use selectors::{Selectors, Touched};
use sources::Sources;
pub(crate) use workloads::Known;
use workloads::Workloads;

/// All that is known.
pub(crate) struct World {
    config: Config,
    sources: Sources,
    policies: HashMap<PolicyId, PolicySlot>,
    pods: BTreeMap<Key, PodSlot>,
    templates: HashSet<Arc<PodTemplate>>,
    owners: HashSet<Arc<Owner>>,
    namespace_labels: HashMap<String, BTreeMap<String, String>>,
    selectors: Selectors,
    workloads: Workloads,
    carried: Carried,
    facts: HashMap<String, Arc<NamespaceFacts>>,
    /// The newer fields that the API server keeps.
    support: Support,
    program: Arc<Program>,
    /// Whether nobody has taken the program since it was made.
    is_program_new: bool,
    /// How policies stand at creation.
    admission: Arc<AdmissionState>,
    /// How the guard stands, and what it is to be asked.
    guard: Arc<GuardState>,
    commands: Commands,
    stale: Stale,
    /// How many programs have been made.
    epoch: u64,
    undecided: BTreeSet<Key>,
    changed_policies: HashSet<PolicyId>,
}

/// The policies with commands.
#[derive(Debug, Default)]
struct Commands {
    policies: BTreeSet<PolicyId>,
    /// How many generations of such policies have been seen.
    seen: u64,
    /// Whether nobody has asked the guard since there was a change.
    is_new: bool,
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
        let program = Program::new([], HashMap::new(), config.settings(BTreeSet::new(), BTreeSet::new(), Support::all()));
        Self {
            config,
            sources: Sources::waiting(sources),
            policies: HashMap::new(),
            pods: BTreeMap::new(),
            templates: HashSet::new(),
            owners: HashSet::new(),
            namespace_labels: HashMap::new(),
            selectors: Selectors::default(),
            workloads: Workloads::default(),
            carried: Carried::default(),
            facts: HashMap::new(),
            support: Support::all(),
            program: Arc::new(program),
            is_program_new: false,
            admission: Arc::new(AdmissionState::Off),
            guard: Arc::new(GuardState::Asking),
            commands: Commands::default(),
            stale: Stale { program: true, ..Stale::default() },
            epoch: 0,
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
                    self.program_changed();
                }
            }
            What::Failing(failure) => {
                if self.sources.failing(&source, failure) {
                    self.program_changed();
                }
            }
        }
    }

    /// Takes in which newer fields the API server keeps. Until then it is taken to keep all of them.
    pub(crate) fn set_support(&mut self, support: Support) {
        if self.support != support {
            self.support = support;
            self.program_changed();
        }
    }

    /// Whether everything has been seen that can be: commands that are vouched for are not to be taken away at each start.
    pub(crate) fn is_synced(&self) -> bool {
        self.sources.is_synced() && !self.awaits_guard()
    }

    /// Whether any policy has commands.
    pub(crate) fn has_commands(&self) -> bool {
        !self.commands.policies.is_empty()
    }

    fn awaits_guard(&self) -> bool {
        self.has_commands() && *self.guard == GuardState::Asking
    }

    /// The sources that have not been listed, for people who wait.
    pub(crate) fn unsynced(&self) -> Vec<String> {
        let guard = self.awaits_guard().then(|| "the guard's objects".to_owned());
        self.sources.unsynced().into_iter().chain(guard).collect()
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

    /// The program, if it was made anew since it was last taken.
    pub(crate) fn take_new_program(&mut self) -> Option<Arc<Program>> {
        std::mem::take(&mut self.is_program_new).then(|| Arc::clone(&self.program))
    }

    /// What the guard is to be asked, if that has changed since it was last taken.
    pub(crate) fn take_questions(&mut self) -> Option<Questions> {
        let Commands { policies, seen, is_new } = &mut self.commands;
        std::mem::take(is_new).then(|| Questions { policies: policies.iter().cloned().collect(), seen: *seen })
    }

    /// All policies and pods as they were decided last.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let policies = self.program.policies().iter().filter_map(|policy| {
            let PolicySlot { policy, status, generation, .. } = self.policies.get(policy.id())?;
            Some(SeenPolicy { policy: Arc::clone(policy), status: status.clone(), generation: *generation })
        });
        // What is kept of outcomes has no fields.
        let pods = self.pods.values().map(|slot| SeenPod { pod: slot.pod.clone(), outcome: self.program.decide(&slot.pod) });
        Snapshot { policies: policies.collect(), pods: pods.collect(), blindness: self.blindness() }
    }

    /// Whether pods wait for a decision.
    pub(crate) fn has_undecided(&self) -> bool {
        !self.undecided.is_empty()
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
                    self.namespace_changed();
                }
            }
            Observed::Selecting(object) => {
                if let Watchable::Selecting(kind) = source.resource {
                    self.workloads.apply(kind, &object);
                    let touched = self.selectors.apply(kind, &object);
                    self.selectors_changed(touched, &Key::of(&object).namespace);
                }
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
                self.namespace_changed();
                self.stale.facts.insert(key.name.clone());
            }
            Watchable::Selecting(kind) => {
                self.workloads.remove(kind, key);
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
            Watchable::Selecting(kind) => self.selectors.known(kind).into_iter().chain(self.workloads.known(kind)).collect(),
        };
        keys.into_iter().filter(in_scope).collect()
    }

    /// What the program knows besides policies and facts changed: everything is to be decided again.
    fn program_changed(&mut self) {
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
        let settings = self.config.settings(self.sources.unseen_selectors(), self.sources.unseen_kinds(), self.support.clone());
        self.program = Arc::new(Program::new(policies, self.facts.clone(), settings));
        self.is_program_new = true;
        self.epoch += 1;
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
