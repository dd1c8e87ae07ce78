//! Findings as a report of tests in JUnit's XML: a suite for each file, a failed case for each error and warning, and one that passed for a
//! file without. Notes are what the cases have printed.

use anyhow::{Context as _, Result};
use podpolicy_manifests::Severity;
use quick_xml::{
    Writer,
    events::{BytesDecl, BytesText, Event},
};

use super::report::{Report, Told};

type Xml = Writer<Vec<u8>>;

pub(super) fn print(report: &Report) -> Result<String> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    write(&mut xml, report).context("cannot write XML")?;
    let mut text = String::from_utf8(xml.into_inner()).context("the XML is no text")?;
    text.push('\n');
    Ok(text)
}

fn write(xml: &mut Xml, report: &Report) -> std::io::Result<()> {
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let suites: Vec<_> = report.files.iter().map(|file| Suite::of(file, report)).collect();
    let (tests, failures) = (suites.iter().map(Suite::tests).sum::<usize>(), suites.iter().map(|suite| suite.failed.len()).sum::<usize>());
    let root = xml.create_element("testsuites").with_attribute(("name", "podpolicy check"));
    let root = root.with_attribute(("tests", tests.to_string().as_str())).with_attribute(("failures", failures.to_string().as_str()));
    root.write_inner_content(|xml| suites.iter().try_for_each(|suite| suite.write(xml)))?;
    Ok(())
}

struct Suite<'a> {
    file: &'a str,
    failed: Vec<&'a Told>,
    notes: Vec<&'a Told>,
}

impl<'a> Suite<'a> {
    fn of(file: &'a str, report: &'a Report) -> Self {
        let told = report.told.iter().filter(|told| told.file == file);
        let (notes, failed) = told.partition(|told| told.finding.rule.severity == Severity::Note);
        Self { file, failed, notes }
    }

    fn tests(&self) -> usize {
        self.failed.len().max(1)
    }

    fn write(&self, xml: &mut Xml) -> std::io::Result<()> {
        let Self { file, failed, notes } = self;
        let suite = xml.create_element("testsuite").with_attribute(("name", allowed(file).as_str()));
        let suite = suite.with_attribute(("tests", self.tests().to_string().as_str()));
        suite.with_attribute(("failures", failed.len().to_string().as_str())).write_inner_content(|xml| {
            if failed.is_empty() {
                xml.create_element("testcase").with_attributes([("name", "check"), ("classname", allowed(file).as_str())]).write_empty()?;
            }
            failed.iter().try_for_each(|told| case(xml, told))?;
            if !notes.is_empty() {
                let text: Vec<_> = notes.iter().map(|told| line(told)).collect();
                xml.create_element("system-out").write_text_content(BytesText::new(&allowed(&text.join("\n"))))?;
            }
            Ok(())
        })?;
        Ok(())
    }
}

fn case(xml: &mut Xml, told: &Told) -> std::io::Result<()> {
    let name = format!("{} {}", told.finding.rule.id, told.finding.place.start);
    let file = allowed(&told.file);
    xml.create_element("testcase").with_attributes([("name", name.as_str()), ("classname", file.as_str())]).write_inner_content(|xml| {
        let rule = told.finding.rule;
        let failure = xml.create_element("failure").with_attribute(("type", rule.severity.to_string().as_str()));
        let text = allowed(&format!("{}\n{}", line(told), rule.remedy));
        failure.with_attribute(("message", allowed(&told.text()).as_str())).write_text_content(BytesText::new(&text))?;
        Ok(())
    })?;
    Ok(())
}

fn line(told: &Told) -> String {
    let rule = told.finding.rule;
    format!("{}:{}: {}[{}]: {}", told.file, told.finding.place.start, rule.severity, rule.id, told.text())
}

/// The text without the characters that XML has no way to write.
fn allowed(text: &str) -> String {
    let is_allowed = |character: char| match character {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        other => other >= ' ',
    };
    text.chars().map(|character| if is_allowed(character) { character } else { char::REPLACEMENT_CHARACTER }).collect()
}
