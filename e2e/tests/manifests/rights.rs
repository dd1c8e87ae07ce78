//! Who may do what, as one table to read: `rights.txt`. `UPDATE=1` rewrites it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::render::{Objects, Overlay, kustomize, root};

const GOLDEN: &str = "e2e/tests/manifests/rights.txt";

#[test]
fn rights_are_those_that_were_agreed_on() -> anyhow::Result<()> {
    let default = kustomize("config/default")?;
    let mut text = "config/default\n".to_owned() + &table(&default);
    for component in ["certmanager", "components/evict", "components/restart"] {
        let with = Overlay::new(&[component], "")?.objects()?;
        let changed = |objects: &Objects, others: &Objects| {
            let changed = objects.iter().filter(|(key, object)| others.get(*key) != Some(object));
            changed.map(|(key, object)| (key.clone(), object.clone())).collect::<Objects>()
        };
        write!(text, "\nconfig/{component} adds\n{}", table(&changed(&with, &default)))?;
        write!(text, "\nconfig/{component} takes away\n{}", table(&changed(&default, &with)))?;
    }
    assert!(!text.contains('*'), "a right on everything:\n{text}");
    let file = root().join(GOLDEN);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &text)?;
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == text, "{GOLDEN} is not what is rendered; if it should be, run with UPDATE=1:\n{text}");
    Ok(())
}

#[test]
fn cluster_kind_is_part_of_no_role_of_a_namespace() -> anyhow::Result<()> {
    for (key, role) in kustomize("config/default")? {
        let labels = role["metadata"]["labels"].as_object();
        let is_aggregated = labels.is_some_and(|labels| labels.keys().any(|label| label.contains("/aggregate-to-")));
        let resources: Vec<_> = texts(&role["rules"], "resources");
        assert!(!is_aggregated || resources.iter().all(|resource| !resource.starts_with("cluster")), "{key}: {resources:?}");
    }
    Ok(())
}

/// For each role, who has it and what it grants: a resource with its verbs in each line.
fn table(objects: &Objects) -> String {
    let mut text = String::new();
    let mut bindings: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for binding in objects.values().filter(|object| object["subjects"].is_array()) {
        let role = role(&binding["roleRef"], &binding["metadata"]);
        for subject in binding["subjects"].as_array().unwrap() {
            let who = format!("{} {}/{}", word(&subject["kind"]), word(&subject["namespace"]), word(&subject["name"]));
            bindings.entry(role.clone()).or_default().insert(who);
        }
    }
    for object in objects.values().filter(|object| object["rules"].is_array()) {
        let role = role(object, &object["metadata"]);
        let mut who = bindings.remove(&role).unwrap_or_default();
        for label in object["metadata"]["labels"].as_object().into_iter().flat_map(|labels| labels.keys()) {
            who.extend(label.split_once("/aggregate-to-").map(|(_, name)| format!("who has {name}")));
        }
        let who = if who.is_empty() { "nobody unasked".to_owned() } else { Vec::from_iter(who).join(", ") };
        let _ = writeln!(text, "  {role}: {who}");
        for line in lines(&object["rules"]) {
            let _ = writeln!(text, "    {line}");
        }
    }
    for (role, who) in bindings {
        let _ = writeln!(text, "  {role}, bound to {who:?}, is missing");
    }
    if text.is_empty() { "  nothing\n".to_owned() } else { text }
}

fn role(object: &Value, metadata: &Value) -> String {
    let name = object["name"].as_str().or(object["metadata"]["name"].as_str()).unwrap();
    match word(&object["kind"]) {
        "Role" => format!("Role {}/{name}", word(&metadata["namespace"])),
        kind => format!("{kind} {name}"),
    }
}

fn lines(rules: &Value) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for rule in rules.as_array().unwrap() {
        let rule = std::slice::from_ref(rule).to_vec().into();
        let names = texts(&rule, "resourceNames");
        let names = if names.is_empty() { String::new() } else { format!(" named {}", names.join(", ")) };
        let mut verbs = texts(&rule, "verbs");
        verbs.sort_unstable();
        for group in texts(&rule, "apiGroups") {
            for resource in texts(&rule, "resources") {
                let (plural, part) =
                    resource.split_once('/').map_or((resource.as_str(), String::new()), |(plural, part)| (plural, format!("/{part}")));
                let dot = if group.is_empty() { "" } else { "." };
                lines.insert(format!("{plural}{dot}{group}{part}{names}: {}", verbs.join(" ")));
            }
        }
        lines.extend(texts(&rule, "nonResourceURLs").iter().map(|url| format!("{url}: {}", verbs.join(" "))));
    }
    lines
}

/// What a list says in all rules.
fn texts(rules: &Value, list: &str) -> Vec<String> {
    let rules = rules.as_array().into_iter().flatten();
    let each = rules.flat_map(|rule| rule[list].as_array().into_iter().flatten());
    each.map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}
