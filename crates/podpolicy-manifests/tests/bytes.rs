//! What is kept to the byte: line endings, byte order marks, ends of texts; and what is told of texts that cannot be read.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod given;

use std::fmt::Write as _;

use given::rendered;
use podpolicy_manifests::{Manifest, Position};

const POLICY: &str = "
apiVersion: podpolicy.dev/v1alpha1
kind: ClusterPodPolicy
metadata: {name: standard}
spec: {selector: {matchLabels: {app: web}}, labels: {team: shop}, annotations: {note: hello}}
";

fn after(text: &str) -> String {
    let rendered = rendered(POLICY, text);
    assert!(rendered.problems.is_empty(), "{:?}", rendered.problems);
    rendered.text(text).unwrap_or_else(|| text.to_owned())
}

#[test]
fn line_endings_are_those_of_the_surroundings() {
    let text = "\u{feff}# a\r\nkind: Pod\r\napiVersion: v1\r\nmetadata:\r\n  labels:\r\n    app: web\r\nspec: {containers: [{name: web}]}\r\n---\r\na: b\r\n";
    let want = text.replace("    app: web\r\n", "    app: web\r\n    team: shop\r\n  annotations:\r\n    note: hello\r\n");
    assert_eq!(after(text), want);
}

#[test]
fn missing_final_newline_stays_missing() {
    let text = "kind: Pod\napiVersion: v1\nspec: {containers: [{name: web}]}\nmetadata:\n  labels:\n    app: web";
    assert_eq!(after(text), format!("{text}\n    team: shop\n  annotations:\n    note: hello"));
}

#[test]
fn block_scalar_at_the_end_of_a_mapping_keeps_its_text() {
    for (header, tail) in [
        ("|", "\n\n"),
        ("|-", "\n\n\n"),
        (">", "\n"),
        ("|+", "\n\n\n"),
        (">2+", "\n \n"),
        ("|  # note +", "\n\n"),
        ("|", ""),
        ("|", "\n         \n\n"),
        ("|2", "\n      more\n     \n"),
        ("|-", "\n      \n   \n"),
    ] {
        let end_of_line = if tail.ends_with('\n') { "" } else { "\n" };
        for next in [String::new(), format!("{end_of_line}  name: web\n")] {
            let text = format!(
                "kind: Pod\napiVersion: v1\nspec: {{containers: [{{name: web}}]}}\nmetadata:\n  labels: {{app: web}}\n  annotations:\n    long: {header}\n      some # text\n      more{tail}{next}"
            );
            let manifest = Manifest::parse(after(&text)).unwrap();
            let value = manifest.value(&manifest.documents()[0]).unwrap();
            let before = Manifest::parse(text).unwrap();
            let wanted = before.value(&before.documents()[0]).unwrap()["metadata"]["annotations"]["long"].clone();
            assert_eq!(value["metadata"]["annotations"], serde_json::json!({ "long": wanted, "note": "hello" }), "{header}{next}");
            assert_eq!(value["metadata"].get("name").is_some(), !next.is_empty(), "{header}");
        }
    }
}

#[test]
fn block_scalars_are_replaced_up_to_their_last_line_ending() {
    let policy = POLICY.replace("spec: {", "spec: {precedence: Policy, ");
    assert_ne!(policy, POLICY);
    for header in ["|", "|-", "|+", ">1+"] {
        for ending in ["\n", "\r\n"] {
            let around = |note: &str| {
                let text = format!(
                    "kind: Pod\napiVersion: v1\nmetadata:\n  labels: {{app: web, team: shop}}\n  annotations:\n    note: {note}\n    a: b\nspec: {{containers: [{{name: web}}]}}\n"
                );
                text.replace('\n', ending)
            };
            let before = around(&format!("{header}\n      x\n      y"));
            let rendered = rendered(&policy, &before);
            assert_eq!(rendered.text(&before).unwrap(), around("hello"), "{header} {ending:?} {rendered:?}");
        }
    }
}

#[test]
fn line_endings_of_old_machines_are_a_problem_around_a_document_too() {
    let text = "a: b\r---\nkind: Pod\napiVersion: v1\nmetadata: {labels: {app: web}}\nspec: {containers: [{name: web}]}\n";
    let problems: Vec<_> = rendered(POLICY, text).problems.iter().map(ToString::to_string).collect();
    let after = text.replace("a: b\r---\n", "").trim_end().to_owned() + "\r---\na: b\n";
    assert!(rendered(POLICY, &after).problems[0].message.contains("a carriage return"), "what is added would be in the next document");
    assert_eq!(problems, ["1:5: Pod default/: a carriage return without a line feed: save the file with line endings of Unix or Windows"]);
}

