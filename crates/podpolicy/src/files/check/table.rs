//! Findings for people, in the manner of compilers: what, where, the line itself, and what to do.

use std::{
    env,
    ffi::OsString,
    io::{IsTerminal as _, stdout},
    ops::Range,
};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use podpolicy_manifests::{Place, Severity};

use super::report::{Report, Told};

pub(super) fn print(report: &Report) -> String {
    let coloured = is_coloured(stdout().is_terminal(), |name| env::var_os(name));
    let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
    report.told.iter().flat_map(|told| [renderer.render(&[group(told)]), "\n\n".to_owned()]).collect()
}

/// Colour is for terminals, unless somebody has said that they want none.
fn is_coloured(on_terminal: bool, environment: impl Fn(&str) -> Option<OsString>) -> bool {
    let wants_none = environment("NO_COLOR").is_some_and(|value| !value.is_empty());
    on_terminal && !wants_none && environment("TERM").is_none_or(|kind| kind != "dumb")
}

fn group(told: &Told) -> Group<'_> {
    let Told { file, line, finding } = told;
    // Unlike the rest of a finding, names of files are printed as they are, escapes of terminals among them.
    let file = file.replace(|character: char| character.is_control(), "\u{fffd}");
    let level = match finding.rule.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title = level.primary_title(told.text()).id(finding.rule.id);
    let Place { start, .. } = finding.place;
    let group = match line {
        Some(line) => {
            let primary = AnnotationKind::Primary.span(bytes(line, finding.place));
            title.element(Snippet::source(line.as_str()).line_start(start.line).path(file).annotation(primary))
        }
        None => title.element(Origin::path(file).line(start.line).char_column(start.column)),
    };
    group.element(Level::HELP.message(finding.rule.remedy))
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
