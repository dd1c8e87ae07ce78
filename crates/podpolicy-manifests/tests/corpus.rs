//! What must be true of every manifest, tried on those in `corpus/`, which are written as people write them: with policies that fill in, that
//! replace, that tune, and that concern nothing.
//!
//! A file whose documents cannot all be edited says so in `REFUSED`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "the helpers of these tests are as much test as the tests")]

mod given;
mod invariants;

use std::{collections::BTreeMap, fs, path::Path};

use given::{NAMESPACE, program};
use invariants::after;
use podpolicy_engine::Program;
use podpolicy_manifests::{Manifest, Rendered, render};

/// Fills in what pods lack.
const FILL: &str = r##"
apiVersion: podpolicy.dev/v1alpha1
kind: ClusterPodPolicy
metadata: {name: fill}
spec:
  selector: {}
  labels: {team: shop, app.kubernetes.io/part-of: "no"}
  annotations: {example.com/note: "two\n\n  lines: \"# x\"", tier: "1"}
  terminationGracePeriodSeconds: 60
  containers:
  - names: ["web*", "a"]
    readinessProbe: {httpGet: {path: /ready, port: 8080, httpHeaders: [{name: Accept, value: "*/*"}]}, periodSeconds: 5}
    lifecycle: {preStop: {exec: {command: [sh, -c, "sleep 5; echo 'done'"]}}}
  - livenessProbe: {tcpSocket: {port: 9000}}
    startupProbe: {failureThreshold: 30}
"##;

/// Replaces what pods say.
const REPLACE: &str = r##"
apiVersion: podpolicy.dev/v1alpha1
kind: ClusterPodPolicy
metadata: {name: replace}
spec:
  selector: {}
  precedence: Policy
  labels: {tier: "#1", team: "yes"}
  annotations: {a: "- b"}
  terminationGracePeriodSeconds: 45
  containers:
  - livenessProbe: {httpGet: {path: /alive, port: 8080}, timeoutSeconds: 7}
    readinessProbe: {exec: {command: [test, -f, /tmp/ready]}}
    lifecycle: {preStop: {sleep: {seconds: 4}}, postStart: {exec: {command: ["true"]}}}
"##;

/// Tunes the probes that are there.
const TUNE: &str = r"
apiVersion: podpolicy.dev/v1alpha1
kind: ClusterPodPolicy
metadata: {name: tune}
spec:
  selector: {}
  precedence: Policy
  containers:
  - livenessProbe: {periodSeconds: 17, failureThreshold: 9}
    readinessProbe: {timeoutSeconds: 3}
    startupProbe: {initialDelaySeconds: 1, periodSeconds: 2}
";

/// Of two policies, one for some pods only.
const SOME: &str = r#"
apiVersion: podpolicy.dev/v1alpha1
kind: PodPolicy
metadata: {name: some, namespace: default}
spec: {selector: {matchExpressions: [{key: app, operator: Exists}]}, annotations: {oncall: "a@example.com"}, containers: [{lifecycle: {preStop: {sleep: {seconds: 2}}}}]}
---
apiVersion: podpolicy.dev/v1alpha1
kind: ClusterPodPolicy
metadata: {name: all}
spec: {selector: {}, labels: {environment: test}, annotations: {oncall: "b@example.com"}}
"#;

/// Concerns nothing.
const NONE: &str = r"
apiVersion: podpolicy.dev/v1alpha1
kind: ClusterPodPolicy
metadata: {name: none}
spec: {selector: {matchLabels: {nobody: has-this}}, precedence: Policy, labels: {team: shop}, terminationGracePeriodSeconds: 1}
";

const SETS: [(&str, &str); 5] = [("fill", FILL), ("replace", REPLACE), ("tune", TUNE), ("some", SOME), ("none", NONE)];

/// Problems that files are to have: the file, and words of the message.
const REFUSED: [(&str, &str); 4] = [
    ("refused.yaml", "labels[a]: a string is wanted, not null"),
    ("refused.yaml", "a string is wanted, not "),
    ("refused.yaml", "a key that is marked with a question mark"),
    ("refused.yaml", "a policy changes what has an anchor here"),
];

