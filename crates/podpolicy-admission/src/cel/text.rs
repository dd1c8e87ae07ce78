//! The expressions that read the tables. They say in CEL what `podpolicy_engine` says in Rust about a pod that is created; a
//! differential test on a real API server holds the two together. Nothing in here comes from a user.
//!
//! Names in expressions: `c` a container, `e` an entry, `k` a key, `r` a row (its columns are those in `tables`), `x` any text.

use podpolicy_engine::{HookKind, ProbeKind};

use super::tables::Variable;

/// Columns of rows for probes and hooks.
const KIND_OF_CHANGE: &str = "r[6]";

/// What is there before the policies are looked at: the pod's own labels, and what an earlier pass over the pod recorded.
pub(super) fn before() -> Vec<Variable> {
    vec![
        Variable::new("namespaceLabels", "namespaceObject.metadata.?labels.orValue({})"),
        Variable::new("labels", "object.metadata.?labels.orValue({})"),
        Variable::new("annotations", "object.metadata.?annotations.orValue({})"),
        // Only a record as it is written here is read; any other text counts as none, and is replaced.
        Variable::new(
            "record",
            r#"[variables.annotations[?"podpolicy.dev/applied"].orValue("")].map(x, x.matches("(?s)^\\{\"(labels|annotations|created)\":\\{\".+\\}\\}\\}$") ? x : "")[0]"#,
        ),
        // The three parts of the record without their braces. A quote inside of a JSON string has a backslash before it, so that the
        // boundaries are found by their quotes.
        Variable::new(
            "recordedLabels",
            r#"variables.record.startsWith("{\"labels\":{") ? variables.record.substring(11, variables.record.indexOf("\"}}") + 2) : """#,
        ),
        Variable::new(
            "recordedAnnotations",
            r#"[variables.record.startsWith("{\"annotations\":{") ? 16 : variables.record.indexOf("\"}},\"annotations\":{") + 19].map(start, start < 19 && start != 16 ? "" : variables.record.indexOf("\"}},\"created\":{") >= start ? variables.record.substring(start, variables.record.indexOf("\"}},\"created\":{") + 2) : variables.record.substring(start, size(variables.record) - 2))[0]"#,
        ),
        Variable::new(
            "recordedSettings",
            r#"[variables.record.startsWith("{\"created\":{") ? 12 : variables.record.indexOf("\"}},\"created\":{") + 15].map(start, start < 15 && start != 12 ? "" : variables.record.substring(start, size(variables.record) - 2))[0]"#,
        ),
        // Key, whether there was a value before, and which.
        Variable::new(
            "recordedLabelEntries",
            r#"variables.recordedLabels == "" ? [] : variables.recordedLabels.substring(1, size(variables.recordedLabels) - 2).split("\"},\"").map(x, x.contains("\",\"was\":\"") ? [x.split("\":{\"by\":\"")[0], "yes", x.split("\",\"was\":\"")[1]] : [x.split("\":{\"by\":\"")[0], "no", ""])"#,
        ),
        Variable::new(
            "own",
            r#"variables.recordedLabels == "" ? variables.labels : (variables.labels.map(k, [k, variables.labels[k]]).filter(e, !variables.recordedLabelEntries.exists(r, r[0] == e[0])) + variables.recordedLabelEntries.filter(r, r[1] == "yes").map(r, [r[0], r[2]])).transformMapEntry(i, e, {e[0]: e[1]})"#,
        ),
        // Characters that JSON wants escaped and that are rare.
        Variable::new("escapes", escapes()),
    ]
}

