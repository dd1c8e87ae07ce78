//! `config/samples/` and `bad-specs/`, as far as files and types can tell. That the API server accepts the samples and the specs
//! in `good-specs/`, and refuses the bad ones in the words that they want, is tested in e2e.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use podpolicy_api::{ClusterPodPolicy, PodPolicy};
use serde_json::Value;

#[test]
fn every_sample_parses_and_has_no_unknown_field() {
    let samples = policies("../../config/samples");
    assert!(samples.len() >= 6, "only {} samples", samples.len());
    for file in samples {
        let text = fs::read_to_string(&file).unwrap();
        let (given, parsed) = parse(&file, &text);
        let lost = lost(&given, &parsed, String::new());
        assert!(lost.is_empty(), "{}: the types do not know {}", file.display(), lost.join(", "));
        let comment = text.lines().next().and_then(|line| line.strip_prefix("# "));
        assert!(comment.is_some_and(|comment| comment.ends_with('.')), "{}: the first line says what it does", file.display());
    }
}

#[test]
fn every_bad_spec_says_what_the_api_server_should() {
    let files = policies("tests/bad-specs");
    assert!(files.len() >= 45, "only {} bad specs", files.len());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let wants: Vec<_> = text.lines().map_while(|line| line.strip_prefix("# want: ")).collect();
        assert!(wants.len() >= 2 && wants[0].starts_with("spec"), "{}: wants a field and what is allowed, not {wants:?}", file.display());
        let given: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(["PodPolicy", "ClusterPodPolicy"].map(Value::from).contains(&given["kind"]), "{}", file.display());
        assert_eq!(given["metadata"]["name"].as_str(), file.file_stem().and_then(|stem| stem.to_str()), "{}", file.display());
    }
}

#[test]
fn every_sample_is_in_the_kustomization() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/samples");
    let kustomization: Value = serde_saphyr::from_str(&fs::read_to_string(folder.join("kustomization.yaml")).unwrap()).unwrap();
    let listed: Vec<_> = kustomization["resources"].as_array().unwrap().iter().map(|file| file.as_str().unwrap().to_owned()).collect();
    let there: Vec<_> =
        policies("../../config/samples").iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(listed, there);
}

/// The files with policies in a folder of this repository, in order.
fn policies(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.file_name().is_some_and(|name| name != "kustomization.yaml"));
    files.sort();
    files
}

/// What the file says, and what the types make of it.
fn parse(file: &Path, text: &str) -> (Value, Value) {
    let given: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parsed = match given["kind"].as_str() {
        Some("PodPolicy") => serde_json::from_value::<PodPolicy>(given.clone()).map(|policy| serde_json::to_value(policy).unwrap()),
        Some("ClusterPodPolicy") => {
            serde_json::from_value::<ClusterPodPolicy>(given.clone()).map(|policy| serde_json::to_value(policy).unwrap())
        }
        kind => panic!("{}: kind {kind:?}", file.display()),
    };
    (given, parsed.unwrap_or_else(|error| panic!("{}: {error}", file.display())))
}

/// The fields of `given` that `parsed` does not have, or has with another value.
fn lost(given: &Value, parsed: &Value, path: String) -> Vec<String> {
    match (given, parsed) {
        (Value::Object(given), Value::Object(parsed)) => {
            given.iter().flat_map(|(key, value)| lost(value, parsed.get(key).unwrap_or(&Value::Null), format!("{path}.{key}"))).collect()
        }
        (Value::Array(given), Value::Array(parsed)) if given.len() == parsed.len() => given
            .iter()
            .zip(parsed)
            .enumerate()
            .flat_map(|(index, (given, parsed))| lost(given, parsed, format!("{path}[{index}]")))
            .collect(),
        (given, parsed) if given == parsed => Vec::new(),
        _ => vec![path],
    }
}
