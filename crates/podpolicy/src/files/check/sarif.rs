//! Findings as SARIF 2.1.0, which code scanning of forges and editors read.

use std::fmt::Write as _;

use podpolicy_manifests::{Finding, Rule, Severity};
use serde_json::{Value, json};

use super::report::{Report, Told};

pub(super) fn print(report: &Report) -> String {
    let rules: Vec<_> = Rule::all().collect();
    let results: Vec<_> = report.told.iter().map(|told| result(told, &rules)).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": {
                    "name": "podpolicy",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": rules.iter().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
                },
            },
            "invocations": [{ "executionSuccessful": !report.is_incomplete() }],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn descriptor(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "shortDescription": { "text": rule.summary },
        "fullDescription": { "text": rule.why },
        "help": { "text": rule.remedy },
        "defaultConfiguration": { "level": level(rule.severity) },
    })
}

fn result(told: &Told, rules: &[&'static Rule]) -> Value {
    let Finding { rule, place, object, .. } = &told.finding;
    let mut location = json!({
        "physicalLocation": {
            "artifactLocation": { "uri": uri(&told.file) },
            "region": {
                "startLine": place.start.line,
                "startColumn": place.start.column,
                "endLine": place.end.line,
                "endColumn": place.end.column,
            },
        },
    });
    if !object.is_empty() {
        location["logicalLocations"] = json!([{ "fullyQualifiedName": object, "kind": "object" }]);
    }
    json!({
        "ruleId": rule.id,
        "ruleIndex": rules.iter().position(|known| known == rule),
        "level": level(rule.severity),
        "message": { "text": format!("{}. {}", told.text(), rule.remedy) },
        "locations": [location],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// A path as a reference in the sense of RFC 3986; a path that is not absolute stays relative.
fn uri(path: &str) -> String {
    let mut uri = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.trim_start_matches("./").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            other => _ = write!(uri, "%{other:02X}"),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn paths_become_references() {
        for (path, wanted) in [
            ("./shop/web.yaml", "shop/web.yaml"),
            ("a b/ü.yaml", "a%20b/%C3%BC.yaml"),
            ("/srv/a:b.yaml", "file:///srv/a%3Ab.yaml"),
            ("../a.yaml", "../a.yaml"),
        ] {
            assert_eq!(uri(path), wanted);
        }
    }
}
