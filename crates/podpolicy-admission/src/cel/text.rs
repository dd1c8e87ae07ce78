//! The expressions that decide. They say in CEL what `podpolicy_engine` says in Rust about a pod that is created; a
//! differential test on a real API server holds the two together. Nothing in here comes from a user.
//!
//! Names in expressions: `c` a container, `e` an entry, `k` a key, `own` what the pod has itself, `r` a row, `s` which policies select
//! the pod, `t` the texts of policies, `x` any text.

use k8s_openapi::api::admissionregistration::v1::Variable;
use podpolicy_api::APPLIED_ANNOTATION;
use podpolicy_engine::{ANNOTATIONS_LIMIT, HookKind};

use super::tables::{AnnotationRow, GracePeriodRow, LabelRow, Setting, SettingRow, Tables, chunked, chunked_within, variable, with};

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

/// What the policies make of the pod, given the selection.
pub(super) fn decisions(tables: &Tables, limit: usize) -> Vec<Variable> {
    let mut variables = Vec::new();
    if !tables.labels().is_empty() {
        let mut keys = Keys::default();
        tables.labels().iter().for_each(|(key, rows)| keys.add_label(*key, rows));
        writes(&mut variables, "label", ("variables.own", "variables.recordedLabels"), keys, limit);
    }
    if !tables.annotations().is_empty() {
        let mut keys = Keys::default();
        tables.annotations().iter().for_each(|(key, rows)| keys.add_annotation(*key, rows));
        writes(&mut variables, "annotation", ("variables.annotations", "variables.recordedAnnotations"), keys, limit);
    }
    let has_settings = tables.settings().next().is_some();
    if !tables.grace_periods().is_empty() || has_settings {
        variables.push(variable("containers", containers(tables.conditions())));
        variables.push(variable("ownGracePeriod", "object.spec.?terminationGracePeriodSeconds.orValue(30)"));
    }
    if !tables.grace_periods().is_empty() {
        variables.extend(grace_period_write(tables.grace_periods()));
    } else if has_settings {
        variables.push(variable("gracePeriod", "variables.ownGracePeriod"));
    }
    for (setting, rows) in tables.settings() {
        setting_writes(&mut variables, setting, rows, limit);
    }
    variables.extend(records(tables));
    variables
}

/// How many conditions follow each other in one expression: the API server's parser goes no deeper than 250.
const LONGEST_CHAIN: usize = 50;

/// How long an expression of conditions gets before the next one begins: what the API server takes to check the types in an expression grows
/// with the square of their number.
const CHAINS_LIMIT: usize = 1_500;

/// The number of the first row whose condition holds, or else -1. What comes after it is not evaluated, but for every `LONGEST_CHAIN`th.
fn first(links: impl IntoIterator<Item = (String, String)>) -> String {
    let links: Vec<_> = links.into_iter().collect();
    match chains(&links).as_slice() {
        [chain] => chain.clone(),
        chains => format!("([{}].filter(n, n >= 0) + [-1])[0]", chains.join(", ")),
    }
}

fn chains(links: &[(String, String)]) -> Vec<String> {
    if links.is_empty() {
        return vec!["-1".to_owned()];
    }
    let chain = |links: &[(String, String)]| {
        let links = links.iter().flat_map(|(condition, result)| [condition, " ? ", result, " : "]);
        links.chain(["-1"]).collect()
    };
    links.chunks(LONGEST_CHAIN).map(chain).collect()
}

