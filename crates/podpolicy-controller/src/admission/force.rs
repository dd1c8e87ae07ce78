//! What is in force, as far as it was asked, and which policies stand because of it. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use podpolicy_api::AdmissionBackend;
use podpolicy_engine::{Policy, PolicyId, PolicyKind};

use super::{
    compiled::Compiled,
    failures::Failures,
    scope::namespace_of,
    standing::{Problem, Progress, Standing, Standings},
    steps::Present,
    versions::{UnitInForce, Versions},
};

/// A version that has not come through after this time never will.
const LOST: Duration = Duration::from_secs(10);

/// What is in force.
#[derive(Default)]
pub(super) struct Force {
    /// The digests of the units that are, by name.
    digests: BTreeMap<String, String>,
    /// Units that were removed since they were last seen to be out of force.
    leaving: BTreeSet<String>,
    /// The versions of units that were written since one was seen in force, oldest first, and when the last was.
    in_transit: BTreeMap<String, (Vec<String>, Instant)>,
    /// Whether everything was asked once.
    is_known: bool,
    versions: Versions,
    /// The policies that stand, as they were then. One that stands goes on standing while other policies change the units that it is in.
    standing: HashMap<PolicyId, Arc<Policy>>,
}

impl Force {
    pub(super) fn digests(&self) -> &BTreeMap<String, String> {
        &self.digests
    }

    /// Units that look as if they were in force as they should be, and of which nobody can tell: something else was written since, and
    /// has not come through yet.
    pub(super) fn unclear(&self, compiled: &Compiled) -> BTreeSet<String> {
        let back = self.in_transit.keys().filter(|name| self.digest(name) == compiled.digest(name));
        self.leaving.iter().chain(back).cloned().collect()
    }

    /// Notes that a version of a unit is being written.
    pub(super) fn written(&mut self, name: &str, digest: &str, now: Instant) {
        // What is in force already is only repaired.
        if self.digest(name) != Some(digest) {
            let (digests, last) = self.in_transit.entry(name.to_owned()).or_insert_with(|| (Vec::new(), now));
            if digests.last().is_none_or(|last| last != digest) {
                digests.push(digest.to_owned());
            }
            *last = now;
        }
    }

    /// Notes that the last version of a unit did not get to be written.
    pub(super) fn not_written(&mut self, name: &str) {
        if let Some((digests, _)) = self.in_transit.get_mut(name) {
            digests.pop();
        }
        self.in_transit.retain(|_, (digests, _)| !digests.is_empty());
    }

    /// Notes that a unit was removed.
    pub(super) fn removed(&mut self, name: &str) {
        self.in_transit.remove(name);
        self.leaving.insert(name.to_owned());
    }

    /// Units that are in force without objects were removed a moment ago, by another operator: they are about to leave.
    pub(super) fn leave_without_objects(&mut self, present: &BTreeMap<String, Present>) {
        let is_whole = |name: &String| present.get(name).is_some_and(|found| found.policy.is_some() && found.binding.is_some());
        self.leaving.extend(self.digests.keys().filter(|name| !is_whole(name)).cloned());
    }

    /// Gives up waiting for versions that should have come through long ago.
    pub(super) fn forget_lost(&mut self, now: Instant) {
        self.in_transit.retain(|_, (_, last)| now.duration_since(*last) < LOST);
    }

    /// Whether everything was asked once.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Notes what was compiled.
    pub(super) fn compiled(&mut self, compiled: &Compiled) {
        let policies: HashMap<_, _> =
            compiled.program.iter().flat_map(|program| program.policies()).map(|policy| (policy.id(), policy)).collect();
        for (name, unit) in &compiled.units {
            let of_unit = unit.policies.iter().filter_map(|id| policies.get(id)).map(|policy| Arc::clone(policy)).collect();
            self.versions.compiled(name, &unit.digest, of_unit);
        }
        self.versions.retain(|name| compiled.units.contains_key(name) || self.digests.contains_key(name));
        self.standing.retain(|id, standing| policies.get(id).is_some_and(|policy| **policy == *standing));
    }

