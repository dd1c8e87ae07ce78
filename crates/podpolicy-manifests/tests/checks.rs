//! What rules find: `checks/<rule>/fires.yaml` has what the rule is about, `fires.txt` all that is found in it; in `quiet.yaml` the rule finds
//! nothing. `UPDATE=1` rewrites the expected findings. A first line `# kubernetes-version: 1.33` says for which version of Kubernetes a file is, if not
//! for the newest.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use podpolicy_engine::kubernetes::Version;
use podpolicy_manifests::{Check, Facts, Finding, Manifest, Rule, Selected, Services};

mod given;

use given::NAMESPACE;

#[test]
fn every_rule_finds_what_it_is_about_and_nothing_else() {
    let wrong: Vec<_> = rules().filter_map(|rule| check(rule).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_folder_is_a_rule() {
    let folders: BTreeSet<_> = fs::read_dir(folder("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders, rules().map(|rule| rule.id.to_owned()).collect());
}

#[test]
fn ids_are_different_and_in_kebab_case() {
    let mut seen = BTreeSet::new();
    for rule in Rule::all() {
        assert!(rule.id.split('-').all(|word| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_lowercase())), "{}", rule.id);
        assert!(seen.insert(rule.id), "{}", rule.id);
        for text in [rule.why, rule.remedy] {
            assert!(text.ends_with('.') && !text.contains("://") && !text.contains("  "), "{}: {text}", rule.id);
        }
        assert!(!rule.summary.ends_with('.') && rule.summary.len() < 120, "{}", rule.id);
    }
}

#[test]
fn rule_is_found_by_its_id_and_a_slip_is_told() {
    assert_eq!(Rule::find("kept").unwrap().id, "kept");
    assert_eq!(
        Rule::find("no-readyness-probe").unwrap_err().to_string(),
        "there is no rule \"no-readyness-probe\"; did you mean no-readiness-probe?"
    );
    assert_eq!(Rule::find("xyz").unwrap_err().to_string(), "there is no rule \"xyz\"; `podpolicy check --list` lists all");
}

#[test]
fn disabled_rules_find_nothing() {
    for rule in rules().filter(|rule| !rule.is_mandatory()) {
        let text = fs::read_to_string(folder(rule.id).join("fires.yaml")).unwrap();
        let all = findings(&text, &BTreeSet::new());
        let rest = findings(&text, &BTreeSet::from([rule.id]));
        assert_eq!(rest, all.into_iter().filter(|finding| finding.rule != rule).collect::<Vec<_>>(), "{}", rule.id);
    }
}

/// All rules but the one that finds what is wrong with policies themselves, which are read elsewhere.
fn rules() -> impl Iterator<Item = &'static Rule> {
    Rule::all().filter(|rule| *rule != Rule::invalid_policy())
}

fn check(rule: &Rule) -> Result<(), String> {
    let read = |file: &str| fs::read_to_string(folder(rule.id).join(file)).map_err(|error| format!("{}/{file}: {error}", rule.id));
    let none = BTreeSet::new();
    let found = findings(&read("fires.yaml")?, &none);
    if !found.iter().any(|finding| finding.rule == rule) {
        return Err(format!("{}/fires.yaml: the rule finds nothing", rule.id));
    }
    let got = told(&found);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(folder(rule.id).join("fires.txt"), &got).unwrap();
    }
    let want = read("fires.txt")?;
    if got != want {
        return Err(format!("{}/fires.txt: got\n{got}\nwant\n{want}", rule.id));
    }
    let quiet: Vec<_> = findings(&read("quiet.yaml")?, &none).into_iter().filter(|finding| finding.rule == rule).collect();
    if quiet.is_empty() { Ok(()) } else { Err(format!("{}/quiet.yaml: {}", rule.id, told(&quiet))) }
}

fn folder(rule: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checks").join(rule)
}

/// What is found in a text with policies and manifests.
fn findings(text: &str, disabled: &BTreeSet<&'static str>) -> Vec<Finding> {
    let manifest = Manifest::parse(text.to_owned()).unwrap();
    let program = given::program(text, &[]);
    let (mut facts, mut services) = (Facts::default(), Services::default());
    facts.add_manifest(&manifest, NAMESPACE);
    services.add_manifest(&manifest, NAMESPACE);
    let check = Check { program: &program, services: &services, namespace: NAMESPACE, kubernetes: version(text), disabled };
    let checked = check.pods(&manifest);
    let selected = Selected { selecting: (checked.pods > 0).then_some(&checked.selecting), unknown_namespace: facts.unknown().next() };
    let mut all = checked.findings;
    all.extend(check.policies(&manifest, &selected));
    all
}

/// The version of Kubernetes that a text is for.
fn version(text: &str) -> Version {
    let first = text.lines().next().and_then(|line| line.strip_prefix("# kubernetes-version: "));
    first.map_or(Version::NEWEST, |version| version.parse().unwrap())
}

fn told(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { rule, place, object, field, message } in findings {
        writeln!(text, "{}-{} {}[{}] {object}: {field}: {message}", place.start, place.end.column, rule.severity, rule.id).unwrap();
    }
    text
}
