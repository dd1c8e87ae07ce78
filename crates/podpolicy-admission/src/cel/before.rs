//! What is there before the policies are looked at. Nothing in here comes from a user.

use k8s_openapi::api::admissionregistration::v1::Variable;
use podpolicy_api::APPLIED_ANNOTATION;

use super::tables::variable;

/// What is there before the policies are looked at: the pod's own labels, and what an earlier pass over the pod recorded.
pub(super) fn before() -> Vec<Variable> {
    vec![
        variable("namespaceLabels", "namespaceObject.metadata.?labels.orValue({})"),
        variable("labels", "object.metadata.?labels.orValue({})"),
        variable("annotations", "object.metadata.?annotations.orValue({})"),
        variable("recordOnPod", format!("variables.annotations[?\"{APPLIED_ANNOTATION}\"].orValue(\"\")")),
        // Only a record as it is written here is read; any other text counts as none, and is replaced.
        variable(
            "record",
            r#"variables.recordOnPod.matches("(?s)^\\{\"(labels|annotations|created)\":\\{\".+\\}\\}\\}$") ? variables.recordOnPod : """#,
        ),
        // The three parts of the record without their braces. A quote inside of a JSON string has a backslash before it, so that the
        // boundaries are found by their quotes.
        variable(
            "recordedLabels",
            r#"variables.record.startsWith("{\"labels\":{") ? variables.record.substring(11, variables.record.indexOf("\"}}") + 2) : """#,
        ),
        variable(
            "recordedAnnotations",
            r#"variables.record == "" ? "" : [variables.record.startsWith("{\"annotations\":{") ? 16 : variables.record.indexOf("\"}},\"annotations\":{") + 19].map(start, start < 19 && start != 16 ? "" : variables.record.indexOf("\"}},\"created\":{") >= start ? variables.record.substring(start, variables.record.indexOf("\"}},\"created\":{") + 2) : variables.record.substring(start, size(variables.record) - 2))[0]"#,
        ),
        variable(
            "recordedSettings",
            r#"variables.record == "" ? "" : [variables.record.startsWith("{\"created\":{") ? 12 : variables.record.indexOf("\"}},\"created\":{") + 15].map(start, start < 15 && start != 12 ? "" : variables.record.substring(start, size(variables.record) - 2))[0]"#,
        ),
        // Key, whether there was a value before, and which.
        variable(
            "recordedLabelEntries",
            r#"variables.recordedLabels == "" ? [] : variables.recordedLabels.substring(1, size(variables.recordedLabels) - 2).split("\"},\"").map(x, x.contains("\",\"was\":\"") ? [x.split("\":{\"by\":\"")[0], "yes", x.split("\",\"was\":\"")[1]] : [x.split("\":{\"by\":\"")[0], "no", ""])"#,
        ),
        variable(
            "own",
            r#"variables.recordedLabels == "" ? variables.labels : (variables.labels.map(k, [k, variables.labels[k]]).filter(e, !variables.recordedLabelEntries.exists(r, r[0] == e[0])) + variables.recordedLabelEntries.filter(r, r[1] == "yes").map(r, [r[0], r[2]])).transformMapEntry(i, e, {e[0]: e[1]})"#,
        ),
        // Characters that JSON wants escaped and that are rare.
        variable("escapes", escapes()),
    ]
}

fn escapes() -> String {
    let entries: Vec<_> = (0..0x20).map(|code| format!(r#""\u{code:04x}": "\\u{code:04x}""#)).collect();
    format!("{{{}}}", entries.join(", "))
}