#[test]
fn line_endings_of_old_machines_are_a_problem() {
    let text = "kind: Pod\rapiVersion: v1\rmetadata:\r  labels: {app: web}\rspec: {containers: [{name: web}]}\r";
    let rendered = rendered(POLICY, text);
    assert!(
        rendered.text(text).is_none() && rendered.problems[0].message.contains("a carriage return without a line feed"),
        "{rendered:?}"
    );
}

#[test]
fn documents_of_all_endings_are_edited_apart() {
    let pod = "kind: Pod\napiVersion: v1\nmetadata: {labels: {app: web}}\nspec: {containers: [{name: web}]}\n";
    let text = format!("---\n{pod}...\n---\n\n# nothing\n---\n{pod}--- # third\n{pod}...\n");
    let wanted = text.replace("{app: web}", "{app: web, team: shop}, annotations: {note: hello}");
    assert_eq!(after(&text), wanted);
}

#[test]
fn texts_that_cannot_be_read_are_problems_with_a_position() {
    for (text, line, column, words) in [
        ("a: b\nc: [d\n", 2, 4, "not YAML"),
        ("a: b\n\u{0}", 2, 1, "NUL"),
        ("é: \"\u{0}", 1, 5, "NUL"),
        ("a: {{ .Values.a }}\nb: {{- end }}: }\n", 2, 6, "helm template"),
        ("a: *b\n", 1, 4, "not YAML"),
        ("a: &a [*a]\n", 1, 8, "no end"),
    ] {
        let problem = Manifest::parse(text.to_owned()).unwrap_err();
        assert!(problem.message.contains(words), "{text:?}: {problem}");
        assert_eq!(problem.position, Position { line, column }, "{text:?}: {problem}");
    }
}

#[test]
fn depth_and_aliases_have_bounds() {
    for deep in [
        "[".repeat(10_000),
        "{a: ".repeat(10_000),
        "- ".repeat(10_000),
        (0..10_000).map(|depth| " ".repeat(depth % 3000) + "a:\n").collect(),
    ] {
        assert!(Manifest::parse(deep).is_err());
    }
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let alias = format!("*a{}, ", level - 1);
        _ = writeln!(bomb, "a{level}: &a{level} [{}]", alias.repeat(10));
    }
    let manifest = Manifest::parse(bomb).unwrap();
    let problem = manifest.value(&manifest.documents()[0]).unwrap_err();
    assert!(problem.message.contains("aliases stand for more"), "{problem}");
    let mut chain = "a0: &a0 [x]\n".to_owned();
    for level in 1..2000 {
        _ = writeln!(chain, "a{level}: &a{level} [*a{}]", level - 1);
    }
    let manifest = Manifest::parse(chain).unwrap();
    assert!(manifest.value(&manifest.documents()[0]).is_err());
}

#[test]
fn numbers_that_json_does_not_know_are_a_problem_of_their_document() {
    let text = "kind: Pod\napiVersion: v1\nmetadata: {labels: {app: web}}\nspec: {containers: [{name: web}], x: -.inf}\n---\n.INF\n---\na: !!str .nan\n";
    let problems: Vec<_> = rendered(POLICY, text).problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["4:38: no number that JSON knows; put it in quotes", "6:1: no number that JSON knows; put it in quotes"]);
}

#[test]
fn plain_scalars_are_what_kubectl_takes_them_for() {
    let text = "[yes, 'yes', !!str yes, On, n, ~, , 017, 0o17, 0x1F, 1_000, 1.50, .5, 1e3, -3, 1.2.3, 2001-01-01, 12:30, 08, 18446744073709551615]";
    let manifest = Manifest::parse(text.replace("~, ,", "~, \"\",")).unwrap();
    let value = manifest.value(&manifest.documents()[0]).unwrap();
    let want = serde_json::json!([
        true,
        "yes",
        "yes",
        true,
        false,
        null,
        "",
        15,
        15,
        31,
        1000,
        1.5,
        0.5,
        1000.0,
        -3,
        "1.2.3",
        "2001-01-01",
        "12:30",
        8.0,
        18_446_744_073_709_551_615_u64
    ]);
    assert_eq!(value, want);
}
