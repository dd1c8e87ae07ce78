//! `docs/findings.md` is written by hand; it must have every reason and no other.

use std::{collections::BTreeSet, fs, path::Path};

use podpolicy_api::{ConditionReason, ConditionType, FindingReason};
use schemars::{JsonSchema, schema_for};

#[test]
fn lists_of_all_variants_are_complete() {
    assert_eq!(names(FindingReason::ALL), variants::<FindingReason>());
    assert_eq!(names(ConditionType::ALL), variants::<ConditionType>());
    assert_eq!(names(ConditionReason::ALL), variants::<ConditionReason>());
}

#[test]
fn every_finding_is_documented() {
    let page = page();
    assert_eq!(headings(section(&page, "## Findings")), names(FindingReason::ALL));
    for heading in names(FindingReason::ALL) {
        let text = section(&page, &format!("### {heading}"));
        assert!(text.contains("**What to do:**"), "{heading} does not say what to do");
    }
}

#[test]
fn every_condition_and_its_reasons_are_documented() {
    let page = page();
    let conditions = section(&page, "## Conditions");
    assert_eq!(headings(conditions), names(ConditionType::ALL));
    let rows = conditions.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let reasons: BTreeSet<_> = rows.map(|(reason, _)| reason.to_owned()).collect();
    assert_eq!(reasons, names(ConditionReason::ALL));
}

/// Those of the conditions Ready and Conflicted, but for what passes by itself. The operator's tests see which are told.
#[test]
fn every_event_is_documented() {
    let page = page();
    let reasons = |heading: &str| -> BTreeSet<_> {
        let rows = section(&page, heading).lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        rows.map(|(reason, _)| reason.to_owned()).collect()
    };
    let mut wanted = &reasons("### Ready") | &reasons("### Conflicted");
    wanted.retain(|reason| !["Pending", "Progressing", "RollingOut"].contains(&reason.as_str()));
    assert_eq!(reasons("## Events"), wanted);
}

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/findings.md")).unwrap()
}

/// From a heading to the next of the same or a higher level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let level = heading.find(' ').unwrap();
    let start = page.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?}")) + heading.len() + 2;
    let rest = &page[start..];
    let is_end = |line: &&str| line.starts_with('#') && line.find(' ').is_some_and(|found| found <= level);
    let length = rest.split_inclusive('\n').take_while(|line| !is_end(line)).map(str::len).sum();
    &rest[..length]
}

fn headings(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned).collect()
}

fn names<T: ToString>(all: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    all.into_iter().map(|one| one.to_string()).collect()
}

/// The variants that the type really has.
fn variants<T: JsonSchema>() -> BTreeSet<String> {
    let schema = schema_for!(T);
    let variants = schema.get("oneOf").and_then(|variants| variants.as_array()).unwrap();
    variants.iter().map(|variant| variant["const"].as_str().unwrap().to_owned()).collect()
}