/// What the policies make of the pod, given the tables, the selection, and the conditions on containers' names.
pub(super) fn decisions(globs: &str) -> Vec<Variable> {
    let mut variables = vec![
        Variable::new(
            "labelWrites",
            r#"variables.labelRows.filter(rows, !variables.recordedLabelEntries.exists(e, e[0] == variables.strings[rows[0][1]])).map(rows, rows.filter(r, variables.selected[r[0]] && (variables.strings[r[1]] in variables.own ? (variables.own[variables.strings[r[1]]] == variables.strings[r[2]] || r[5] == 1) : r[4] == 1))).filter(rows, size(rows) > 0).map(rows, rows[0]).filter(r, !(variables.strings[r[1]] in variables.own) || (r[3] == 1 && variables.own[variables.strings[r[1]]] != variables.strings[r[2]] && variables.own[variables.strings[r[1]]].matches("^[-A-Za-z0-9_.]*$")))"#,
        ),
        Variable::new(
            "annotationWrites",
            r#"variables.annotationRows.filter(rows, !variables.recordedAnnotations.contains("\"" + variables.strings[rows[0][1]] + "\":{\"by\":\"")).map(rows, rows.filter(r, variables.selected[r[0]])).filter(rows, size(rows) > 0).map(rows, rows[0]).filter(r, r[5] == 0 && (!(variables.strings[r[1]] in variables.annotations) || (r[4] == 1 && variables.annotations[variables.strings[r[1]]] != variables.strings[r[2]])))"#,
        ),
        Variable::new("containers", containers(globs)),
        Variable::new("ownGracePeriod", "object.spec.?terminationGracePeriodSeconds.orValue(30)"),
        // The shortest grace period that the hooks on the pod leave room for.
        Variable::new(
            "shortestGracePeriod",
            "(variables.containers.map(c, int(c.object.?lifecycle.preStop.sleep.seconds.orValue(-1)) + 1) + variables.containers.map(c, int(c.object.?lifecycle.postStart.sleep.seconds.orValue(0))) + [0]).max()",
        ),
        Variable::new(
            "gracePeriodWrites",
            r#"variables.recordedSettings.contains("\"terminationGracePeriodSeconds\":{\"by\":\"") ? [] : [variables.gracePeriodRows.filter(r, variables.selected[r[0]] && (r[1] >= variables.ownGracePeriod || (variables.ownGracePeriod != 30 && r[2] == 0) || r[1] >= variables.shortestGracePeriod))].filter(rows, size(rows) > 0).map(rows, rows[0]).filter(r, r[1] != variables.ownGracePeriod && (variables.ownGracePeriod == 30 || r[2] == 1))"#,
        ),
        Variable::new(
            "gracePeriod",
            "size(variables.gracePeriodWrites) > 0 ? variables.gracePeriodWrites[0][1] : variables.ownGracePeriod",
        ),
        Variable::new(
            "defaults",
            r#"{"initialDelaySeconds": 0, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3, "terminationGracePeriodSeconds": 0}"#,
        ),
    ];
    variables.extend(ProbeKind::ALL.map(probe_writes));
    variables.extend(HookKind::ALL.map(hook_writes));
    variables.extend(records());
    variables
}

