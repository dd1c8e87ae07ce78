//! Findings for programs.

use podpolicy_manifests::{Finding, Severity};
use serde_json::json;

use super::report::{Report, Told};

pub(super) fn print(report: &Report) -> String {
    let findings: Vec<_> = report
        .told
        .iter()
        .map(|Told { file, line: _, finding }| {
            let Finding { rule, place, object, field, message } = finding;
            json!({
                "rule": rule.id,
                "severity": rule.severity.to_string(),
                "file": file,
                "line": place.start.line,
                "column": place.start.column,
                "endLine": place.end.line,
                "endColumn": place.end.column,
                "object": object,
                "field": field,
                "message": message,
                "remedy": rule.remedy,
            })
        })
        .collect();
    let [errors, warnings, notes] = Severity::ALL.map(|severity| report.count(severity));
    let summary = json!({ "files": report.files.len(), "errors": errors, "warnings": warnings, "notes": notes });
    format!("{:#}\n", json!({ "findings": findings, "summary": summary }))
}
