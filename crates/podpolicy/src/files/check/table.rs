//! Findings for people, in the manner of compilers: what, where, the line itself, and what to do.

use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    io::{IsTerminal as _, stdout},
    ops::Range,
};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use podpolicy_manifests::{Finding, Place, Severity};

use super::report::{Report, Told};

pub(super) fn print(report: &Report) -> String {
    let coloured = is_coloured(stdout().is_terminal(), |name| env::var_os(name));
    let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
    let alike = alike(&report.told);
    alike.iter().flat_map(|alike| [renderer.render(&[group(alike)]), "\n\n".to_owned()]).collect()
}

/// A finding, and those that say the same of other objects: often they have one cause.
struct Alike<'a> {
    first: &'a Told,
    others: Vec<&'a Told>,
}

fn alike(told: &[Told]) -> Vec<Alike<'_>> {
    let mut found: Vec<Alike<'_>> = Vec::new();
    let mut known = HashMap::new();
    for told in told {
        let Finding { rule, object, field, message, .. } = &told.finding;
        let says = (rule.id, field, message);
        let earlier = known.get(&says).filter(|_| !object.is_empty());
        if let Some(alike) = earlier.and_then(|&at: &usize| found.get_mut(at)) {
            alike.others.push(told);
        } else {
            known.insert(says, found.len());
            found.push(Alike { first: told, others: Vec::new() });
        }
    }
    found
}

/// Colour is for terminals, unless somebody has said that they want none.
fn is_coloured(on_terminal: bool, environment: impl Fn(&str) -> Option<OsString>) -> bool {
    let wants_none = environment("NO_COLOR").is_some_and(|value| !value.is_empty());
    on_terminal && !wants_none && environment("TERM").is_none_or(|kind| kind != "dumb")
}

fn group<'a>(Alike { first, others }: &Alike<'a>) -> Group<'a> {
    let Told { file, line, finding } = first;
    let file = printable(file);
    let level = match finding.rule.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title = level.primary_title(first.text()).id(finding.rule.id);
    let Place { start, .. } = finding.place;
    let mut group = match line {
        Some(line) => {
            let primary = AnnotationKind::Primary.span(bytes(line, finding.place));
            title.element(Snippet::source(line.as_str()).line_start(start.line).path(file).annotation(primary))
        }
        None => title.element(Origin::path(file).line(start.line).char_column(start.column)),
    };
    if !others.is_empty() {
        let places = others
            .iter()
            .map(|Told { file, finding, .. }| format!("\n{}:{}: {}", printable(file), finding.place.start, printable(&finding.object)));
        group = group.element(Level::NOTE.message(format!("the same at{}", places.collect::<String>())));
    }
    group.element(Level::HELP.message(finding.rule.remedy))
}

/// Unlike titles, this would be printed as it is, escapes of terminals and all.
fn printable(text: &str) -> String {
    text.replace(|character: char| character.is_control(), "\u{fffd}")
}

/// The bytes of the line that a place takes.
fn bytes(line: &str, Place { start, end }: Place) -> Range<usize> {
    let byte = |column: usize| line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
    byte(start.column)..byte(end.column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_that_have_it_and_people_who_want_it() {
        for (on_terminal, variables, wanted) in [
            (true, &[][..], true),
            (true, &[("TERM", "xterm"), ("NO_COLOR", "")], true),
            (false, &[("TERM", "xterm")], false),
            (true, &[("NO_COLOR", "1")], false),
            (true, &[("TERM", "dumb")], false),
        ] {
            let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            assert_eq!(is_coloured(on_terminal, value), wanted, "{variables:?}");
        }
    }
}
