//! The expressions that read the tables. They say in CEL what `podpolicy_engine` says in Rust about a pod that is created; a
//! differential test on a real API server holds the two together. Nothing in here comes from a user.
//!
//! Names in expressions: `c` a container, `e` an entry, `k` a key, `r` a row (its columns are those in `tables`), `x` any text.

use k8s_openapi::api::admissionregistration::v1::Variable;
use podpolicy_api::APPLIED_ANNOTATION;
use podpolicy_engine::{ANNOTATIONS_LIMIT, HookKind};

use super::tables::{Setting, SettingShape, Shape, variable};

/// Whether the pod may have probes from policies.
const ALWAYS_RESTARTS: &str = r#"object.spec.?restartPolicy.orValue("Always") == "Always""#;

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

/// What the policies make of the pod, given the tables and the selection.
pub(super) fn decisions(shape: &Shape) -> Vec<Variable> {
    let mut variables = Vec::new();
    if shape.has_labels {
        variables.push(variable(
            "labelWrites",
            r#"variables.labelRows.filter(rows, !variables.recordedLabelEntries.exists(e, e[0] == variables.strings[rows[0][1]])).map(rows, rows.filter(r, variables.selected[r[0]] && (variables.strings[r[1]] in variables.own ? (variables.own[variables.strings[r[1]]] == variables.strings[r[2]] || r[5] == 1) : r[4] == 1))).filter(rows, size(rows) > 0).map(rows, rows[0]).filter(r, !(variables.strings[r[1]] in variables.own) || (r[3] == 1 && variables.own[variables.strings[r[1]]] != variables.strings[r[2]] && variables.own[variables.strings[r[1]]].matches("^[-A-Za-z0-9_.]*$")))"#,
        ));
    }
    if shape.has_annotations {
        variables.push(variable(
            "annotationWrites",
            r#"variables.annotationRows.filter(rows, !variables.recordedAnnotations.contains("\"" + variables.strings[rows[0][1]] + "\":{\"by\":\"")).map(rows, rows.filter(r, variables.selected[r[0]])).filter(rows, size(rows) > 0).map(rows, rows[0]).filter(r, r[5] == 0 && (!(variables.strings[r[1]] in variables.annotations) || (r[4] == 1 && variables.annotations[variables.strings[r[1]]] != variables.strings[r[2]])))"#,
        ));
    }
    if shape.has_grace_period || !shape.settings.is_empty() {
        variables.push(variable("containers", containers(&shape.globs)));
        variables.push(variable("ownGracePeriod", "object.spec.?terminationGracePeriodSeconds.orValue(30)"));
    }
    if shape.has_grace_period {
        // The shortest grace period that the hooks on the pod leave room for.
        variables.push(variable(
            "shortestGracePeriod",
            "(variables.containers.map(c, int(c.object.?lifecycle.preStop.sleep.seconds.orValue(-1)) + 1) + variables.containers.map(c, int(c.object.?lifecycle.postStart.sleep.seconds.orValue(0))) + [0]).max()",
        ));
        // An earlier pass judged it by the hooks that the workload declares, some of which are gone by now.
        variables.push(variable(
            "gracePeriodWrites",
            r#"["\"terminationGracePeriodSeconds", "].lifecycle.postStart", "].lifecycle.preStop"].exists(x, variables.recordedSettings.contains(x + "\":{\"by\":\"")) ? [] : [variables.gracePeriodRows.filter(r, variables.selected[r[0]] && (r[1] >= variables.ownGracePeriod || (variables.ownGracePeriod != 30 && r[2] == 0) || r[1] >= variables.shortestGracePeriod))].filter(rows, size(rows) > 0).map(rows, rows[0]).filter(r, r[1] != variables.ownGracePeriod && (variables.ownGracePeriod == 30 || r[2] == 1))"#,
        ));
        variables.push(variable(
            "gracePeriod",
            "size(variables.gracePeriodWrites) > 0 ? variables.gracePeriodWrites[0][1] : variables.ownGracePeriod",
        ));
    } else if !shape.settings.is_empty() {
        variables.push(variable("gracePeriod", "variables.ownGracePeriod"));
    }
    variables.extend(shape.settings.iter().map(setting_writes));
    variables.extend(records(shape));
    variables
}

