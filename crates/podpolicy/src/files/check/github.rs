//! Findings as workflow commands of GitHub Actions: one line each, which becomes an annotation of the line in a pull request.

use podpolicy_manifests::{Place, Severity};

use super::report::{Report, Told};

pub(super) fn print(report: &Report) -> String {
    report.told.iter().map(command).collect()
}

fn command(told: &Told) -> String {
    let Told { file, line: _, finding } = told;
    let command = match finding.rule.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let Place { start, end } = finding.place;
    format!(
        "::{command} file={},line={},endLine={},col={},endColumn={},title={}::{}\n",
        property(file.trim_start_matches("./")),
        start.line,
        end.line,
        start.column,
        end.column,
        property(finding.rule.id),
        data(&format!("{}; {}", told.text(), finding.rule.remedy)),
    )
}

/// The text of a command: what would end it, or could begin another one, is written as percent and number. Logs know escapes of terminals.
fn data(text: &str) -> String {
    let text = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    text.replace(|character: char| character.is_control(), "\u{fffd}")
}

/// A property of a command, which commas and colons would end too.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::{data, property};

    #[test]
    fn nothing_in_a_text_begins_another_command() {
        assert_eq!(data("100%\n::error::x\r"), "100%25%0A::error::x%0D");
        assert_eq!(property("a:b,c%\n"), "a%3Ab%2Cc%25%0A");
    }
}
