//! The program: the policies of a cluster, ordered, validated and indexed by label, with the facts that refusals need. It is
//! the one thing that controller, admission and command line consume.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock},
};

use crate::{
    Creation, Finding, NamespaceFacts, Outcome, Place, Pod, Policy, PolicyId, PolicyKind, Remaining, Selector, Settings, Support, creation,
    decide, index::SelectorIndex, residue,
};

/// The policies of a cluster and the facts beside them, ready to decide.
#[derive(Debug)]
pub struct Program {
    /// In order: the first that sets a field wins it.
    policies: Vec<Arc<Policy>>,
    /// The ranks of sound ClusterPodPolicies, and of sound PodPolicies by namespace.
    cluster: Vec<u32>,
    by_namespace: HashMap<String, Vec<u32>>,
    namespaces: HashMap<String, Arc<NamespaceFacts>>,
    /// Built when a namespace is first asked about.
    indexes: HashMap<String, OnceLock<SelectorIndex>>,
    /// For namespaces of which nothing is known: they have no labels and no PodPolicies.
    elsewhere: OnceLock<SelectorIndex>,
    settings: Settings,
    has_exemptions: bool,
}

impl Program {
    /// Makes a program. The order of the inputs does not matter. Policies with problems, and of kinds that are
    /// not seen in full, are left out of force.
    pub fn new(
        policies: impl IntoIterator<Item = Arc<Policy>>,
        namespaces: HashMap<String, Arc<NamespaceFacts>>,
        settings: Settings,
    ) -> Self {
        let mut policies: Vec<_> = policies.into_iter().collect();
        policies.sort_by(|a, b| a.order(b));
        let mut cluster = Vec::new();
        let mut by_namespace: HashMap<String, Vec<u32>> = HashMap::new();
        for (rank, policy) in (0..).zip(&policies) {
            if !is_in_force(policy, &settings) {
                continue;
            }
            match policy.id().kind {
                PolicyKind::ClusterPodPolicy => cluster.push(rank),
                PolicyKind::PodPolicy => by_namespace.entry(policy.id().namespace.clone()).or_default().push(rank),
            }
        }
        let indexes = namespaces.keys().chain(by_namespace.keys()).map(|name| (name.clone(), OnceLock::new())).collect();
        let has_exemptions = policies.iter().any(|policy| !policy.exempt().is_empty());
        Self { policies, cluster, by_namespace, namespaces, indexes, elsewhere: OnceLock::new(), settings, has_exemptions }
    }

    /// What the policies do to the pod. An outcome without verdicts says that none selects it; it may still have something
    /// to take back.
    pub fn decide(&self, pod: &Pod) -> Outcome {
        decide::decide(self, pod)
    }

    /// What the policies give a pod that is about to be created.
    pub fn create(&self, pod: &Pod) -> Creation {
        creation::create(self, pod)
    }

    /// What the policies give a pod that a file describes: as at its creation, but that nothing is recorded, and so no annotation is too large
    /// to be given with the rest.
    pub fn render(&self, pod: &Pod) -> Creation {
        creation::render(self, pod)
    }

    /// The policy that selects a pod only once it has the labels that policies give it: what a file says then, and in a cluster counts for no selector.
    pub fn selects_once_given(&self, pod: &Pod, creation: &Creation) -> Option<&PolicyId> {
        creation::selects_once_given(self, pod, creation)
    }

    /// What is left to decide about pods that are created in a place, once everything but the pod is known.
    pub fn residue<'a>(&'a self, place: Place<'a>) -> Vec<Remaining<'a>> {
        residue::residue(self, place)
    }

    /// What of a policy no pod gets, wherever it is. Containers are named as the policy's rules name them.
    pub fn refused_everywhere(&self, policy: &Policy) -> Vec<Finding> {
        residue::refused_everywhere(self, policy)
    }

    /// The labels of a namespace; none where they are not known.
    pub fn namespace_labels(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        // Every namespace has a label, its name: one without has not been seen yet.
        self.facts(namespace).map(|facts| &facts.labels).filter(|labels| !labels.is_empty())
    }

    /// The namespaces in which no ClusterPodPolicy acts.
    pub fn excluded_namespaces(&self) -> &BTreeSet<String> {
        &self.settings.excluded_namespaces
    }

    /// What the API server does with newer fields.
    pub fn support(&self) -> &Support {
        &self.settings.support
    }

