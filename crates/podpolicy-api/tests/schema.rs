//! `docs/podpolicy.schema.json` is what the types say, takes every good policy, and refuses what the API server refuses by its schema.
//! `UPDATE=1 cargo test -p podpolicy-api` rewrites it.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use jsonschema::Validator;
use podpolicy_api::json_schema;
use serde_json::Value;

#[test]
fn schema_file_is_what_the_types_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/podpolicy.schema.json");
    let wanted = format!("{:#}\n", json_schema());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &wanted).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "{} is not what the types say: run `UPDATE=1 cargo test -p podpolicy-api`", file.display());
}

#[test]
fn samples_and_good_specs_are_taken() {
    let validator = validator();
    let policies = policies("../../config/samples").into_iter().chain(policies("tests/good-specs"));
    // Nulls are dropped by the API server, and worth a line in an editor.
    let policies = policies.filter(|(file, _)| !file.ends_with("nulls-in-maps.yaml"));
    let mut taken = 0;
    for (file, policy) in policies {
        let errors = errors(&validator, &policy);
        assert!(errors.is_empty(), "{}: {}", file.display(), errors.join("\n"));
        taken += 1;
    }
    assert!(taken >= 7, "only {taken} policies");
}

#[test]
fn typos_are_refused_where_they_are() {
    let validator = validator();
    for (what, place, words) in [
        ("spec: {selector: {}, containers: [{livenesProbe: {}}]}", "/spec/containers/0", "livenesProbe"),
        ("spec: {selector: {}, lables: {}}", "/spec", "lables"),
        ("spec: {selector: {}, priority: high}", "/spec/priority", "integer"),
        ("spec: {selector: {}, precedence: Polcy}", "/spec/precedence", "Polcy"),
        ("spec: {selector: {}, terminationGracePeriodSeconds: -1}", "/spec/terminationGracePeriodSeconds", "minimum"),
        ("spec: {labels: {}}", "/spec", "selector"),
        ("specc: {}, spec: {selector: {}}", "", "specc"),
        ("spec: {selector: {}, namespaceSelector: {}}", "/spec", "namespaceSelector"),
    ] {
        let policy = format!("{{apiVersion: podpolicy.dev/v1alpha1, kind: PodPolicy, metadata: {{name: a}}, {what}}}");
        let errors = errors(&validator, &serde_saphyr::from_str(&policy).unwrap());
        assert!(errors.iter().any(|error| error.starts_with(&format!("{place}: ")) && error.contains(words)), "{what}: {errors:?}");
    }
}

/// Rules in CEL are the API server's to check; what the schema itself refuses there, it refuses here as well.
#[test]
fn most_bad_specs_are_refused() {
    let validator = validator();
    let bad = policies("tests/bad-specs");
    let refused = bad.iter().filter(|(_, policy)| !errors(&validator, policy).is_empty()).count();
    assert!(refused * 2 > bad.len(), "{refused} of {}", bad.len());
}

fn validator() -> Validator {
    jsonschema::draft7::new(&json_schema()).unwrap()
}

/// What is wrong with a policy: the place in it, and the words.
fn errors(validator: &Validator, policy: &Value) -> Vec<String> {
    validator.iter_errors(policy).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The policies in a folder of this repository.
fn policies(folder: &str) -> Vec<(PathBuf, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The API server drops nulls; an editor may well mark them.
    files.retain(|file| file.file_name().is_some_and(|name| name != "kustomization.yaml" && name != "nulls.yaml"));
    files.sort();
    let read = |file: &PathBuf| serde_saphyr::from_multiple::<Value>(&fs::read_to_string(file).unwrap()).unwrap();
    files.iter().flat_map(|file| read(file).into_iter().map(|policy| (file.clone(), policy))).collect()
}