/// Containers that may have probes and hooks: where they are, and which conditions on names hold.
fn containers(globs: &str) -> String {
    let of = |list: &str, condition: &str| {
        format!(
            r#"object.spec.?{list}.orValue([]).transformList(i, c, {condition}, {{"path": dyn("/spec/{list}/" + string(i)), "object": dyn(c), "globs": dyn({globs})}})"#
        )
    };
    format!("{} + {}", of("containers", "true"), of("initContainers", r#"c.?restartPolicy.orValue("") == "Always""#))
}

/// For each container that gets the setting: the container and the row. First the rows whose policy selects the pod; for each
/// container those that concern it; of these, those that are allowed; of these, the first; and that if it changes anything.
fn setting_writes(shape: &SettingShape) -> Variable {
    let name = shape.setting.name();
    let mut conditions = Vec::new();
    if shape.has_ports {
        conditions.push(
            r#"(r[3] == 0 || e.c.object.?ports.orValue([]).exists(port, port.?name.orValue("") == variables.strings[r[3]]))"#.to_owned(),
        );
    }
    let own = own_setting(shape.setting);
    let replaces = format!("e.r[4] == 1 && {own} != variables.values[e.r[2]]");
    let (concerns_pod, is_changed) = match shape.setting {
        Setting::Probe(_) if shape.tunes => {
            conditions.push(format!(r#"(r[5] == 0 || "{name}" in e.c.object)"#));
            let tunes = format!("size({}) > 0", tuned_numbers(name));
            (ALWAYS_RESTARTS, format!("(e.r[5] == 0 ? {replaces} : {tunes})"))
        }
        Setting::Probe(_) => (ALWAYS_RESTARTS, replaces),
        Setting::Hook(kind) => {
            let fits = match kind {
                HookKind::PostStart => "r[6] <= variables.gracePeriod",
                HookKind::PreStop => "r[6] < variables.gracePeriod",
            };
            conditions.push(format!("(r[6] < 0 || {fits})"));
            ("true", replaces)
        }
    };
    let allowed = if conditions.is_empty() {
        String::new()
    } else {
        format!(r#".map(e, {{"c": dyn(e.c), "rows": dyn(e.rows.filter(r, {}))}})"#, conditions.join(" && "))
    };
    let expression = format!(
        concat!(
            r#"[variables.{name}Rows.filter(r, variables.selected[r[0]])].map(rows, size(rows) == 0 || !({concerns_pod}) ? [] : "#,
            r#"variables.containers.filter(c, !variables.recordedSettings.contains("\"containers[" + c.object.name + "]{path}\":{{\"by\":\""))"#,
            r#".map(c, {{"c": dyn(c), "rows": dyn(rows.filter(r, c.globs[r[1]]))}})"#,
            r#"{allowed}"#,
            r#".filter(e, size(e.rows) > 0).map(e, {{"c": dyn(e.c), "r": dyn(e.rows[0])}})"#,
            r#".filter(e, !({is_there}) || ({is_changed})))[0]"#,
        ),
        name = name,
        concerns_pod = concerns_pod,
        path = path(shape.setting),
        allowed = allowed,
        is_there = is_there(shape.setting),
        is_changed = is_changed,
    );
    variable(name, expression)
}

/// The path of the setting in a container, as records write it.
fn path(setting: Setting) -> String {
    match setting {
        Setting::Probe(kind) => format!(".{}", kind.field_name()),
        Setting::Hook(kind) => format!(".lifecycle.{}", kind.field_name()),
    }
}

/// The container's own setting.
fn own_setting(setting: Setting) -> String {
    format!("e.c.object{}", path(setting))
}

/// Whether the container has the setting.
fn is_there(setting: Setting) -> String {
    match setting {
        Setting::Probe(kind) => format!(r#""{}" in e.c.object"#, kind.field_name()),
        Setting::Hook(kind) => format!(r#""{}" in e.c.object.?lifecycle.orValue({{}})"#, kind.field_name()),
    }
}

/// The names of the numbers that tuning changes in the container's own probe.
fn tuned_numbers(kind: &str) -> String {
    let own = format!("int(e.c.object.{kind}[?n].orValue(0))");
    // Kubernetes' defaults; zero stands for absent, as what is absent reads as zero.
    let default = r#"{"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}[?n].orValue(0)"#;
    format!("variables.values[e.r[2]].filter(n, {own} != int(variables.values[e.r[2]][n]) && (e.r[4] == 1 || {own} == {default}))")
}

/// The new record with everything, the one with settings only, and which of the two has room on the pod.
fn records(shape: &Shape) -> Vec<Variable> {
    let mut variables = Vec::new();
    let mut labels = vec![old("recordedLabels")];
    if shape.has_labels {
        labels.push("variables.labelEntries".to_owned());
        let entry = r#""\"" + variables.strings[r[1]] + "\":{\"by\":\"" + variables.names[r[0]] + "\",\"value\":\"" + variables.strings[r[2]] + "\"" + (variables.strings[r[1]] in variables.own ? ",\"was\":\"" + variables.own[variables.strings[r[1]]] + "\"}" : "}")"#;
        variables.push(variable("labelEntries", format!("variables.labelWrites.map(r, {entry})")));
    }
    let mut annotations = vec![old("recordedAnnotations")];
    if shape.has_annotations {
        annotations.push("variables.annotationEntries".to_owned());
        let entry = format!(
            r#""\"" + variables.strings[r[1]] + "\":{{\"by\":\"" + variables.names[r[0]] + "\",\"value\":\"" + variables.strings[r[3]] + "\"" + (variables.strings[r[1]] in variables.annotations ? ",\"was\":" + {} + "}}" : "}}")"#,
            quoted("variables.annotations[variables.strings[r[1]]]")
        );
        variables.push(variable("annotationEntries", format!("variables.annotationWrites.map(r, {entry})")));
    }
    let mut entries = Vec::new();
    if shape.has_grace_period {
        entries.push(
            r#"variables.gracePeriodWrites.map(r, "\"terminationGracePeriodSeconds\":{\"by\":\"" + variables.names[r[0]] + "\"" + (variables.ownGracePeriod == 30 ? "}" : ",\"was\":" + string(variables.ownGracePeriod) + "}"))"#.to_owned(),
        );
    }
    entries.extend(shape.settings.iter().map(setting_entries));
    let mut settings = vec![old("recordedSettings")];
    if !entries.is_empty() {
        settings.push("variables.settingEntries".to_owned());
        variables.push(variable("settingEntries", entries.join(" + ")));
    }
    let (labels, annotations, settings) = (labels.join(" + "), annotations.join(" + "), settings.join(" + "));
    variables.push(variable("fullRecord", record(&labels, &annotations, &settings)));
    variables.push(variable("recordOfSettings", record(&old("recordedLabels"), &old("recordedAnnotations"), &settings)));
    variables.extend(room(shape));
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
fn setting_entries(shape: &SettingShape) -> String {
    let (name, own) = (shape.setting.name(), own_setting(shape.setting));
    let was = if shape.replaces {
        let json = match shape.setting {
            Setting::Probe(_) => probe_json(&own),
            Setting::Hook(_) => hook_json(&own),
        };
        format!(r#"({} ? ",\"was\":" + {json} + "}}" : "}}")"#, is_there(shape.setting))
    } else {
        r#""}""#.to_owned()
    };
    format!(
        r#"variables.{name}.map(e, "\"containers[" + e.c.object.name + "]{}\":{{\"by\":\"" + variables.names[e.r[0]] + "\"" + {was})"#,
        path(shape.setting)
    )
}

/// Whether the pod's annotations have room for everything, or for the record of settings at least.
fn room(shape: &Shape) -> [Variable; 3] {
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
    let key = "variables.strings[r[1]]";
    let growth = if shape.has_annotations {
        format!(
            "(variables.annotationWrites.map(r, {value} + ({key} in variables.annotations ? 0 - {was} : {key_size})) + [0]).sum()",
            value = bytes("variables.strings[r[2]]"),
            was = bytes(&format!("variables.annotations[{key}]")),
            key_size = bytes(key),
        )
    } else {
        "0".to_owned()
    };
    [
        variable(
            "annotationsSize",
            format!("(variables.annotations.map(k, {} + {}) + [0]).sum()", bytes("k"), bytes("variables.annotations[k]")),
        ),
        variable("hasRoomForAll", fits("fullRecord", &growth)),
        variable("hasRoomForSettings", format!("variables.hasRoomForAll || {}", fits("recordOfSettings", "0"))),
    ]
}

/// The whole: a JSON patch.
pub(super) fn patch(shape: &Shape) -> String {
    let add = |path: &str, value: &str| format!("JSONPatch{{op: \"add\", path: {path}, value: {value}}}");
    let map = |map: &str, writes: &str| {
        let entry = add(&format!(r#""/metadata/{map}/" + jsonpatch.escapeKey(variables.strings[r[1]])"#), "variables.strings[r[2]]");
        format!("variables.{writes}.map(r, {entry})")
    };
    let record = |record: &str| {
        let path = format!(r#""/metadata/annotations/" + jsonpatch.escapeKey("{APPLIED_ANNOTATION}")"#);
        let entry = add(&path, &format!("variables.{record}"));
        format!("(variables.{record} == variables.record ? [] : [{entry}])")
    };
    let empty = |map: &str, is_unchanged: &str| {
        format!("(size(variables.{map}) > 0 || {is_unchanged} ? [] : [{}])", add(&format!("\"/metadata/{map}\""), "{}"))
    };
    let mut metadata = vec![empty("annotations", "variables.fullRecord == variables.record"), record("fullRecord")];
    if shape.has_annotations {
        metadata.push(map("annotations", "annotationWrites"));
    }
    if shape.has_labels {
        metadata.push(empty("labels", "size(variables.labelWrites) == 0"));
        metadata.push(map("labels", "labelWrites"));
    }
    let only_record = [empty("annotations", "variables.recordOfSettings == variables.record"), record("recordOfSettings")];
    let mut patch = vec![format!("(variables.hasRoomForAll ? {} : {})", metadata.join(" + "), only_record.join(" + "))];
    if shape.has_grace_period {
        patch.push(format!("variables.gracePeriodWrites.map(r, {})", add("\"/spec/terminationGracePeriodSeconds\"", "r[1]")));
    }
    let hooks = shape.settings.iter().filter(|shape| matches!(shape.setting, Setting::Hook(_)));
    let gets_hook: Vec<_> = hooks.map(|shape| format!("variables.{}.exists(e, e.c.path == c.path)", shape.setting.name())).collect();
    if !gets_hook.is_empty() {
        patch.push(format!(
            "variables.containers.filter(c, !has(c.object.lifecycle) && ({})).map(c, {})",
            gets_hook.join(" || "),
            add(r#"c.path + "/lifecycle""#, "{}")
        ));
    }
    patch.extend(shape.settings.iter().map(|shape| {
        let target = path(shape.setting).replace('.', "/");
        let value = if shape.tunes {
            format!("e.r[5] == 0 ? dyn(variables.values[e.r[2]]) : dyn({})", tuned(shape.setting.name()))
        } else {
            "variables.values[e.r[2]]".to_owned()
        };
        format!("variables.{}.map(e, {})", shape.setting.name(), add(&format!(r#"e.c.path + "{target}""#), &value))
    }));
    format!(
        r#""kubernetes.io/config.mirror" in variables.annotations || !variables.selected.exists(s, s) || !variables.hasRoomForSettings ? [] : {}"#,
        patch.join(" + "),
    )
}

/// The container's own probe, but for the numbers that are tuned.
fn tuned(name: &str) -> String {
    format!(
        concat!(
            r#"[{tuned}].map(tuned, (e.c.object.{name}.filter(n, !(n in tuned)).map(n, {{"name": dyn(n), "value": dyn(e.c.object.{name}[n])}})"#,
            r#" + tuned.map(n, {{"name": dyn(n), "value": dyn(variables.values[e.r[2]][n])}})).transformMapEntry(i, entry, {{string(entry.name): entry.value}}))[0]"#
        ),
        tuned = tuned_numbers(name),
        name = name,
    )
}

/// What the object adds to a dry run of writing a policy's status, so that one can see that it is in force: a condition with
/// its name and content. `kind` and `message` are literals.
pub(super) fn marker(kind: &str, message: &str) -> String {
    let condition = format!(
        r#"{{"type": {kind}, "status": "True", "reason": "DryRun", "message": {message}, "lastTransitionTime": "2026-01-01T00:00:00Z"}}"#
    );
    format!(
        concat!(
            r#"!request.dryRun || object.?status.conditions.orValue([]).exists(c, c.type == {kind}) ? [] : "#,
            r#"(has(object.status) ? [] : [JSONPatch{{op: "add", path: "/status", value: {{}}}}])"#,
            r#" + (has(object.status) && has(object.status.conditions) ? [] : [JSONPatch{{op: "add", path: "/status/conditions", value: []}}])"#,
            r#" + [JSONPatch{{op: "add", path: "/status/conditions/-", value: {condition}}}]"#
        ),
        kind = kind,
        condition = condition,
    )
}

/// A probe as JSON text.
fn probe_json(probe: &str) -> String {
    let grpc = format!(
        r#"["grpc"].filter(n, n in p).map(n, "\"grpc\":{{\"port\":" + string(p.grpc.port) + (has(p.grpc.service) ? ",\"service\":" + {} : "") + "}}")"#,
        quoted("p.grpc.service")
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
        r#"["httpGet"].filter(n, n in p).map(n, [p.httpGet].map(h, "\"httpGet\":{{" + (["\"port\":" + {}] + {} + {} + {} + {headers}).join(",") + "}}")[0])"#,
        port_json("h.port"),
        optional("path"),
        optional("host"),
        optional("scheme"),
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

fn escapes() -> String {
    let entries: Vec<_> = (0..0x20).map(|code| format!(r#""\u{code:04x}": "\\u{code:04x}""#)).collect();
    format!("{{{}}}", entries.join(", "))
}