    /// Whether something is not in force that should be, or is and should not.
    pub(super) fn awaits(&self, compiled: &Compiled) -> bool {
        self.awaited(compiled).next().is_some()
    }

    /// The namespaces whose units are waited for.
    pub(super) fn awaited_namespaces<'a>(&'a self, compiled: &'a Compiled) -> BTreeSet<&'a str> {
        self.awaited(compiled).filter_map(namespace_of).collect()
    }

    fn awaited<'a>(&'a self, compiled: &'a Compiled) -> impl Iterator<Item = &'a str> {
        let is_missing =
            |name: &str| self.leaving.contains(name) || self.in_transit.contains_key(name) || self.digest(name) != compiled.digest(name);
        let missing = compiled.wanted.keys().filter(move |name| is_missing(name));
        let left_over = self.digests.keys().filter(|name| !compiled.wanted.contains_key(*name));
        missing.chain(left_over).map(String::as_str)
    }

    fn digest(&self, name: &str) -> Option<&str> {
        self.digests.get(name).map(String::as_str)
    }

    /// Takes in what policies show. Says whether that is news.
    pub(super) fn found(&mut self, compiled: &Compiled, found: Vec<(PolicyId, BTreeMap<String, String>)>, is_complete: bool) -> bool {
        let mut digests = self.digests.clone();
        let mut asked = BTreeSet::new();
        let mut is_all_asked = false;
        for (id, _) in &found {
            match id.kind {
                PolicyKind::PodPolicy => _ = asked.insert(id.namespace.clone()),
                PolicyKind::ClusterPodPolicy => is_all_asked = true,
            }
        }
        // A unit that is not wanted, and that nobody can be asked about, is nobody's concern.
        let can_be_asked: BTreeSet<_> = compiled.targets(None).into_iter().map(|id| id.namespace).collect();
        let is_kept = |name: &str| match namespace_of(name) {
            Some(namespace) => !asked.contains(namespace) && (compiled.wanted.contains_key(name) || can_be_asked.contains(namespace)),
            None => false,
        };
        digests.retain(|name, _| !is_all_asked && is_kept(name));
        digests.extend(found.into_iter().flat_map(|(_, units)| units));
        let was_known = self.is_known;
        self.is_known |= is_complete;
        let old = std::mem::replace(&mut self.digests, digests);
        self.fall(compiled, &old);
        self.come_through();
        let is_asked = |name: &str| is_all_asked || namespace_of(name).is_some_and(|namespace| asked.contains(namespace));
        let left: Vec<_> = self.leaving.iter().filter(|name| is_asked(name) && !self.digests.contains_key(*name)).cloned().collect();
        self.leaving.retain(|name| !left.contains(name));
        !left.is_empty() || old != self.digests || was_known != self.is_known
    }

    /// A version that is in force has come through, and with it those before it.
    fn come_through(&mut self) {
        for (name, (digests, _)) in &mut self.in_transit {
            if let Some(at) = self.digests.get(name).and_then(|in_force| digests.iter().position(|digest| digest == in_force)) {
                digests.drain(..=at);
            }
        }
        self.in_transit.retain(|_, (digests, _)| !digests.is_empty());
    }

    /// Policies no longer stand when a unit that they are in was in force and is not any more.
    fn fall(&mut self, compiled: &Compiled, before: &BTreeMap<String, String>) {
        for name in before.keys().filter(|name| !self.digests.contains_key(*name) && !self.leaving.contains(*name)) {
            for id in compiled.units.get(name).iter().flat_map(|unit| &unit.policies) {
                self.standing.remove(id);
            }
        }
    }

    /// How the policies stand. `problem` is what keeps the operator from finding out, or from seeing the objects.
    pub(super) fn standings(&mut self, compiled: &Compiled, failures: &Failures, problem: Option<&Problem>) -> Standings {
        let mut policies = HashMap::new();
        for policy in compiled.program.iter().flat_map(|program| program.policies()) {
            let id = policy.id();
            let progress =
                if self.standing.contains_key(id) { Progress::InForce } else { self.progress(policy, compiled, failures, problem) };
            if progress == Progress::InForce {
                self.standing.insert(id.clone(), Arc::clone(policy));
            }
            let omitted = compiled.omitted(id);
            policies.insert(id.clone(), Standing { policy: Arc::clone(policy), progress, omitted, narrowed: None });
        }
        Standings { backend: AdmissionBackend::Native, policies, problem: problem.cloned() }
    }

