//! The rules as a person looks them up.

use anyhow::{Result, anyhow};
use podpolicy_manifests::Rule;

use crate::output::Table;

/// The rule of that id, as the command line names it.
pub(super) fn find(id: &str) -> Result<&'static Rule> {
    Rule::find(id).map_err(|unknown| anyhow!("{unknown}"))
}

/// All rules.
pub(super) fn list() -> String {
    let mut table = Table::new(&["RULE", "SEVERITY", "FINDS"]);
    for rule in Rule::all() {
        table.row([rule.id.to_owned(), rule.severity.to_string(), rule.summary.to_owned()]);
    }
    table.to_string()
}

/// All that there is to know about a rule.
pub(super) fn explanation(rule: &Rule) -> String {
    let Rule { id, severity, summary, why, remedy } = rule;
    let switch = if rule.is_mandatory() {
        "It cannot be switched off.".to_owned()
    } else {
        format!("Switch it off by --disable {id}, or for one object by its annotation podpolicy.dev/check-ignore: {id}")
    };
    format!("{id} ({severity})\n\nFinds: {summary}.\n\nWhy: {why}\n\nWhat to do: {remedy}\n\n{switch}\n")
}