    /// The namespaces of which something is known that matters: PodPolicies, labels, or who reads labels there.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.indexes.keys().map(String::as_str)
    }

    /// The policies in force that enforce, in order: those that can give something to a pod.
    pub fn enforcing(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter().filter(|policy| is_in_force(policy, &self.settings) && !policy.is_audit())
    }

    /// All policies, in order.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn facts(&self, namespace: &str) -> Option<&NamespaceFacts> {
        self.namespaces.get(namespace).map(AsRef::as_ref)
    }

    /// The policies that select a pod with these labels of its own, in order.
    pub fn select(&self, pod: &Pod, own: &BTreeMap<String, String>) -> Vec<&Arc<Policy>> {
        self.candidates(&pod.namespace, own).filter(|policy| policy.selects(pod, own)).collect()
    }

    /// The policies that would select such a pod, were its owner not exempt, in order.
    pub(crate) fn exempting(&self, pod: &Pod, own: &BTreeMap<String, String>) -> Vec<Arc<Policy>> {
        if !self.has_exemptions {
            return Vec::new();
        }
        self.candidates(&pod.namespace, own).filter(|policy| policy.exempts_selected(pod, own)).cloned().collect()
    }

    /// The policies that can select a pod with these labels of its own, in order.
    fn candidates(&self, namespace: &str, own: &BTreeMap<String, String>) -> impl Iterator<Item = &Arc<Policy>> {
        let ranks = match self.indexes.get(namespace) {
            Some(index) => index.get_or_init(|| self.index(namespace)).candidates(own),
            None if self.is_excluded(namespace) => Vec::new(),
            None => self.elsewhere.get_or_init(|| self.index(namespace)).candidates(own),
        };
        ranks.into_iter().map(|rank| &self.policies[rank as usize])
    }

    fn is_excluded(&self, namespace: &str) -> bool {
        self.settings.excluded_namespaces.contains(namespace)
    }

    fn index(&self, namespace: &str) -> SelectorIndex {
        let ranks = self.ranks_in(namespace);
        SelectorIndex::new(ranks.iter().map(|&rank| (rank, self.policies[rank as usize].selector())))
    }

    /// The sound policies that act in a namespace, in order.
    pub(crate) fn policies_in(&self, namespace: &str) -> Vec<&Arc<Policy>> {
        let mut ranks = self.ranks_in(namespace);
        ranks.sort_unstable();
        ranks.into_iter().map(|rank| &self.policies[rank as usize]).collect()
    }

    /// The sound ClusterPodPolicies, in order.
    pub(crate) fn cluster_policies(&self) -> Vec<&Arc<Policy>> {
        self.cluster.iter().map(|&rank| &self.policies[rank as usize]).collect()
    }

    fn ranks_in(&self, namespace: &str) -> Vec<u32> {
        let excluded = self.is_excluded(namespace);
        // Where the labels are not known, nobody can say that a condition holds.
        let labels = self.namespace_labels(namespace);
        let is_selected = |selector: &Selector| labels.map_or(selector.is_empty(), |labels| selector.matches(labels));
        let acts_here = |rank: &&u32| !excluded && self.policies[**rank as usize].namespace_selector().is_none_or(is_selected);
        self.by_namespace.get(namespace).into_iter().flatten().chain(self.cluster.iter().filter(acts_here)).copied().collect()
    }
}

/// Whether the policy decides: it is sound, and all of its kind are seen.
fn is_in_force(policy: &Policy, settings: &Settings) -> bool {
    policy.problems().is_empty() && !settings.unseen_kinds.contains(&policy.id().kind)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policy_says_which_pods_it_would_select_were_their_owner_not_exempt() {
        let policy = json!({ "metadata": { "name": "all" }, "spec": { "selector": { "matchLabels": { "app": "web", "tier": "front" } }, "labels": { "team": "shop" } } });
        let policy = Policy::from_cluster(&serde_json::from_value(policy).unwrap()).with_exempt(["web-1".to_owned()].into());
        let program = Program::new([Arc::new(policy)], HashMap::new(), Settings::default());
        let decided = |app: &str, owner: &str| {
            let owner = json!([{ "controller": true, "kind": "ReplicaSet", "name": owner, "uid": owner }]);
            let pod = json!({ "metadata": { "namespace": "shop", "labels": { "app": app, "tier": "front" }, "ownerReferences": owner } });
            let outcome = program.decide(&serde_json::from_value(pod).unwrap());
            (outcome.verdicts.len(), outcome.exempting.len())
        };
        assert_eq!([("web", "web-1"), ("web", "web-2"), ("db", "web-1")].map(|(app, owner)| decided(app, owner)), [(0, 1), (1, 0), (0, 0)]);
    }

    #[test]
    fn namespaces_of_which_nothing_is_known_are_alike_unless_excluded() {
        let policy = json!({ "metadata": { "name": "all" }, "spec": { "selector": {}, "labels": { "team": "shop" } } });
        let policy = Arc::new(Policy::from_cluster(&serde_json::from_value(policy).unwrap()));
        let settings = Settings { excluded_namespaces: ["kube-system".to_owned()].into(), ..Settings::default() };
        let program = Program::new([policy], HashMap::new(), settings);
        let selected = |namespace: &str| {
            let pod: Pod = serde_json::from_value(json!({ "metadata": { "namespace": namespace } })).unwrap();
            program.select(&pod, &BTreeMap::new()).len()
        };
        assert_eq!(["kube-system", "shop", "kube-system", "bank"].map(selected), [0, 1, 0, 1]);
    }
}
