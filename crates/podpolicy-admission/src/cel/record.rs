//! The record of what is written, and whether the pod has room for it. Nothing in here comes from a user.

use k8s_openapi::api::admissionregistration::v1::Variable;
use podpolicy_api::APPLIED_ANNOTATION;
use podpolicy_engine::ANNOTATIONS_LIMIT;

use super::choice::{is_there, own_setting, path};
use super::tables::{Setting, SettingRow, Tables, variable, with};

/// The new record with everything, the one with settings only, and which of the two has room on the pod.
pub(super) fn records(tables: &Tables) -> Vec<Variable> {
    let mut variables = Vec::new();
    let entries = |writes: &str, own: &str, value: &str, was: &str| {
        let entry = format!(
            r#""\"" + t[r[0]] + "\":{{\"by\":\"" + names[r[1]] + "\",\"value\":\"" + t[r[{value}]] + (t[r[0]] in own ? "\",\"was\":" + {was} + "}}" : "\"}}")"#
        );
        let entries = with(
            "own",
            own,
            with("t", "variables.strings", with("names", "variables.names", format!("variables.{writes}.map(r, {entry})"))),
        );
        format!("size(variables.{writes}) == 0 ? [] : {entries}")
    };
    let mut labels = vec![old("recordedLabels")];
    if !tables.labels().is_empty() {
        labels.push("variables.labelEntries".to_owned());
        let was = r#""\"" + own[t[r[0]]] + "\"""#;
        variables.push(variable("labelEntries", entries("labelWrites", "variables.own", "2", was)));
    }
    let mut annotations = vec![old("recordedAnnotations")];
    if !tables.annotations().is_empty() {
        annotations.push("variables.annotationEntries".to_owned());
        let was = quoted("own[t[r[0]]]");
        variables.push(variable("annotationEntries", entries("annotationWrites", "variables.annotations", "3", &was)));
    }
    let mut entries = Vec::new();
    if !tables.grace_periods().is_empty() {
        entries.push(
            r#"variables.gracePeriodWrites.map(r, "\"terminationGracePeriodSeconds\":{\"by\":\"" + variables.names[r[0]] + "\"" + (variables.ownGracePeriod == 30 ? "}" : ",\"was\":" + string(variables.ownGracePeriod) + "}"))"#.to_owned(),
        );
    }
    entries.extend(tables.settings().map(|(setting, rows)| setting_entries(setting, rows)));
    let mut settings = vec![old("recordedSettings")];
    if !entries.is_empty() {
        settings.push("variables.settingEntries".to_owned());
        variables.push(variable("settingEntries", entries.join(" + ")));
    }
    let (labels, annotations, settings) = (labels.join(" + "), annotations.join(" + "), settings.join(" + "));
    variables.push(variable("fullRecord", record(&labels, &annotations, &settings)));
    variables.push(variable("recordOfSettings", record(&old("recordedLabels"), &old("recordedAnnotations"), &settings)));
    variables.extend(room(tables));
    variables
}

