//! What the API server refuses and accepts by the definitions, the program does as well, without a cluster:
//! `crates/podpolicy-api/tests/bad-specs/` and `good-specs/`, and `config/samples/`. That the API server does is tested in e2e.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod folder;

use std::{
    fs,
    path::{Path, PathBuf},
};

use folder::{Folder, POD, POLICY, Ran};

#[test]
fn bad_specs_are_refused_with_the_field_and_what_is_allowed() {
    let (folder, files) = (Folder::with(&[]), files("crates/podpolicy-api/tests/bad-specs"));
    for file in &files {
        folder.write(&format!("specs/{}.yaml", stem(file)), fs::read(file).unwrap());
    }
    let ran = folder.run("compile -p specs", "");
    ran.has(2, "");
    let mut wrong = Vec::new();
    for file in &files {
        let start = format!("podpolicy: error: specs/{}.yaml:", stem(file));
        let told: Vec<_> = ran.stderr.lines().filter(|line| line.starts_with(&start)).collect();
        let message = plain(&told.join("\n"));
        let text = fs::read_to_string(file).unwrap();
        let missing: Vec<_> = wants(stem(file), &text).filter(|want| !message.contains(&plain(want))).collect();
        if told.is_empty() || !missing.is_empty() {
            wrong.push(format!("{}: no {missing:?} in {told:?}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} bad specs:\n{}", wrong.len(), files.len(), wrong.join("\n"));
}

#[test]
fn good_specs_and_samples_are_accepted() {
    let folder = Folder::with(&[]);
    for file in files("crates/podpolicy-api/tests/good-specs").into_iter().chain(files("config/samples")) {
        let ran = folder.run("compile -p -", &fs::read_to_string(&file).unwrap());
        assert_eq!(ran.code, Some(0), "{}: {}", file.display(), ran.stderr);
    }
}

#[test]
fn every_command_refuses_what_the_api_server_does() {
    let mistaken = POLICY.to_owned() + "  containers: [{livenessProbe: {httpGet: {port: 80}, successThreshold: 3}}]\n";
    let folder = Folder::with(&[("p.yaml", &mistaken), ("a.yaml", POD)]);
    let told = "p.yaml:8:54: ClusterPodPolicy standard: spec.containers[0].livenessProbe.successThreshold: must be 1";
    for command in ["render -p p.yaml a.yaml", "diff p.yaml a.yaml", "compile -p p.yaml", "explain -f a.yaml --policy p.yaml"] {
        folder.run(command, "").has(2, "").tells(told);
    }
    let checked = folder.run("check p.yaml a.yaml", "");
    assert_eq!(checked.code, Some(1), "{}", checked.stderr);
    assert!(checked.stdout.contains("error[invalid-policy]: ClusterPodPolicy standard: spec.containers[0].livenessProbe.successThreshold"));
}

#[test]
fn all_mistakes_are_told_in_the_order_of_the_lines() {
    let folder = Folder::with(&[(
        "p.yaml",
        "apiVersion: podpolicy.dev/v1alpha1
kind: PodPolicy
metadata: {name: Bad_Name, namespace: shop, labels: {a b: c}}
spec:
  priority: 2000
  labels: {a: not valid!, b: 5}
  containers:
  - names: [Web*]
    livenessProbe: {}
  unknown: {}
---
apiVersion: podpolicy.dev/v1alpha1
kind: PodPolicy
metadata: {name: second}
",
    )]);
    let ran = folder.run("compile -p p.yaml", "");
    let places: Vec<_> = ran.stderr.lines().filter_map(|line| Some(line.strip_prefix("podpolicy: error: p.yaml:")?.to_owned())).collect();
    let starts = [
        "3:12: PodPolicy Bad_Name: metadata.name: \"Bad_Name\" is no name",
        "3:45: PodPolicy Bad_Name: metadata.labels: key \"a b\"",
        "4:1: PodPolicy Bad_Name: spec.selector: Required value",
        "5:3: PodPolicy Bad_Name: spec.priority: should be less than or equal to 1000, not 2000",
        "6:12: PodPolicy Bad_Name: spec.labels[a]: a label value is empty, or",
        "6:27: PodPolicy Bad_Name: spec.labels[b]: must be of type string, not 5; put it in quotes",
        "8:13: PodPolicy Bad_Name: spec.containers[0].names[0]: a glob over container names",
        "9:5: PodPolicy Bad_Name: spec.containers[0].livenessProbe: an empty probe says nothing",
        "10:3: PodPolicy Bad_Name: spec.unknown: unknown field",
        "12:1: PodPolicy second: spec: Required value",
    ];
    assert_eq!(places.len(), starts.len(), "{}", ran.stderr);
    for (place, start) in places.iter().zip(starts) {
        assert!(place.starts_with(start), "{place}");
    }
}

#[test]
fn nulls_say_nothing() {
    let nulls = POLICY.replace("{team: shop}", "{team: shop, none: }").replace("selector: {}", "selector:\n    matchLabels: null");
    let folder = Folder::with(&[("p.yaml", &nulls), ("a.yaml", POD)]);
    folder.run("render -p p.yaml a.yaml", "").has(0, folder::RENDERED);
    folder.write("p.yaml", POLICY.replace("{team: shop}", "null"));
    folder.run("render -p p.yaml a.yaml", "").has(0, &folder::RENDERED.replace("  labels:\n    team: shop\n", ""));
    folder.write("p.yaml", POLICY.replace("selector: {}", "selector: null"));
    folder.run("render -p p.yaml a.yaml", "").has(2, "").tells("p.yaml:5:3: ClusterPodPolicy standard: spec.selector: Required value");
}

#[test]
fn unknown_kinds_and_versions_of_the_group_are_mistakes() {
    let kind = format!("{POLICY}---\n{}", POLICY.replace("kind: ClusterPodPolicy", "kind: ClusterPodPolciy"));
    let version = format!("{POLICY}---\n{}", POLICY.replace("v1alpha1", "v1alpha2"));
    let folder = Folder::with(&[("kind.yaml", &kind), ("version.yaml", &version), ("a.yaml", POD)]);
    let ran = folder.run("diff kind.yaml version.yaml a.yaml", "");
    ran.has(2, "").tells(
        "kind.yaml:10:1: ClusterPodPolciy standard: kind: podpolicy.dev has no kind ClusterPodPolciy; did you mean ClusterPodPolicy?",
    );
    ran.tells("version.yaml:9:1: ClusterPodPolicy standard: apiVersion: podpolicy.dev/v1alpha2 is not known; did you mean podpolicy.dev/v1alpha1?");
}

#[test]
fn escapes_in_keys_are_not_passed_on() {
    let folder = Folder::with(&[("p.yaml", &POLICY.replace("{team: shop}", "{\"a\\e[2J\\nb\": c}"))]);
    folder.run("compile -p p.yaml", "").has(2, "").tells("spec.labels: key \"a\\u{1b}[2J\\nb\": a key is a name");
}

#[test]
fn paths_without_manifests_are_told() {
    let folder = Folder::with(&[
        ("policy.yaml", POLICY),
        ("m/done.yaml", folder::RENDERED),
        ("values/values.yaml", "a: 1\n"),
        ("empty/note.txt", ""),
    ]);
    for command in ["diff -p policy.yaml", "render -p policy.yaml", "check --fail-on error -p policy.yaml"] {
        let told = |ran: &Ran| ran.stderr.matches("no manifests in").count();
        for (paths, warnings) in [("m", 0), ("empty", 1), ("values values/values.yaml m", 2), (". empty", 1)] {
            let ran = folder.run(&format!("{command} {paths}"), "");
            assert_eq!((ran.code, told(&ran)), (Some(0), warnings), "{command} {paths}: {}", ran.stderr);
        }
        let ran = folder.run(&format!("{command} -"), " \n");
        assert_eq!(ran.code, Some(2), "{command} -: {}", ran.stderr);
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains("nothing came"), "{command} -: {}", ran.stderr);
        folder.run(&format!("{command} ./empty"), "").tells("warning: no manifests in ./empty\n");
        assert_eq!(told(&folder.run(&format!("{command} -p empty m"), "")), 1, "{command}");
    }
}

/// What the API server's message must have, and the program's as well.
fn wants<'a>(name: &str, text: &'a str) -> impl Iterator<Item = &'a str> {
    // The API server takes what is in the map for unknown fields, before it sees that it is no list.
    let says_more = name == "containers-as-map";
    let wants = text.lines().map_while(|line| line.strip_prefix("# want: "));
    wants.map(move |want| if says_more && want == "unknown field" { "must be of type array, not a map" } else { want })
}

/// Without what differs on purpose: the API server writes a key of a map after a dot, the program in brackets, and the words
/// before what a message is about.
fn plain(message: &str) -> String {
    message.replace("Invalid value: ", "").replace("].", ".").replace(']', "").replace('[', ".")
}

fn stem(file: &Path) -> &str {
    file.file_stem().unwrap().to_str().unwrap()
}

/// The files in a folder of this repository.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.file_name().is_some_and(|name| name != "kustomization.yaml"));
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}