/// Containers that may have probes and hooks: where they are, and which conditions on names hold.
fn containers(globs: &str) -> String {
    let of = |list: &str, condition: &str| {
        format!(r#"object.spec.?{list}.orValue([]).transformList(i, c, {condition}, {{"path": dyn("/spec/{list}/" + string(i)), "object": dyn(c), "globs": dyn({globs})}})"#)
    };
    format!("{} + {}", of("containers", "true"), of("initContainers", r#"c.?restartPolicy.orValue("") == "Always""#))
}

/// For each container that gets a probe of this kind: the container and the row.
fn probe_writes(kind: ProbeKind) -> Variable {
    let kind = kind.field_name();
    let is_changed = format!(
        r#"!("{kind}" in e.c.object) || (e.r[6] == 0 ? e.r[5] == 1 && e.c.object.{kind} != variables.values[e.r[3]] : size({}) > 0)"#,
        tuned_numbers(kind)
    );
    let is_possible = format!(r#"object.spec.?restartPolicy.orValue("Always") == "Always" && ({KIND_OF_CHANGE} == 0 || "{kind}" in e.c.object)"#);
    Variable::new(kind, setting_writes(kind, &format!(".{kind}"), &is_possible, &is_changed))
}

/// For each container that gets a hook of this kind: the container and the row.
fn hook_writes(kind: HookKind) -> Variable {
    let fits = match kind {
        HookKind::PostStart => "r[7] <= variables.gracePeriod",
        HookKind::PreStop => "r[7] < variables.gracePeriod",
    };
    let kind = kind.field_name();
    let is_changed = format!(
        r#"!("{kind}" in e.c.object.?lifecycle.orValue({{}})) || (e.r[5] == 1 && e.c.object.lifecycle.{kind} != variables.values[e.r[3]])"#
    );
    Variable::new(kind, setting_writes(kind, &format!(".lifecycle.{kind}"), &format!("(r[7] < 0 || {fits})"), &is_changed))
}

/// For each container: the rows whose policy selects the pod and whose names match; of these, those that are allowed and that no
/// earlier rule of the same policy hides; of these, the first; and that if it changes anything.
fn setting_writes(kind: &str, path: &str, is_possible: &str, is_changed: &str) -> String {
    format!(
        concat!(
            r#"size(variables.{kind}Rows) == 0 ? [] : "#,
            r#"variables.containers.filter(c, !variables.recordedSettings.contains("\"containers[" + c.object.name + "]{path}\":{{\"by\":\""))"#,
            r#".map(c, {{"c": dyn(c), "rows": dyn(variables.{kind}Rows.filter(r, variables.selected[r[0]] && c.globs[r[2]]))}})"#,
            r#".map(e, {{"c": dyn(e.c), "rows": dyn(e.rows.filter(r, r[6] != 2"#,
            r#" && (r[4] == 0 || e.c.object.?ports.orValue([]).exists(port, port.?name.orValue("") == variables.strings[r[4]]))"#,
            r#" && {is_possible} && !e.rows.exists(earlier, earlier[0] == r[0] && earlier[1] < r[1])))}})"#,
            r#".filter(e, size(e.rows) > 0).map(e, {{"c": dyn(e.c), "r": dyn(e.rows[0])}})"#,
            r#".filter(e, {is_changed})"#,
        ),
        kind = kind,
        path = path,
        is_possible = is_possible,
        is_changed = is_changed,
    )
}

/// The names of the numbers that tuning changes in the container's own probe.
fn tuned_numbers(kind: &str) -> String {
    let own = format!("int(e.c.object.{kind}[?n].orValue(0))");
    format!("variables.values[e.r[3]].filter(n, {own} != int(variables.values[e.r[3]][n]) && (e.r[5] == 1 || {own} == variables.defaults[n]))")
}

/// The new record with everything, the one with settings only, and which of the two has room on the pod.
fn records() -> Vec<Variable> {
    let label = r#""\"" + variables.strings[r[1]] + "\":{\"by\":\"" + variables.names[r[0]] + "\",\"value\":\"" + variables.strings[r[2]] + "\"" + (variables.strings[r[1]] in variables.own ? ",\"was\":\"" + variables.own[variables.strings[r[1]]] + "\"}" : "}")"#;
    let annotation = format!(
        r#""\"" + variables.strings[r[1]] + "\":{{\"by\":\"" + variables.names[r[0]] + "\",\"value\":\"" + variables.strings[r[3]] + "\"" + (variables.strings[r[1]] in variables.annotations ? ",\"was\":" + {} + "}}" : "}}")"#,
        quoted("variables.annotations[variables.strings[r[1]]]")
    );
    let part = |name: &str, items: &str| format!(r#"[{items}].filter(l, size(l) > 0).map(l, "\"{name}\":{{" + l.join(",") + "}}")"#);
    let old = |part: &str| format!(r#"(variables.{part} == "" ? [] : [variables.{part}])"#);
    let record = |labels: &str, annotations: &str, settings: &str| {
        let parts = [part("labels", labels), part("annotations", annotations), part("created", settings)];
        format!(r#"[{}].map(l, size(l) == 0 ? "" : "{{" + l.join(",") + "}}")[0]"#, parts.join(" + "))
    };
    let with_new = |old_part: &str, new: &str| format!("{} + variables.{new}", old(old_part));
    let mut settings = vec![
        r#"variables.gracePeriodWrites.map(r, "\"terminationGracePeriodSeconds\":{\"by\":\"" + variables.names[r[0]] + "\"" + (variables.ownGracePeriod == 30 ? "}" : ",\"was\":" + string(variables.ownGracePeriod) + "}"))"#.to_owned(),
    ];
    settings.extend(ProbeKind::ALL.map(|kind| {
        let kind = kind.field_name();
        created(kind, &format!(".{kind}"), &format!(r#""{kind}" in e.c.object"#), &probe_json(&format!("e.c.object.{kind}")))
    }));
    settings.extend(HookKind::ALL.map(|kind| {
        let kind = kind.field_name();
        let is_there = format!(r#""{kind}" in e.c.object.?lifecycle.orValue({{}})"#);
        created(kind, &format!(".lifecycle.{kind}"), &is_there, &hook_json(&format!("e.c.object.lifecycle.{kind}")))
    }));
    let bytes = |text: &str| format!("size(bytes({text}))");
    let fits = |record: &str, writes: &str| {
        format!(
            r#"variables.annotationsSize + {writes} + (variables.{record} == "" ? 0 : {new} + ("podpolicy.dev/applied" in variables.annotations ? 0 : 21) - {old}) <= 262144"#,
            new = bytes(&format!("variables.{record}")),
            old = bytes(r#"variables.annotations[?"podpolicy.dev/applied"].orValue("")"#),
        )
    };
    let key = "variables.strings[r[1]]";
    let growth = format!(
        "(variables.annotationWrites.map(r, {value} + ({key} in variables.annotations ? 0 - {was} : {key_size})) + [0]).sum()",
        value = bytes("variables.strings[r[2]]"),
        was = bytes(&format!("variables.annotations[{key}]")),
        key_size = bytes(key),
    );
    vec![
        Variable::new("labelEntries", format!("variables.labelWrites.map(r, {label})")),
        Variable::new("annotationEntries", format!("variables.annotationWrites.map(r, {annotation})")),
        Variable::new("settingEntries", settings.join(" + ")),
        Variable::new(
            "fullRecord",
            record(
                &with_new("recordedLabels", "labelEntries"),
                &with_new("recordedAnnotations", "annotationEntries"),
                &with_new("recordedSettings", "settingEntries"),
            ),
        ),
        Variable::new(
            "recordOfSettings",
            record(&old("recordedLabels"), &old("recordedAnnotations"), &with_new("recordedSettings", "settingEntries")),
        ),
        Variable::new(
            "annotationsSize",
            format!("(variables.annotations.map(k, {} + {}) + [0]).sum()", bytes("k"), bytes("variables.annotations[k]")),
        ),
        Variable::new("hasRoomForAll", fits("fullRecord", &growth)),
        Variable::new("hasRoomForSettings", format!("variables.hasRoomForAll || {}", fits("recordOfSettings", "0"))),
    ]
}

/// The entries of one kind of setting in the record.
fn created(kind: &str, path: &str, is_there: &str, json: &str) -> String {
    format!(
        r#"variables.{kind}.map(e, "\"containers[" + e.c.object.name + "]{path}\":{{\"by\":\"" + variables.names[e.r[0]] + "\"" + ({is_there} ? ",\"was\":" + {json} + "}}" : "}}"))"#
    )
}

/// The whole: a JSON patch.
pub(super) fn patch() -> String {
    let add = |path: &str, value: &str| format!("JSONPatch{{op: \"add\", path: {path}, value: {value}}}");
    let map = |map: &str, writes: &str| {
        let entry = add(&format!(r#""/metadata/{map}/" + jsonpatch.escapeKey(variables.strings[r[1]])"#), "variables.strings[r[2]]");
        format!("variables.{writes}.map(r, {entry})")
    };
    let record = |record: &str| {
        let entry = add(r#""/metadata/annotations/" + jsonpatch.escapeKey("podpolicy.dev/applied")"#, &format!("variables.{record}"));
        // A pass that adds nothing leaves the record as it is, also one that was written elsewhere.
        format!(r#"(variables.{record} == variables.record ? [] : [{entry}])"#)
    };
    let empty = |map: &str, condition: &str| format!("(size(variables.{map}) > 0 || {condition} ? [] : [{}])", add(&format!("\"/metadata/{map}\""), "{}"));
    let metadata = [
        empty("labels", "size(variables.labelWrites) == 0"),
        map("labels", "labelWrites"),
        empty("annotations", "variables.fullRecord == variables.record"),
        map("annotations", "annotationWrites"),
        record("fullRecord"),
    ];
    let only_record = [empty("annotations", "variables.recordOfSettings == variables.record"), record("recordOfSettings")];
    let mut settings =
        vec![format!("variables.gracePeriodWrites.map(r, {})", add("\"/spec/terminationGracePeriodSeconds\"", "r[1]"))];
    settings.extend(ProbeKind::ALL.map(|kind| {
        let kind = kind.field_name();
        let tuned = tuned_numbers(kind);
        // The own probe, but for the numbers that are tuned.
        let merged = format!(
            concat!(
                r#"[{tuned}].map(tuned, (e.c.object.{kind}.filter(n, !(n in tuned)).map(n, {{"name": dyn(n), "value": dyn(e.c.object.{kind}[n])}})"#,
                r#" + tuned.map(n, {{"name": dyn(n), "value": dyn(variables.values[e.r[3]][n])}})).transformMapEntry(i, entry, {{string(entry.name): entry.value}}))[0]"#
            ),
            tuned = tuned,
            kind = kind,
        );
        let value = format!("e.r[6] == 0 ? dyn(variables.values[e.r[3]]) : dyn({merged})");
        format!("variables.{kind}.map(e, {})", add(&format!(r#"e.c.path + "/{kind}""#), &value))
    }));
    let gets_hook = HookKind::ALL.map(|kind| format!("variables.{}.exists(e, e.c.path == c.path)", kind.field_name())).join(" || ");
    settings.push(format!(
        "variables.containers.filter(c, !has(c.object.lifecycle) && ({gets_hook})).map(c, {})",
        add(r#"c.path + "/lifecycle""#, "{}")
    ));
    settings.extend(HookKind::ALL.map(|kind| {
        let kind = kind.field_name();
        format!("variables.{kind}.map(e, {})", add(&format!(r#"e.c.path + "/lifecycle/{kind}""#), "variables.values[e.r[3]]"))
    }));
    format!(
        r#""kubernetes.io/config.mirror" in variables.annotations || !variables.selected.exists(s, s) || !variables.hasRoomForSettings ? [] : (variables.hasRoomForAll ? {} : {}) + {}"#,
        metadata.join(" + "),
        only_record.join(" + "),
        settings.join(" + "),
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
