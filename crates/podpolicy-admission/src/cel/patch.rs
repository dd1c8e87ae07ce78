//! What is written to the pod, as a JSON patch. Nothing in here comes from a user.

use podpolicy_api::APPLIED_ANNOTATION;

use super::choice::{path, tuned_numbers};
use super::tables::{Setting, Tables, with};

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
    let of_lifecycle = tables.settings().filter(|(setting, _)| matches!(setting, Setting::Hook(_) | Setting::StopSignal));
    let gets_lifecycle: Vec<_> =
        of_lifecycle.map(|(setting, _)| format!("variables.{}.exists(e, e.c.path == c.path)", setting.name())).collect();
    if !gets_lifecycle.is_empty() {
        patch.push(format!(
            "variables.containers.filter(c, !has(c.object.lifecycle) && ({})).map(c, {})",
            gets_lifecycle.join(" || "),
            add(r#"c.path + "/lifecycle""#, "{}")
        ));
    }
    patch.extend(tables.settings().map(|(setting, rows)| {
        let target = path(setting).replace('.', "/");
        let value = if rows.iter().any(|row| row.tunes) {
            format!("e.r[3] == 0 ? dyn(variables.values[e.r[1]]) : dyn({})", tuned(setting.name()))
        } else {
            format!("{}[e.r[1]]", setting.values())
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