/// A part of the record on the pod, as a list.
fn old(part: &str) -> String {
    format!(r#"(variables.{part} == "" ? [] : [variables.{part}])"#)
}

/// A record of entries.
fn record(labels: &str, annotations: &str, settings: &str) -> String {
    let part = |name: &str, items: &str| format!(r#"[{items}].filter(l, size(l) > 0).map(l, "\"{name}\":{{" + l.join(",") + "}}")"#);
    let parts = [part("labels", labels), part("annotations", annotations), part("created", settings)];
    format!(r#"[{}].map(l, size(l) == 0 ? "" : "{{" + l.join(",") + "}}")[0]"#, parts.join(" + "))
}

/// The entries of one setting in the record.
fn setting_entries(setting: Setting, rows: &[SettingRow]) -> String {
    let (name, own) = (setting.name(), own_setting(setting));
    let was = if rows.iter().any(|row| row.replaces || row.tunes) {
        let json = match setting {
            Setting::Probe(_) => probe_json(&own),
            Setting::Hook(_) => hook_json(&own),
            Setting::StopSignal => quoted(&own),
        };
        format!(r#"({} ? ",\"was\":" + {json} + "}}" : "}}")"#, is_there(setting))
    } else {
        r#""}""#.to_owned()
    };
    format!(
        r#"variables.{name}.map(e, "\"containers[" + e.c.object.name + "]{}\":{{\"by\":\"" + variables.names[e.r[0]] + "\"" + {was})"#,
        path(setting)
    )
}

/// Whether the pod's annotations have room for everything, or for the record of settings at least.
fn room(tables: &Tables) -> [Variable; 3] {
    let bytes = |text: &str| format!("size(bytes({text}))");
    let old_record = bytes("variables.recordOnPod");
    let key_size = APPLIED_ANNOTATION.len();
    let fits = |record: &str, growth: &str| {
        let record = format!("variables.{record}");
        format!(
            r#"variables.annotationsSize + {growth} + ({record} == "" ? 0 : {} + ("{APPLIED_ANNOTATION}" in variables.annotations ? 0 : {key_size}) - {old_record}) <= {ANNOTATIONS_LIMIT}"#,
            bytes(&record),
        )
    };
    let growth = if tables.annotations().is_empty() {
        "0".to_owned()
    } else {
        let growth = format!(
            "(variables.annotationWrites.map(r, {value} + (t[r[0]] in own ? 0 - {was} : {key_size})) + [0]).sum()",
            value = bytes("t[r[2]]"),
            was = bytes("own[t[r[0]]]"),
            key_size = bytes("t[r[0]]"),
        );
        with("own", "variables.annotations", with("t", "variables.strings", growth))
    };
    // Nearly always this much is enough to know. A character has four bytes at most.
    let surely = format!(
        "variables.annotationsSize + {} + 4 * size(variables.fullRecord) <= {ANNOTATIONS_LIMIT}",
        key_size + tables.annotation_bytes()
    );
    [
        variable(
            "annotationsSize",
            format!(
                "size(variables.annotations) == 0 ? 0 : (variables.annotations.map(k, {} + {}) + [0]).sum()",
                bytes("k"),
                bytes("variables.annotations[k]")
            ),
        ),
        variable("hasRoomForAll", format!("{surely} || {}", fits("fullRecord", &growth))),
        variable("hasRoomForSettings", format!("variables.hasRoomForAll || {}", fits("recordOfSettings", "0"))),
    ]
}

/// A probe as JSON text.
fn probe_json(probe: &str) -> String {
    let grpc = format!(
        r#"["grpc"].filter(n, n in p).map(n, "\"grpc\":{{\"port\":" + string(p.grpc.port) + (has(p.grpc.service) ? ",\"service\":" + {} : "") + (has(p.grpc.mode) ? ",\"mode\":" + {} : "") + "}}")"#,
        quoted("p.grpc.service"),
        quoted("p.grpc.mode")
    );
    let tcp = format!(
        r#"["tcpSocket"].filter(n, n in p).map(n, "\"tcpSocket\":{{\"port\":" + {} + (has(p.tcpSocket.host) ? ",\"host\":" + {} : "") + "}}")"#,
        port_json("p.tcpSocket.port"),
        quoted("p.tcpSocket.host")
    );
    let numbers = r#"["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold", "terminationGracePeriodSeconds"].filter(n, n in p).map(n, "\"" + n + "\":" + string(p[n]))"#;
    object_json(probe, &[exec_json(), http_json(), tcp, grpc, numbers.to_owned()])
}

/// A hook as JSON text.
fn hook_json(hook: &str) -> String {
    let sleep = r#"["sleep"].filter(n, n in p).map(n, "\"sleep\":{\"seconds\":" + string(p.sleep.seconds) + "}")"#;
    object_json(hook, &[exec_json(), http_json(), sleep.to_owned()])
}

fn object_json(value: &str, parts: &[String]) -> String {
    format!(r#"[{value}].map(p, "{{" + ({}).join(",") + "}}")[0]"#, parts.join(" + "))
}

fn exec_json() -> String {
    format!(
        r#"["exec"].filter(n, n in p).map(n, "\"exec\":{{\"command\":[" + p.exec.?command.orValue([]).map(word, {}).join(",") + "]}}")"#,
        quoted("word")
    )
}

fn http_json() -> String {
    let optional = |name: &str| format!(r#"["{name}"].filter(n, n in h).map(n, "\"{name}\":" + {})"#, quoted(&format!("h.{name}")));
    let headers = format!(
        r#"["httpHeaders"].filter(n, n in h).map(n, "\"httpHeaders\":[" + h.httpHeaders.map(header, "{{\"name\":" + {} + ",\"value\":" + {} + "}}").join(",") + "]")"#,
        quoted("header.name"),
        quoted(r#"header.?value.orValue("")"#)
    );
    format!(
        r#"["httpGet"].filter(n, n in p).map(n, [p.httpGet].map(h, "\"httpGet\":{{" + (["\"port\":" + {}] + {} + {} + {} + {} + {headers}).join(",") + "}}")[0])"#,
        port_json("h.port"),
        optional("path"),
        optional("host"),
        optional("scheme"),
        optional("protocol"),
    )
}

fn port_json(port: &str) -> String {
    format!("(type({port}) == int ? string({port}) : {})", quoted(&format!("string({port})")))
}

/// A text as a JSON string.
fn quoted(text: &str) -> String {
    format!(
        concat!(
            r#""\"" + [string({text}).replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")]"#,
            r#".map(x, x.matches("[\\x00-\\x1f]") ? x.split("").map(one, variables.escapes[?one].orValue(one)).join("") : x)[0] + "\"""#
        ),
        text = text
    )
}
