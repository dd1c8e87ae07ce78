//! What selectors read: of Services, NetworkPolicies, PodDisruptionBudgets and workloads, by namespace.

use std::collections::{BTreeMap, HashMap};

use podpolicy_engine::{Reach, Reader, SelectorUse, selector_use};

use crate::{observe::Key, projection::Selecting, source::SelectingKind};

/// The selectors of all objects that may select pods.
#[derive(Default)]
pub(super) struct Selectors {
    /// What selectors read in their own namespace, by namespace, kind and name.
    own: HashMap<String, BTreeMap<(SelectingKind, String), Vec<SelectorUse>>>,
    /// What peers of NetworkPolicies read in other namespaces.
    peers: BTreeMap<Key, Vec<SelectorUse>>,
}

/// Where a change of a selector can matter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Touched {
    /// Nowhere: nothing changed.
    Nothing,
    /// In the object's own namespace.
    Own,
    /// In any namespace.
    All,
}

impl Selectors {
    /// Takes in an object, new or changed.
    pub(super) fn apply(&mut self, kind: SelectingKind, object: &Selecting) -> Touched {
        let spec = serde_json::to_value(&object.spec).unwrap_or_default();
        let (own, peers) = selector_use(kind.kind(), &spec).into_iter().partition(|used| matches!(used.reach, Reach::Own));
        self.set(kind, Key::of(object), own, peers)
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, kind: SelectingKind, key: &Key) -> Touched {
        self.set(kind, key.clone(), Vec::new(), Vec::new())
    }

    fn set(&mut self, kind: SelectingKind, key: Key, own: Vec<SelectorUse>, peers: Vec<SelectorUse>) -> Touched {
        let (has_own, has_peers) = (!own.is_empty(), !peers.is_empty());
        let objects = self.own.entry(key.namespace.clone()).or_default();
        let name = (kind, key.name.clone());
        let selected_before = if has_own { objects.insert(name, own) } else { objects.remove(&name) }.is_some();
        if objects.is_empty() {
            self.own.remove(&key.namespace);
        }
        let is_peer_kind = kind == SelectingKind::NetworkPolicy;
        let peered_before = is_peer_kind && if has_peers { self.peers.insert(key, peers) } else { self.peers.remove(&key) }.is_some();
        if has_peers || peered_before {
            Touched::All
        } else if has_own || selected_before {
            Touched::Own
        } else {
            Touched::Nothing
        }
    }

    /// The objects of a kind that are known; one may come twice.
    pub(super) fn known(&self, kind: SelectingKind) -> Vec<Key> {
        let own = self.own.iter().flat_map(|(namespace, objects)| objects.keys().map(move |object| (namespace, object)));
        let own = own.filter(|(_, object)| object.0 == kind);
        let own = own.map(|(namespace, object)| Key { namespace: namespace.clone(), name: object.1.clone() });
        let peers = self.peers.keys().filter(|_| kind == SelectingKind::NetworkPolicy).cloned();
        own.chain(peers).collect()
    }

    /// Whether an object of the namespace selects anything there.
    pub(super) fn is_empty_in(&self, namespace: &str) -> bool {
        !self.own.contains_key(namespace)
    }

    /// Who reads which label key in a namespace. `labels` are none where they are not known.
    pub(super) fn readers(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> BTreeMap<String, Vec<Reader>> {
        let own = self.own.get(namespace).into_iter().flatten();
        let own = own.flat_map(|((kind, name), uses)| uses.iter().map(move |used| (kind.kind(), namespace, name, used)));
        let peers = self.peers.iter();
        let peers = peers.flat_map(|(key, uses)| uses.iter().map(move |used| ("NetworkPolicy", key.namespace.as_str(), &key.name, used)));
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
        readers
    }
}
