//! A compiled program as the native backend works with it: what is wanted, by name, and whom to ask what is in force. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use podpolicy_admission::cel::{Compilation, Covers, Omission, Unit};
use podpolicy_engine::{PolicyId, PolicyKind, Program};

use super::{objects::Object as _, scope::Scope, steps::Wanted};

/// A compiled program.
#[derive(Default)]
pub(super) struct Compiled {
    /// None before the first.
    pub(super) program: Option<Arc<Program>>,
    pub(super) units: BTreeMap<String, Unit>,
    /// The same, as steps compare them.
    pub(super) wanted: BTreeMap<String, Wanted>,
    omissions: Vec<Omission>,
}

impl Compiled {
    pub(super) fn new(program: Arc<Program>, compilation: Compilation, scope: &Scope) -> Self {
        let Compilation { units, omissions } = compilation;
        let units: BTreeMap<_, _> = units.into_iter().filter(|unit| scope.owns(&unit.name)).map(|unit| (unit.name.clone(), unit)).collect();
        let wanted = |unit: &Unit| Wanted {
            digest: unit.digest.clone(),
            policy: unit.policy.clone().into_stored().content(),
            binding: unit.binding.clone().into_stored().content(),
        };
        let wanted = units.iter().map(|(name, unit)| (name.clone(), wanted(unit))).collect();
        Self { program: Some(program), units, wanted, omissions }
    }

    pub(super) fn digest(&self, name: &str) -> Option<&str> {
        self.wanted.get(name).map(|wanted| wanted.digest.as_str())
    }

    pub(super) fn has(&self, name: &str, id: &PolicyId) -> bool {
        self.units.get(name).is_some_and(|unit| unit.policies.contains(id))
    }

    /// Where a policy is left out, and why.
    pub(super) fn omitted(&self, id: &PolicyId) -> Option<String> {
        let mut messages = self.omissions.iter().filter(|omission| omission.policy == *id).map(say);
        let first = messages.next()?;
        match messages.count() {
            0 => Some(first),
            more => Some(format!("{first}; and {more} more")),
        }
    }

    /// Logs what is left out now and was not before.
    pub(super) fn log_omissions(&self, before: &Self) {
        for omission in self.omissions.iter().filter(|omission| !before.omissions.contains(omission)) {
            tracing::warn!(policy = %omission.policy, "{}", say(omission));
        }
    }

    /// The policies whose status shows what is in force in these namespaces; none: everywhere. One ClusterPodPolicy shows all.
    pub(super) fn targets(&self, namespaces: Option<&BTreeSet<&str>>) -> Vec<PolicyId> {
        let ids = || self.program.iter().flat_map(|program| program.policies()).map(|policy| policy.id());
        if let Some(id) = ids().find(|id| id.kind == PolicyKind::ClusterPodPolicy) {
            return vec![id.clone()];
        }
        let mut seen = BTreeSet::new();
        let is_asked = |namespace: &str| namespaces.is_none_or(|namespaces| namespaces.contains(namespace));
        ids().filter(|id| is_asked(&id.namespace) && seen.insert(id.namespace.as_str())).cloned().collect()
    }
}

/// "in namespace shop, pods are created without its settings: ..."
fn say(Omission { policy: _, covers, message }: &Omission) -> String {
    let place = match covers {
        Covers::Namespace(name) => format!("in namespace {name}"),
        Covers::Others => "in namespaces without PodPolicies".to_owned(),
    };
    format!("{place}, pods are created without its settings: {message}")
}
