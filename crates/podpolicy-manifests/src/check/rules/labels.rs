//! The labels that everybody relies on.

use podpolicy_engine::Field;

use crate::{
    Rule, Severity, Step,
    check::subject::{Spot, Subject},
};

/// The key that says which application a pod is of.
const NAME: &str = "app.kubernetes.io/name";

pub(super) const NO_NAME_LABEL: Rule = Rule {
    id: "no-name-label",
    severity: Severity::Note,
    summary: "pods have no label app.kubernetes.io/name",
    why: "Dashboards, cost reports and people find the pods of an application by it; each without it needs an exception.",
    remedy: "Add the label to the pod template, or have a policy set it.",
};

pub(super) fn no_name_label(subject: &Subject<'_>) -> Vec<Spot> {
    if subject.label(NAME).is_some() {
        return Vec::new();
    }
    let path = Step::keys(["metadata", "labels"]);
    let of = Some(Field::Label(NAME.to_owned()));
    vec![Spot { path, field: "labels".to_owned(), message: format!("there is no label {NAME}"), of }]
}
