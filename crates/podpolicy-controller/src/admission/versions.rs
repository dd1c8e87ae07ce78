//! Which policies are in which version of a unit, so that from the digest that is in force follows whose settings pods are given. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use podpolicy_engine::{Policy, PolicyId, PolicyKind};

use super::scope::namespace_of;

/// How many versions of a unit are remembered. Older ones are taken for unknown, which only makes policies wait for a newer one.
const MOST_VERSIONS: usize = 8;

/// The versions of all units, by name; the newest of each last.
#[derive(Default)]
pub(super) struct Versions {
    units: BTreeMap<String, VecDeque<Version>>,
}

struct Version {
    digest: String,
    policies: Vec<Arc<Policy>>,
}

impl Versions {
    /// Notes that this version was compiled from these policies. Policies that have changed since give the same version only when the
    /// change is none to pods: the newest count.
    pub(super) fn compiled(&mut self, name: &str, digest: &str, policies: Vec<Arc<Policy>>) {
        let versions = self.units.entry(name.to_owned()).or_default();
        versions.retain(|version| version.digest != digest);
        versions.push_back(Version { digest: digest.to_owned(), policies });
        if versions.len() > MOST_VERSIONS {
            versions.pop_front();
        }
    }

    /// Forgets units that are neither wanted nor in force.
    pub(super) fn retain(&mut self, is_of_use: impl Fn(&str) -> bool) {
        self.units.retain(|name, _| is_of_use(name));
    }

    /// Whether this unit gives pods what the policy says, no more and no less, when this digest is in force.
    pub(super) fn is_true_to(&self, policy: &Policy, unit: &UnitInForce<'_>) -> bool {
        let Some(in_force) = unit.in_force else { return !unit.should_have };
        match self.find(unit.name, in_force) {
            Some(version) => version.find(policy.id()).map_or(!unit.should_have, |found| unit.should_have && **found == *policy),
            // From before this operator started: nobody knows which policies are in it.
            None => !may_be_in(policy.id(), unit.name),
        }
    }

    fn find(&self, name: &str, digest: &str) -> Option<&Version> {
        self.units.get(name)?.iter().find(|version| version.digest == digest)
    }
}

impl Version {
    fn find(&self, id: &PolicyId) -> Option<&Arc<Policy>> {
        self.policies.iter().find(|policy| policy.id() == id)
    }
}

/// A unit as one policy sees it.
pub(super) struct UnitInForce<'a> {
    pub(super) name: &'a str,
    /// The digest that is in force.
    pub(super) in_force: Option<&'a str>,
    /// Whether the policy should be in it.
    pub(super) should_have: bool,
}

/// Whether a unit of which nothing but the name is known could have the policy.
fn may_be_in(id: &PolicyId, name: &str) -> bool {
    match id.kind {
        PolicyKind::ClusterPodPolicy => true,
        PolicyKind::PodPolicy => namespace_of(name).is_none_or(|namespace| namespace == id.namespace),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SHOP: &str = "podpolicy-namespace-shop";

    fn policy(namespace: &str, team: &str) -> Arc<Policy> {
        let policy =
            json!({ "metadata": { "namespace": namespace, "name": "standard" }, "spec": { "selector": {}, "labels": { "team": team } } });
        Arc::new(Policy::from_namespaced(&serde_json::from_value(policy).unwrap()))
    }

    fn unit(in_force: Option<&str>, should_have: bool) -> UnitInForce<'_> {
        UnitInForce { name: SHOP, in_force, should_have }
    }

    #[test]
    fn a_policy_is_in_force_with_any_version_that_was_made_from_what_it_says_now() {
        let (old, new) = (policy("shop", "a"), policy("shop", "b"));
        let mut versions = Versions::default();
        versions.compiled(SHOP, "1", vec![Arc::clone(&old)]);
        versions.compiled(SHOP, "2", vec![Arc::clone(&new)]);
        versions.compiled(SHOP, "3", vec![Arc::clone(&new)]);
        let stands = |digest| versions.is_true_to(&new, &unit(digest, true));
        assert_eq!([None, Some("1"), Some("2"), Some("3")].map(stands), [false, false, true, true]);
    }

    #[test]
    fn a_policy_that_should_be_in_no_unit_waits_until_it_is_in_none() {
        let standard = policy("shop", "a");
        let mut versions = Versions::default();
        versions.compiled(SHOP, "1", vec![Arc::clone(&standard)]);
        versions.compiled(SHOP, "2", Vec::new());
        let stands = |digest| versions.is_true_to(&standard, &unit(digest, false));
        assert_eq!([None, Some("1"), Some("2")].map(stands), [true, false, true]);
    }

    #[test]
    fn a_version_of_which_nothing_is_known_is_none_of_a_policy_elsewhere() {
        let versions = Versions::default();
        let stands = |namespace| versions.is_true_to(&policy(namespace, "a"), &unit(Some("?"), false));
        assert_eq!(["shop", "bank"].map(stands), [false, true]);
    }

    #[test]
    fn the_same_version_made_again_counts_for_the_policies_as_they_are_now() {
        let (old, new) = (policy("shop", "a"), policy("shop", "b"));
        let mut versions = Versions::default();
        versions.compiled(SHOP, "1", vec![old]);
        versions.compiled(SHOP, "1", vec![Arc::clone(&new)]);
        assert!(versions.is_true_to(&new, &unit(Some("1"), true)));
    }
}
