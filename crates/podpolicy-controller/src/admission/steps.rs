//! What to write next, so that the API server holds what is wanted and no pod goes without in between. Pure: what is wanted, what is
//! there and what is in force go in, steps come out; whoever carries them out asks again.
//!
//! The one rule about order: a namespace that changes hands between its own unit and that of all others is let go by the one only when
//! the other has it. Being held by both for a while changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::scope::OTHERS;

/// A unit that the API server should hold. Contents are told apart by their hashes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Wanted {
    pub(super) digest: String,
    pub(super) policy: u64,
    pub(super) binding: u64,
}

/// What the API server holds under a name.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Present {
    pub(super) policy: Option<u64>,
    pub(super) binding: Option<u64>,
}

/// All that the next steps depend on, by the units' names.
pub(super) struct Scene<'a> {
    pub(super) wanted: &'a BTreeMap<String, Wanted>,
    pub(super) present: &'a BTreeMap<String, Present>,
    /// The digests of the units that are in force.
    pub(super) in_force: &'a BTreeMap<String, String>,
    /// Units of which nobody can tell whether they are in force as they should be: they were removed or changed and are wanted as they
    /// were, and that has not come through yet. Until it has they are left alone.
    pub(super) unclear: &'a BTreeSet<String>,
    /// Units that the API server refuses: nobody waits for them.
    pub(super) refused: &'a BTreeSet<String>,
    /// Whether the binding of all others was written so long ago that every API server knows it: nothing tells.
    pub(super) is_handed_over: bool,
}

/// Something to write. Steps of one answer do not depend on each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Apply the policy, then the binding, as far as they differ.
    Apply { name: String, policy: bool, binding: bool },
    /// Delete the binding, then the policy, as far as they are there.
    Remove { name: String, binding: bool, policy: bool },
}

impl Step {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Apply { name, .. } | Self::Remove { name, .. } => name,
        }
    }
}

/// The steps that can be taken now.
pub(super) fn steps(scene: &Scene<'_>) -> Vec<Step> {
    let present = |name: &str| scene.present.get(name).copied().unwrap_or_default();
    let may_let_go = own_units_stand(scene);
    let apply = scene.wanted.iter().filter(|(name, _)| !scene.unclear.contains(*name)).filter_map(|(name, wanted)| {
        let found = present(name);
        let is_held_back = name == OTHERS && found.binding.is_some() && !may_let_go;
        let (policy, binding) = (found.policy != Some(wanted.policy), found.binding != Some(wanted.binding) && !is_held_back);
        (policy || binding).then(|| Step::Apply { name: name.clone(), policy, binding })
    });
    let others_stand = scene.wanted.get(OTHERS).is_none_or(|wanted| {
        let is_written = present(OTHERS) == Present { policy: Some(wanted.policy), binding: Some(wanted.binding) };
        is_written && scene.is_handed_over && stands(scene, OTHERS, wanted)
    });
    let remove = scene.present.iter().filter(|(name, _)| !scene.wanted.contains_key(*name)).filter_map(|(name, found)| {
        let is_free = if name == OTHERS { may_let_go } else { others_stand };
        let (binding, policy) = (found.binding.is_some(), found.policy.is_some());
        (is_free && (binding || policy)).then(|| Step::Remove { name: name.clone(), binding, policy })
    });
    apply.chain(remove).collect()
}

/// Whether every namespace that should have a unit of its own has it, so that the unit of all others may leave it.
fn own_units_stand(scene: &Scene<'_>) -> bool {
    let own = scene.wanted.iter().filter(|(name, _)| *name != OTHERS);
    own.filter(|(name, _)| !scene.refused.contains(*name)).all(|(name, wanted)| stands(scene, name, wanted))
}