/// The variables that say which rows are written, given an expression for the number of the row for each key. `t` are the strings, `s`
/// says which policies select the pod, `own` is what the pod has itself, `old` is what an earlier pass recorded.
fn writes(variables: &mut Vec<Variable>, kind: &str, (own, old): (&str, &str), keys: Keys, limit: usize) {
    let within = |expression| with("own", own, with("t", "variables.strings", expression));
    chunked(variables, &format!("{kind}Rows"), keys.rows.into_iter(), limit);
    chunked_within(variables, &format!("{kind}Numbers"), keys.numbers.into_iter(), CHAINS_LIMIT, |list| {
        within(with("old", old, with("s", "variables.selected", list)))
    });
    // A row that replaces is written where it changes something.
    let is_label = if kind == "label" { r#" && own[t[r[0]]].matches("^[-A-Za-z0-9_.]*$")"# } else { "" };
    let is_changed = format!("!(t[r[0]] in own) || (own[t[r[0]]] != t[r[2]]{is_label})");
    let rows = with("rows", &format!("variables.{kind}Rows"), format!("variables.{kind}Numbers.filter(n, n >= 0).map(n, rows[n])"));
    variables.push(variable(format!("{kind}Writes"), format!("{rows}.filter(r, {})", within(is_changed))));
}

/// The rows of all keys, and for each key the number of the row that takes it, or -1 if it stays as it is.
#[derive(Default)]
struct Keys {
    rows: Vec<String>,
    numbers: Vec<String>,
}

impl Keys {
    /// Adds a key, given its rows, and what takes it where the pod lacks it, and where the pod has it.
    fn add(&mut self, key: usize, rows: impl Iterator<Item = String>, if_absent: &str, if_present: &str) {
        self.rows.extend(rows);
        let number =
            if if_absent == if_present { if_absent.to_owned() } else { format!("t[{key}] in own ? {} : {if_absent}", nested(if_present)) };
        self.numbers.push(format!(r#"(old != "" && old.contains("\"" + t[{key}] + "\":{{\"by\":\"")) ? -1 : {number}"#));
    }

    /// Rows have key, policy and value.
    fn add_label(&mut self, key: usize, labels: &[LabelRow]) {
        let numbered = || labels.iter().zip(self.rows.len()..);
        let if_absent = first(numbered().filter(|(row, _)| row.if_absent).map(|(row, number)| (selects(row.policy), number.to_string())));
        // Policies that fill in take the key and change nothing; after the last that replaces they make no difference.
        let until = labels.iter().rposition(|row| row.replaces).map_or(0, |last| last + 1);
        let if_present = first(numbered().take(until).map(|(row, number)| {
            let LabelRow { policy, value, replaces, if_other, .. } = *row;
            let condition = if if_other { selects(policy) } else { format!("{} && own[t[{key}]] == t[{value}]", selects(policy)) };
            (condition, if replaces { number.to_string() } else { "-1".to_owned() })
        }));
        self.add(key, labels.iter().map(|row| format!("[{key}, {}, {}]", row.policy, row.value)), &if_absent, &if_present);
    }

    /// Rows have key, policy, value and value as JSON.
    fn add_annotation(&mut self, key: usize, annotations: &[AnnotationRow]) {
        let until = annotations.iter().rposition(|row| row.replaces).map_or(0, |last| last + 1);
        let numbered = || annotations.iter().zip(self.rows.len()..);
        let link = |row: &AnnotationRow, number: usize, takes: bool| {
            (selects(row.policy), if takes && !row.is_large { number.to_string() } else { "-1".to_owned() })
        };
        let if_absent = first(numbered().map(|(row, number)| link(row, number, true)));
        let if_present = first(numbered().take(until).map(|(row, number)| link(row, number, row.replaces)));
        let rows = annotations.iter().map(|row| format!("[{key}, {}, {}, {}]", row.policy, row.value, row.json));
        self.add(key, rows, &if_absent, &if_present);
    }
}

/// Whether the policy selects the pod.
fn selects(policy: usize) -> String {
    format!("s[{policy}]")
}

/// The expression as an operand.
fn nested(expression: &str) -> String {
    if expression.contains(" ? ") { format!("({expression})") } else { expression.to_owned() }
}

/// Policy and seconds of the grace period that is written, if one is, and the one that the pod ends up with.
fn grace_period_write(rows: &[GracePeriodRow]) -> [Variable; 3] {
    let table: Vec<_> = rows.iter().map(|row| format!("[{}, {}]", row.policy, row.seconds)).collect();
    let links = rows.iter().enumerate().map(|(number, row)| {
        let GracePeriodRow { policy, seconds, replaces } = *row;
        let kept = if replaces { "" } else { "own != 30 || " };
        let condition = format!("s[{policy}] && ({kept}{seconds} >= own || {seconds} >= variables.shortestGracePeriod)");
        let writes = if replaces { "" } else { "own == 30 && " };
        (condition, format!("({writes}own != {seconds} ? {number} : -1)"))
    });
    let number = with("own", "variables.ownGracePeriod", with("s", "variables.selected", first(links)));
    let write = format!("[{number}].filter(n, n >= 0).map(n, [{}][n])", table.join(", "));
    [
        // The shortest grace period that the hooks on the pod leave room for.
        variable(
            "shortestGracePeriod",
            "(variables.containers.map(c, int(c.object.?lifecycle.preStop.sleep.seconds.orValue(-1)) + 1) + variables.containers.map(c, int(c.object.?lifecycle.postStart.sleep.seconds.orValue(0))) + [0]).max()",
        ),
        // An earlier pass judged it by the hooks that the workload declares, some of which are gone by now.
        variable(
            "gracePeriodWrites",
            format!(
                r#"variables.recordedSettings != "" && ["\"terminationGracePeriodSeconds", "].lifecycle.postStart", "].lifecycle.preStop"].exists(x, variables.recordedSettings.contains(x + "\":{{\"by\":\"")) ? [] : {write}"#
            ),
        ),
        variable("gracePeriod", "size(variables.gracePeriodWrites) > 0 ? variables.gracePeriodWrites[0][1] : variables.ownGracePeriod"),
    ]
}

/// Containers that may have probes and hooks: where they are, and which conditions hold.
fn containers<'a>(conditions: impl Iterator<Item = &'a str>) -> String {
    let conditions: Vec<_> = conditions.enumerate().map(|(number, condition)| format!(r#", "is{number}": dyn({condition})"#)).collect();
    let conditions = conditions.concat();
    let of = |list: &str, condition: &str| {
        format!(
            r#"object.spec.?{list}.orValue([]).transformList(i, c, {condition}, {{"path": dyn("/spec/{list}/" + string(i)), "object": dyn(c){conditions}}})"#
        )
    };
    format!("{} + {}", of("containers", "true"), of("initContainers", r#"c.?restartPolicy.orValue("") == "Always""#))
}

/// For each container that gets the setting: the container `c` and the row `r`, which has policy, value, and whether it replaces and tunes
/// as 0 or 1.
fn setting_writes(variables: &mut Vec<Variable>, setting: Setting, rows: &[SettingRow], limit: usize) {
    let name = setting.name();
    let table = rows.iter().map(|row| format!("[{}, {}, {}, {}]", row.policy, row.value, u8::from(row.replaces), u8::from(row.tunes)));
    chunked(variables, &format!("{name}Rows"), table, limit);
    let links: Vec<_> = rows
        .iter()
        .enumerate()
        .map(|(number, row)| {
            let mut conditions = vec![selects(row.policy)];
            conditions.extend([row.glob, row.port].into_iter().flatten().map(|number| format!("e.is{number}")));
            conditions.extend(row.tunes.then(|| format!("has(e.object.{name})")));
            conditions.extend(row.sleep.map(|sleep| match setting {
                Setting::Hook(HookKind::PreStop) => format!("{sleep} < grace"),
                _ => format!("{sleep} <= grace"),
            }));
            (conditions.join(" && "), number.to_string())
        })
        .collect();
    let has_sleep = rows.iter().any(|row| row.sleep.is_some());
    // For each container the number of the row, or -1; the rows of one chain at a time.
    let numbers: Vec<_> = chains(&links)
        .into_iter()
        .enumerate()
        .map(|(number, chain)| {
            let numbers = with("s", "variables.selected", format!("variables.containers.map(e, {chain})"));
            let numbers = if has_sleep { with("grace", "variables.gracePeriod", numbers) } else { numbers };
            variables.push(variable(format!("{name}Numbers{number}"), numbers));
            format!("variables.{name}Numbers{number}[i]")
        })
        .collect();
    let number = match numbers.as_slice() {
        [number] => number.clone(),
        numbers => format!("([{}].filter(n, n >= 0) + [-1])[0]", numbers.join(", ")),
    };
    let concerns_pod = match setting {
        Setting::Probe(_) => format!("!({ALWAYS_RESTARTS}) ? [] : "),
        Setting::Hook(_) => String::new(),
    };
    let recorded = format!(
        r#"(variables.recordedSettings != "" && variables.recordedSettings.contains("\"containers[" + e.c.object.name + "]{}\":{{\"by\":\""))"#,
        path(setting)
    );
    let is_there = is_there(setting);
    let (replaces, tunes) = (rows.iter().any(|row| row.replaces), rows.iter().any(|row| row.tunes));
    let is_replaced = format!("e.r[2] == 1 && {} != variables.values[e.r[1]]", own_setting(setting));
    let changes = if tunes {
        format!("!({is_there}) || (e.r[3] == 0 ? {is_replaced} : size({}) > 0)", tuned_numbers(name))
    } else if replaces {
        format!("!({is_there}) || ({is_replaced})")
    } else {
        format!("!({is_there})")
    };
    let row = format!(r#"{{"c": dyn(e), "r": dyn([{number}].map(n, n < 0 ? [] : variables.{name}Rows[n])[0])}}"#);
    let writes = format!("variables.containers.transformList(i, e, {row}).filter(e, size(e.r) > 0 && !{recorded} && ({changes}))");
    variables.push(variable(name, format!("{concerns_pod}{writes}")));
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
    format!("variables.values[e.r[1]].filter(n, {own} != int(variables.values[e.r[1]][n]) && (e.r[2] == 1 || {own} == {default}))")
}

/// The new record with everything, the one with settings only, and which of the two has room on the pod.
fn records(tables: &Tables) -> Vec<Variable> {
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

/// The whole: a JSON patch.
pub(super) fn patch(tables: &Tables) -> String {
    let add = |path: &str, value: &str| format!("JSONPatch{{op: \"add\", path: {path}, value: {value}}}");
    let map = |map: &str, writes: &str| {
        let entry = add(&format!(r#""/metadata/{map}/" + jsonpatch.escapeKey(t[r[0]])"#), "t[r[2]]");
        with("t", "variables.strings", format!("variables.{writes}.map(r, {entry})"))
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
    if !tables.annotations().is_empty() {
        metadata.push(map("annotations", "annotationWrites"));
    }
    if !tables.labels().is_empty() {
        metadata.push(empty("labels", "size(variables.labelWrites) == 0"));
        metadata.push(map("labels", "labelWrites"));
    }
    let only_record = [empty("annotations", "variables.recordOfSettings == variables.record"), record("recordOfSettings")];
    let mut patch = vec![format!("(variables.hasRoomForAll ? {} : {})", metadata.join(" + "), only_record.join(" + "))];
    if !tables.grace_periods().is_empty() {
        patch.push(format!("variables.gracePeriodWrites.map(r, {})", add("\"/spec/terminationGracePeriodSeconds\"", "r[1]")));
    }
    let hooks = tables.settings().filter(|(setting, _)| matches!(setting, Setting::Hook(_)));
    let gets_hook: Vec<_> = hooks.map(|(setting, _)| format!("variables.{}.exists(e, e.c.path == c.path)", setting.name())).collect();
    if !gets_hook.is_empty() {
        patch.push(format!(
            "variables.containers.filter(c, !has(c.object.lifecycle) && ({})).map(c, {})",
            gets_hook.join(" || "),
            add(r#"c.path + "/lifecycle""#, "{}")
        ));
    }
    patch.extend(tables.settings().map(|(setting, rows)| {
        let target = path(setting).replace('.', "/");
        let value = if rows.iter().any(|row| row.tunes) {
            format!("e.r[3] == 0 ? dyn(variables.values[e.r[1]]) : dyn({})", tuned(setting.name()))
        } else {
            "variables.values[e.r[1]]".to_owned()
        };
        format!("variables.{}.map(e, {})", setting.name(), add(&format!(r#"e.c.path + "{target}""#), &value))
    }));
    format!(
        r#""kubernetes.io/config.mirror" in variables.annotations || !(true in variables.selected) || !variables.hasRoomForSettings ? [] : {}"#,
        patch.join(" + "),
    )
}

/// The container's own probe, but for the numbers that are tuned.
fn tuned(name: &str) -> String {
    format!(
        concat!(
            r#"[{tuned}].map(tuned, (e.c.object.{name}.filter(n, !(n in tuned)).map(n, {{"name": dyn(n), "value": dyn(e.c.object.{name}[n])}})"#,
            r#" + tuned.map(n, {{"name": dyn(n), "value": dyn(variables.values[e.r[1]][n])}})).transformMapEntry(i, entry, {{string(entry.name): entry.value}}))[0]"#
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
