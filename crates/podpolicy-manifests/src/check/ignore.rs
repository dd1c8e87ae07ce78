//! The annotation on an object that switches rules off for it.

use std::collections::BTreeSet;

use super::{Rule, Severity};
use crate::{Object, Step};

/// Ids of rules that are switched off for the object, comma-separated.
pub const IGNORE_ANNOTATION: &str = "podpolicy.dev/check-ignore";

const UNKNOWN_RULE: Rule = Rule {
    id: "unknown-rule",
    severity: Severity::Warning,
    summary: "the annotation podpolicy.dev/check-ignore names a rule that does not exist, or that cannot be switched off",
    why: "What it was meant to switch off is still reported, and a reader is misled.",
    remedy: "Correct the id; `podpolicy check --list` lists all.",
};

/// The rules, in the order in which they are listed.
pub(super) const RULES: [&Rule; 1] = [&UNKNOWN_RULE];

/// What an object has switched off.
pub(super) struct Ignored {
    pub(super) rules: BTreeSet<&'static str>,
    /// What is wrong with the annotation.
    pub(super) mistakes: Vec<(&'static Rule, String)>,
}

/// What the object has switched off.
pub(super) fn ignored(object: &Object<'_>) -> Ignored {
    let mut ignored = Ignored { rules: BTreeSet::new(), mistakes: Vec::new() };
    let annotation = object.value["metadata"]["annotations"][IGNORE_ANNOTATION].as_str().unwrap_or_default();
    for id in annotation.split(',').map(str::trim).filter(|id| !id.is_empty()) {
        match Rule::find(id) {
            Ok(rule) if rule.is_mandatory() => {
                ignored.mistakes.push((&UNKNOWN_RULE, format!("{id} cannot be switched off")));
            }
            Ok(rule) => {
                ignored.rules.insert(rule.id);
            }
            Err(unknown) => ignored.mistakes.push((&UNKNOWN_RULE, unknown.to_string())),
        }
    }
    ignored
}

/// Where the annotation is in an object.
pub(super) fn path() -> Vec<Step> {
    Step::keys(["metadata", "annotations", IGNORE_ANNOTATION])
}