fn stands(scene: &Scene<'_>, name: &str, wanted: &Wanted) -> bool {
    !scene.unclear.contains(name) && scene.in_force.get(name) == Some(&wanted.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = "podpolicy-namespace-shop";
    const BANK: &str = "podpolicy-namespace-bank";

    /// What there is in a test, in words: a unit's name with its version; `policy` alone has no binding.
    #[derive(Default)]
    struct Case {
        wanted: BTreeMap<String, Wanted>,
        present: BTreeMap<String, Present>,
        in_force: BTreeMap<String, String>,
        unclear: BTreeSet<String>,
        refused: BTreeSet<String>,
        is_handed_over: bool,
    }

    impl Case {
        fn wants(mut self, name: &str, version: u64) -> Self {
            self.wanted.insert(name.to_owned(), Wanted { digest: version.to_string(), policy: version, binding: version });
            self
        }

        fn has(mut self, name: &str, policy: u64, binding: u64) -> Self {
            let version = |version| (version > 0).then_some(version);
            self.present.insert(name.to_owned(), Present { policy: version(policy), binding: version(binding) });
            self
        }

        fn sees(mut self, name: &str, version: u64) -> Self {
            self.in_force.insert(name.to_owned(), version.to_string());
            self
        }

        fn refuses(mut self, name: &str) -> Self {
            self.refused.insert(name.to_owned());
            self
        }

        fn removed(mut self, name: &str) -> Self {
            self.unclear.insert(name.to_owned());
            self
        }

        fn handed_over(mut self) -> Self {
            self.is_handed_over = true;
            self
        }

        #[track_caller]
        fn gives(self, wanted: &[Step]) {
            let Self { wanted: units, present, in_force, unclear, refused, is_handed_over } = &self;
            let scene = Scene { wanted: units, present, in_force, unclear, refused, is_handed_over: *is_handed_over };
            assert_eq!(steps(&scene), wanted);
        }
    }

    fn apply(name: &str) -> Step {
        Step::Apply { name: name.to_owned(), policy: true, binding: true }
    }

    fn remove(name: &str) -> Step {
        Step::Remove { name: name.to_owned(), binding: true, policy: true }
    }

    #[test]
    fn what_is_missing_is_applied_at_once_where_nothing_is_lost() {
        Case::default().wants(OTHERS, 1).wants(SHOP, 1).gives(&[apply(SHOP), apply(OTHERS)]);
    }

    #[test]
    fn nothing_is_written_once_all_is_there() {
        let there = || Case::default().wants(OTHERS, 1).wants(SHOP, 1).has(OTHERS, 1, 1).has(SHOP, 1, 1);
        there().gives(&[]);
        there().sees(OTHERS, 1).sees(SHOP, 1).handed_over().gives(&[]);
    }

    #[test]
    fn only_what_differs_is_applied() {
        let step = |policy, binding| [Step::Apply { name: SHOP.to_owned(), policy, binding }];
        Case::default().wants(SHOP, 2).has(SHOP, 1, 2).gives(&step(true, false));
        Case::default().wants(SHOP, 2).has(SHOP, 2, 1).gives(&step(false, true));
        Case::default().wants(SHOP, 2).has(SHOP, 2, 0).gives(&step(false, true));
    }

    #[test]
    fn the_others_keep_a_namespace_until_its_own_unit_is_in_force() {
        let shop_is_new = || Case::default().wants(OTHERS, 2).wants(SHOP, 1).has(OTHERS, 1, 1).sees(OTHERS, 1);
        shop_is_new().gives(&[apply(SHOP), Step::Apply { name: OTHERS.to_owned(), policy: true, binding: false }]);
        shop_is_new().has(SHOP, 1, 1).has(OTHERS, 2, 1).gives(&[]);
        let binding = Step::Apply { name: OTHERS.to_owned(), policy: false, binding: true };
        shop_is_new().has(SHOP, 1, 1).has(OTHERS, 2, 1).sees(SHOP, 1).gives(&[binding]);
    }

    #[test]
    fn a_unit_of_one_namespace_stays_until_the_others_have_the_namespace() {
        let shop_goes = || Case::default().wants(OTHERS, 2).has(SHOP, 1, 1).sees(SHOP, 1);
        shop_goes().has(OTHERS, 1, 1).sees(OTHERS, 1).handed_over().gives(&[apply(OTHERS)]);
        shop_goes().has(OTHERS, 2, 2).sees(OTHERS, 1).handed_over().gives(&[]);
        shop_goes().has(OTHERS, 2, 2).sees(OTHERS, 2).gives(&[]);
        shop_goes().has(OTHERS, 2, 2).sees(OTHERS, 2).handed_over().gives(&[remove(SHOP)]);
    }

    #[test]
    fn the_others_go_only_when_the_units_of_single_namespaces_stand() {
        let others_go = || Case::default().wants(SHOP, 1).has(OTHERS, 1, 1).sees(OTHERS, 1);
        others_go().gives(&[apply(SHOP)]);
        others_go().has(SHOP, 1, 1).gives(&[]);
        others_go().has(SHOP, 1, 1).sees(SHOP, 1).gives(&[remove(OTHERS)]);
    }

    #[test]
    fn what_nobody_takes_over_goes_at_once() {
        Case::default()
            .has(SHOP, 1, 1)
            .has(BANK, 1, 0)
            .gives(&[Step::Remove { name: BANK.to_owned(), binding: false, policy: true }, remove(SHOP)]);
        Case::default().has(OTHERS, 1, 1).gives(&[remove(OTHERS)]);
    }

    #[test]
    fn nobody_waits_for_a_unit_that_is_refused() {
        let shop_is_refused =
            || Case::default().wants(OTHERS, 2).wants(SHOP, 1).wants(BANK, 1).has(BANK, 1, 1).has(OTHERS, 2, 1).refuses(SHOP);
        let binding = Step::Apply { name: OTHERS.to_owned(), policy: false, binding: true };
        shop_is_refused().gives(&[apply(SHOP)]);
        shop_is_refused().sees(BANK, 1).gives(&[apply(SHOP), binding]);
    }

    #[test]
    fn a_unit_that_comes_back_is_not_taken_for_the_one_that_was_removed() {
        let shop_is_back = || Case::default().wants(OTHERS, 2).wants(SHOP, 1).has(OTHERS, 2, 1).sees(OTHERS, 1).sees(SHOP, 1);
        shop_is_back().removed(SHOP).gives(&[]);
        shop_is_back().gives(&[apply(SHOP), Step::Apply { name: OTHERS.to_owned(), policy: false, binding: true }]);
    }
}
