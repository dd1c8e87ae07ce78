//! The rules as a person looks them up.

use std::ffi::OsStr;

use clap::{
    Arg, Command, Error,
    builder::{PossibleValue, StringValueParser, TypedValueParser},
    error::ErrorKind,
};
use podpolicy_manifests::Rule;

use crate::output::Table;

/// Takes the id of a rule on the command line for the rule. Shells complete it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ById;

impl TypedValueParser for ById {
    type Value = &'static Rule;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<Self::Value, Error> {
        let text = StringValueParser::new().parse_ref(command, argument, value)?;
        Rule::find(text.trim()).map_err(|unknown| Error::raw(ErrorKind::InvalidValue, format!("{unknown}\n")))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Rule::all().map(|rule| PossibleValue::new(rule.id))))
    }
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
