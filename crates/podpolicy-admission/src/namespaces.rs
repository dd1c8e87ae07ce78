//! Selectors of namespaces for the API server: by name, and by what policies say of labels. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use podpolicy_engine::{NAME_LABEL, Selector};

/// The condition on the names of namespaces.
pub(crate) fn by_name<'a>(operator: &str, names: impl IntoIterator<Item = &'a str>) -> LabelSelectorRequirement {
    let names = names.into_iter().map(str::to_owned).collect();
    LabelSelectorRequirement { key: NAME_LABEL.to_owned(), operator: operator.to_owned(), values: Some(names) }
}

/// The conditions that all of the selectors have in common; none if they differ, or if there is no selector.
pub(crate) fn in_common<'a>(selectors: impl IntoIterator<Item = Option<&'a Selector>>) -> Vec<LabelSelectorRequirement> {
    let mut selectors = selectors.into_iter().map(|selector| selector.into_iter().flat_map(Selector::requirements).collect::<Vec<_>>());
    let first = selectors.next().unwrap_or_default();
    if selectors.all(|other| other == first) { first } else { Vec::new() }
}

/// The selector with these conditions.
pub(crate) fn selector(conditions: Vec<LabelSelectorRequirement>) -> LabelSelector {
    LabelSelector { match_expressions: (!conditions.is_empty()).then_some(conditions), match_labels: None }
}
