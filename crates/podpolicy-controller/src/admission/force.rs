//! What is in force, as far as it was asked, and which policies stand because of it. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use podpolicy_api::AdmissionBackend;
use podpolicy_engine::{Policy, PolicyId, PolicyKind};

use super::{
    compiled::Compiled,
    failures::Failures,
    scope::namespace_of,
    standing::{Problem, Progress, Standing, Standings},
    versions::{UnitInForce, Versions},
};

/// What is in force.
#[derive(Default)]
pub(super) struct Force {
    /// The digests of the units that are, by name.
    digests: BTreeMap<String, String>,
    /// Units that were removed since they were last seen to be out of force.
    leaving: BTreeSet<String>,
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

    /// Units that were removed and may still be in force.
    pub(super) fn leaving(&self) -> &BTreeSet<String> {
        &self.leaving
    }

    /// Notes that a unit was removed.
    pub(super) fn removed(&mut self, name: &str) {
        self.leaving.insert(name.to_owned());
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
        let is_missing = |name: &str| self.leaving.contains(name) || self.digest(name) != compiled.digest(name);
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
        let is_asked = |name: &str| is_all_asked || namespace_of(name).is_some_and(|namespace| asked.contains(namespace));
        let left: Vec<_> = self.leaving.iter().filter(|name| is_asked(name) && !self.digests.contains_key(*name)).cloned().collect();
        self.leaving.retain(|name| !left.contains(name));
        !left.is_empty() || old != self.digests || was_known != self.is_known
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
            policies.insert(id.clone(), Standing { policy: Arc::clone(policy), progress, omitted });
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
            let unit = UnitInForce { name, in_force, should_have };
            !self.versions.is_true_to(policy, &unit)
        });
        let Some(name) = not_yet else { return Progress::InForce };
        let waiting = || Progress::Waiting(format!("the API server has not yet taken up MutatingAdmissionPolicy {name}"));
        failures.problem(name).map(Progress::Stuck).or_else(stuck).unwrap_or_else(waiting)
    }
}
