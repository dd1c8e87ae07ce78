//! Which objects are this operator's. It never touches one that another operator, or a person, looks after.

use std::collections::BTreeSet;

use podpolicy_admission::cel::NAME_PREFIX;

use crate::config::Watched;

/// The name of the unit of all namespaces that have none of their own.
pub(super) const OTHERS: &str = "podpolicy-others";
/// How the names of the units of single namespaces begin.
const NAMESPACE: &str = "podpolicy-namespace-";

/// The objects that are the operator's to write and to remove, by name.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// The namespaces that it acts in; none for all.
    namespaces: Option<BTreeSet<String>>,
}

impl Scope {
    pub(super) fn of(watched: &Watched) -> Self {
        let namespaces = match watched {
            Watched::Cluster => None,
            Watched::Namespaces(names) => Some(names.clone()),
        };
        Self { namespaces }
    }

    /// Whether an object of this name is the operator's. One that acts in some namespaces only shares the cluster with others.
    pub(super) fn owns(&self, name: &str) -> bool {
        match &self.namespaces {
            None => name.starts_with(NAME_PREFIX),
            Some(namespaces) => namespace_of(name).is_some_and(|namespace| namespaces.contains(namespace)),
        }
    }
}

/// The namespace whose unit has this name.
pub(super) fn namespace_of(name: &str) -> Option<&str> {
    name.strip_prefix(NAMESPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_of_some_namespaces_leaves_the_units_of_others_alone() {
        let one = Scope::of(&Watched::Namespaces(BTreeSet::from(["shop".to_owned()])));
        let all = Scope::of(&Watched::Cluster);
        for (name, by_one, by_all) in [
            ("podpolicy-namespace-shop", true, true),
            ("podpolicy-namespace-bank", false, true),
            ("podpolicy-namespace-shop-2", false, true),
            (OTHERS, false, true),
            ("istio-namespace-shop", false, false),
        ] {
            assert_eq!((one.owns(name), all.owns(name)), (by_one, by_all), "{name}");
        }
    }
}