    fn progress(&self, policy: &Policy, compiled: &Compiled, failures: &Failures, problem: Option<&Problem>) -> Progress {
        let stuck = || problem.cloned().map(Progress::Stuck);
        if !self.is_known {
            let unknown = || Progress::Unknown("the operator is asking the API server what is in force".to_owned());
            return stuck().unwrap_or_else(unknown);
        }
        let names: BTreeSet<_> = compiled.wanted.keys().chain(self.digests.keys()).collect();
        let not_yet = names.into_iter().find(|name| {
            let should_have = compiled.has(name, policy.id());
            let in_force = self.digest(name).filter(|_| !(should_have && self.leaving.contains(*name)));
            let is_true = |in_force| self.versions.is_true_to(policy, &UnitInForce { name, in_force, should_have });
            // The API server may pass through each version that was written.
            let mut on_its_way = self.in_transit.get(*name).into_iter().flat_map(|(digests, _)| digests);
            !is_true(in_force) || !on_its_way.all(|digest| is_true(Some(digest)))
        });
        let Some(name) = not_yet else { return Progress::InForce };
        let waiting = || Progress::Waiting(format!("the API server has not yet taken up MutatingAdmissionPolicy {name}"));
        failures.problem(name).map(Progress::Stuck).or_else(stuck).unwrap_or_else(waiting)
    }
}

#[cfg(test)]
mod tests {
    use podpolicy_admission::cel;
    use podpolicy_engine::{Program, Settings};
    use serde_json::json;

    use super::*;
    use crate::admission::scope::Scope;

    const SHOP: &str = "podpolicy-namespace-shop";

    fn compiled(policies: &[(&str, &str)]) -> Compiled {
        let policy = |(name, team): &(&str, &str)| {
            let metadata = json!({ "namespace": "shop", "name": name });
            let policy = json!({ "metadata": metadata, "spec": { "selector": {}, "labels": { *name: team } } });
            Arc::new(Policy::from_namespaced(&serde_json::from_value(policy).unwrap()))
        };
        let program = Arc::new(Program::new(policies.iter().map(policy), std::collections::HashMap::new(), Settings::default()));
        let compilation = cel::compile(&program);
        Compiled::new(program, compilation, &Scope::of(&crate::Watched::Cluster))
    }

    /// What the operator does with a program, short of writing.
    fn compile(force: &mut Force, policies: &[(&str, &str)]) -> Compiled {
        let compiled = compiled(policies);
        force.compiled(&compiled);
        compiled
    }

    fn write(force: &mut Force, compiled: &Compiled) {
        force.written(SHOP, compiled.digest(SHOP).unwrap(), Instant::now());
    }

    /// The API server shows this version to whoever asks, or none.
    fn see(force: &mut Force, compiled: &Compiled, seen: Option<&Compiled>) {
        let units = seen.map(|seen| (SHOP.to_owned(), seen.digest(SHOP).unwrap().to_owned())).into_iter().collect();
        force.found(compiled, vec![(PolicyId::namespaced("shop", "a"), units)], true);
    }

    fn stands(force: &mut Force, compiled: &Compiled, name: &str) -> bool {
        let standings = force.standings(compiled, &Failures::default(), None);
        standings.policies[&PolicyId::namespaced("shop", name)].progress == Progress::InForce
    }

    #[test]
    fn a_policy_stands_once_its_unit_was_seen_in_force_and_no_sooner() {
        let mut force = Force::default();
        let first = compile(&mut force, &[("a", "1")]);
        assert!(!stands(&mut force, &first, "a"));
        see(&mut force, &first, None);
        write(&mut force, &first);
        assert!(!stands(&mut force, &first, "a") && force.awaits(&first));
        see(&mut force, &first, Some(&first));
        assert!(stands(&mut force, &first, "a") && !force.awaits(&first));
    }

