//! The labels that policies carry on pods, as the pods' records say: such a label stays in force when a selector that reads it
//! appears later.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use podpolicy_engine::{Pod, Record};

/// How many pods of a namespace carry a label of a policy: (policy as in records, key).
#[derive(Default)]
pub(super) struct Carried {
    namespaces: HashMap<String, BTreeMap<(String, String), usize>>,
}

impl Carried {
    /// Counts a pod in. Returns the keys that were not carried before by that policy.
    pub(super) fn add(&mut self, pod: &Pod) -> Vec<String> {
        self.count(pod, |count| *count += 1, 1)
    }

    /// Counts a pod out. Returns the keys that are not carried any more by that policy.
    pub(super) fn remove(&mut self, pod: &Pod) -> Vec<String> {
        self.count(pod, |count| *count = count.saturating_sub(1), 0)
    }

    /// Returns the keys whose count is then `turn`: the first in, or none left.
    fn count(&mut self, pod: &Pod, change: impl Fn(&mut usize), turn: usize) -> Vec<String> {
        let record = Record::of(pod);
        if record.labels.is_empty() {
            return Vec::new();
        }
        let carried = self.namespaces.entry(pod.namespace.clone()).or_default();
        let mut turned = Vec::new();
        for (key, entry) in record.labels {
            let pair = (entry.by, key.clone());
            let count = carried.entry(pair.clone()).or_default();
            change(count);
            let count = *count;
            if count == turn {
                turned.push(key);
            }
            if count == 0 {
                carried.remove(&pair);
            }
        }
        if carried.is_empty() {
            self.namespaces.remove(&pod.namespace);
        }
        turned
    }

    /// What policies carry in a namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> BTreeSet<(String, String)> {
        self.namespaces.get(namespace).into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }
}
