//! All that was found, in the order of files and places, whatever the format that it is printed in.

use std::collections::BTreeSet;

use podpolicy_manifests::{Finding, Lines, Place, Position, Rule, Severity};

use crate::files::mistake::{Mistake, may_hold_credentials};

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The findings.
    pub(super) told: Vec<Told>,
    /// The files that were looked at, those without findings too.
    pub(super) files: BTreeSet<String>,
}

/// A finding, with its file.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) file: String,
    /// The line that it is about; none where it may hold credentials, and none of files that could not be read.
    pub(super) line: Option<String>,
    pub(super) finding: Finding,
}

impl Report {
    /// Takes in what was found in a file.
    pub(super) fn add(&mut self, file: &str, text: &str, findings: Vec<Finding>) {
        if findings.is_empty() {
            return;
        }
        let lines = Lines::new(text);
        for finding in findings {
            let line = lines.line(finding.place.start.line);
            let line = (!may_hold_credentials(line)).then(|| line.to_owned());
            self.told.push(Told { file: file.to_owned(), line, finding });
        }
    }

    /// Takes in a mistake; it is in this text where it could be read.
    pub(super) fn add_mistake(&mut self, rule: &'static Rule, mistake: &Mistake, text: Option<&str>) {
        let start = mistake.position.unwrap_or(Position { line: 1, column: 1 });
        let place = text.map_or(Place { start, end: start }, |text| Place::at(&Lines::new(text), start));
        let (object, field) = (String::new(), String::new());
        let finding = Finding { rule, place, object, field, message: mistake.message.clone() };
        self.files.insert(mistake.file.clone());
        match text {
            Some(text) => self.add(&mistake.file, text, vec![finding]),
            None => self.told.push(Told { file: mistake.file.clone(), line: None, finding }),
        }
    }

    /// Puts the findings in order, once all are there.
    pub(super) fn close<'a>(&mut self, files: impl Iterator<Item = &'a str>) {
        self.files.extend(files.map(str::to_owned));
        self.told.sort_by(|a, b| a.file.cmp(&b.file).then_with(|| a.finding.order(&b.finding)));
    }

    /// Whether something could not be looked at.
    pub(super) fn is_incomplete(&self) -> bool {
        self.told.iter().any(|told| told.finding.rule == Rule::unreadable())
    }

    /// The severity of the most severe finding.
    pub(super) fn most_severe(&self) -> Option<Severity> {
        self.told.iter().map(|told| told.finding.rule.severity).max()
    }

    /// How many findings have the severity.
    pub(super) fn count(&self, severity: Severity) -> usize {
        self.told.iter().filter(|told| told.finding.rule.severity == severity).count()
    }

    /// "2 errors, 1 warning and no notes in 3 files"
    pub(super) fn summary(&self) -> String {
        let number = |count: usize, word: &str| match count {
            0 => format!("no {word}s"),
            1 => format!("1 {word}"),
            more => format!("{more} {word}s"),
        };
        let [errors, warnings, notes] = Severity::ALL.map(|severity| number(self.count(severity), &severity.to_string()));
        format!("{errors}, {warnings} and {notes} in {}", number(self.files.len(), "file"))
    }
}

impl Told {
    /// The object and the field, then what is the case.
    pub(super) fn text(&self) -> String {
        let Finding { object, field, message, .. } = &self.finding;
        [object, field, message].into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(": ")
    }
}