    #[test]
    fn a_policy_that_did_not_change_stands_while_another_does() {
        let mut force = Force::default();
        let first = compile(&mut force, &[("a", "1"), ("b", "1")]);
        write(&mut force, &first);
        see(&mut force, &first, Some(&first));
        assert!(stands(&mut force, &first, "a") && stands(&mut force, &first, "b"));
        let second = compile(&mut force, &[("a", "1"), ("b", "2")]);
        write(&mut force, &second);
        assert!(stands(&mut force, &second, "a") && !stands(&mut force, &second, "b"));
        see(&mut force, &second, None);
        assert!(!stands(&mut force, &second, "a"), "it was in force, and is not any more");
    }

    #[test]
    fn what_was_changed_back_does_not_stand_before_the_change_has_come_through() {
        let mut force = Force::default();
        let first = compile(&mut force, &[("a", "1")]);
        write(&mut force, &first);
        see(&mut force, &first, Some(&first));
        let second = compile(&mut force, &[("a", "2")]);
        write(&mut force, &second);
        let third = compile(&mut force, &[("a", "1")]);
        see(&mut force, &third, Some(&first));
        assert!(!stands(&mut force, &third, "a"), "the API server has yet to pass through the second");
        assert_eq!(force.unclear(&third), [SHOP.to_owned()].into());
        see(&mut force, &third, Some(&second));
        assert!(!stands(&mut force, &third, "a") && force.unclear(&third).is_empty());
        write(&mut force, &third);
        see(&mut force, &third, Some(&third));
        assert!(stands(&mut force, &third, "a") && !force.awaits(&third));
    }

    #[test]
    fn a_version_that_never_comes_through_is_given_up() {
        let mut force = Force::default();
        let first = compile(&mut force, &[("a", "1")]);
        see(&mut force, &first, Some(&first));
        let second = compile(&mut force, &[("a", "2")]);
        write(&mut force, &second);
        let third = compile(&mut force, &[("a", "1")]);
        force.forget_lost(Instant::now());
        assert!(!force.unclear(&third).is_empty());
        force.forget_lost(Instant::now() + LOST);
        assert!(force.unclear(&third).is_empty());
    }

    #[test]
    fn a_unit_that_another_operator_has_just_removed_does_not_stand() {
        let mut force = Force::default();
        let first = compile(&mut force, &[("a", "1")]);
        see(&mut force, &first, Some(&first));
        force.leave_without_objects(&BTreeMap::new());
        assert!(!stands(&mut force, &first, "a") && force.awaits(&first));
        assert_eq!(force.unclear(&first), [SHOP.to_owned()].into());
        see(&mut force, &first, None);
        assert!(force.unclear(&first).is_empty(), "now it can be written");
        write(&mut force, &first);
        see(&mut force, &first, Some(&first));
        assert!(stands(&mut force, &first, "a"));
    }

    #[test]
    fn a_unit_with_objects_stands_from_the_first_look() {
        let mut force = Force::default();
        let first = compile(&mut force, &[("a", "1")]);
        see(&mut force, &first, Some(&first));
        force.leave_without_objects(&[(SHOP.to_owned(), Present { policy: Some(1), binding: Some(1) })].into());
        assert!(stands(&mut force, &first, "a") && force.unclear(&first).is_empty());
    }

    #[test]
    fn a_unit_that_comes_back_does_not_stand_because_of_the_one_that_was_removed() {
        let mut force = Force::default();
        let first = compile(&mut force, &[("a", "1")]);
        see(&mut force, &first, Some(&first));
        compile(&mut force, &[]);
        force.removed(SHOP);
        let again = compile(&mut force, &[("a", "1")]);
        see(&mut force, &again, Some(&first));
        assert!(!stands(&mut force, &again, "a") && force.awaits(&again));
        see(&mut force, &again, None);
        write(&mut force, &again);
        see(&mut force, &again, Some(&again));
        assert!(stands(&mut force, &again, "a"));
    }
}