/// All files of the corpus with their texts.
fn corpus() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())).collect()
}

/// Tries something on every file with every set of policies.
fn each(mut check: impl FnMut(&str, &str, &Manifest, &Program, &Rendered)) {
    let mut number = 0;
    for (file, text) in corpus() {
        let manifest = Manifest::parse(text).unwrap_or_else(|problem| panic!("{file}:{problem}"));
        number += manifest.documents().len();
        for (set, policies) in SETS {
            let program = program(policies, &[&manifest]);
            check(set, &file, &manifest, &program, &render(&manifest, &program, NAMESPACE));
        }
    }
    assert!(number >= 200, "only {number} documents");
}

#[test]
fn every_document_can_be_edited() {
    let mut told = Vec::new();
    each(|set, file, _, _, rendered| {
        let unexpected =
            rendered.problems.iter().filter(|problem| !REFUSED.iter().any(|(of, words)| *of == file && problem.message.contains(words)));
        told.extend(unexpected.map(|problem| format!("{set} {file}:{problem}")));
    });
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn what_comes_out_means_what_the_engine_decided() {
    let mut written = 0;
    each(|set, file, manifest, program, rendered| {
        println!("{set} {file}");
        if !rendered.problems.is_empty() {
            return;
        }
        written += invariants::means_what_was_decided(manifest, program, NAMESPACE, &after(manifest, rendered));
    });
    assert!(written > 500, "only {written} settings");
}

#[test]
fn rendered_again_nothing_changes() {
    each(|set, file, manifest, program, rendered| {
        println!("{set} {file}");
        invariants::is_done(program, NAMESPACE, &after(manifest, rendered));
    });
}

#[test]
fn what_no_policy_concerns_comes_out_byte_for_byte() {
    each(|set, file, manifest, _, rendered| assert!(set != "none" || rendered.text(manifest.text()).is_none(), "{file}"));
}

#[test]
fn only_lines_that_carry_a_change_differ() {
    each(|set, file, manifest, _, rendered| {
        println!("{set} {file}");
        let diff = rendered.diff(manifest.text(), 3);
        invariants::diff_tells_it_all(manifest.text(), &diff, &after(manifest, rendered));
        invariants::line_endings_stay(manifest.text(), &after(manifest, rendered));
        // What fills in takes nothing away, no comment above all.
        for gone in diff.lines().filter_map(|line| line.strip_prefix('-')).filter(|_| set == "fill" || set == "some") {
            // The last line of a text can have no end, and gets one; and what was last in JSON gets a comma.
            let has_stayed =
                diff.lines().filter_map(|line| line.strip_prefix('+')).any(|line| line.replace(',', "") == gone.replace(',', ""));
            let has_stayed = has_stayed || diff.lines().any(|line| keeps_its_end(gone, line));
            assert!(has_stayed || may_be_written_anew(gone), "{gone:?}\n{diff}");
            let comment = gone.split_once(" #").map_or("", |(_, comment)| comment);
            assert!(diff.lines().any(|line| line.starts_with('+') && line.ends_with(comment)), "{comment:?} is lost\n{diff}");
        }
    });
}

/// Whether a line begins the same block scalar, told to have no line ending at its end, as it had none at the end of the text.
fn keeps_its_end(gone: &str, line: &str) -> bool {
    gone.ends_with(['|', '>', '+']) && line.strip_prefix('+') == Some(&format!("{}-", gone.trim_end_matches('+')))
}

/// Whether a line can be written anew by what fills in: it has a brace or an empty value, or a number that is Kubernetes' default.
fn may_be_written_anew(line: &str) -> bool {
    let text = line.trim().split(" #").next().unwrap_or_default().trim_end();
    let is_empty = text.ends_with(':') || text.ends_with(": null") || text.ends_with(": ~");
    let is_default = ["Seconds: 30", "Seconds: 0o36", "Threshold: 3"].iter().any(|number| text.ends_with(number));
    is_empty || is_default || text.contains(['{', '}', '[', ']', '*'])
}
