//! Which policy takes each field of a pod that is created. This says in CEL what `podpolicy_engine` says in Rust; a differential test on a
//! real API server holds the two together. Nothing in here comes from a user.
//!
//! Names in expressions, also in `record` and `patch`: `c` a container, `e` an entry, `k` a key, `n` a number, `old` what an earlier pass
//! recorded, `os` the pod's operating system, `own` what the pod has itself, `r` a row, `s` which policies select the pod, `t` the texts of
//! policies, `x` any text.

use k8s_openapi::api::admissionregistration::v1::Variable;
use podpolicy_engine::{HookKind, ProbeKind, STOP_SIGNAL};

use super::tables::{AnnotationRow, GracePeriodRow, LabelRow, Setting, SettingRow, Tables, chunked, chunked_within, variable, with};

/// The pod's restartPolicy.
const RESTART_POLICY: &str = r#"object.spec.?restartPolicy.orValue("Always")"#;

/// The operating system that the pod says it needs, one of which Kubernetes knows stop signals; or nothing.
const OPERATING_SYSTEM: &str = r#"[object.spec.?os.name.orValue("")].map(name, name in ["linux", "windows"] ? name : "")[0]"#;

/// What the policies make of the pod, given the selection.
pub(super) fn decisions(tables: &Tables) -> Vec<Variable> {
    let mut variables = Vec::new();
    if !tables.labels().is_empty() {
        let mut keys = Keys::default();
        tables.labels().iter().for_each(|(key, rows)| keys.add_label(*key, rows));
        writes(&mut variables, &LABELS, keys);
    }
    if !tables.annotations().is_empty() {
        let mut keys = Keys::default();
        tables.annotations().iter().for_each(|(key, rows)| keys.add_annotation(*key, rows));
        writes(&mut variables, &ANNOTATIONS, keys);
    }
    let has_settings = tables.settings().next().is_some();
    if !tables.grace_periods().is_empty() || has_settings {
        let has_probes = tables.settings().any(|(setting, _)| matches!(setting, Setting::Probe(_)));
        variables.push(variable("containers", containers(tables.conditions(), has_probes.then(|| tables.keeps_restart_policies()))));
        variables.push(variable("ownGracePeriod", "object.spec.?terminationGracePeriodSeconds.orValue(30)"));
    }
    if !tables.grace_periods().is_empty() {
        variables.extend(grace_period_write(tables.grace_periods()));
    } else if has_settings {
        variables.push(variable("gracePeriod", "variables.ownGracePeriod"));
    }
    for (setting, rows) in tables.settings() {
        setting_writes(&mut variables, setting, rows);
    }
    variables
}

/// How many conditions follow each other in one expression: the API server's parser goes no deeper than 250.
const LONGEST_CHAIN: usize = 50;

/// How long an expression of conditions gets before the next one begins: what the API server takes to check the types in an expression grows
/// with the square of their number.
const CHAINS_LIMIT: usize = 1_500;

/// The number of the first row whose condition holds, or else -1. What comes after it is not evaluated, but for every `LONGEST_CHAIN`th.
fn first(links: impl IntoIterator<Item = (String, String)>) -> String {
    first_of(&chains(&links.into_iter().collect::<Vec<_>>()))
}

/// The first of some numbers that is one of a row, or else -1.
fn first_of(numbers: &[String]) -> String {
    match numbers {
        [number] => number.clone(),
        numbers => format!("([{}].filter(n, n >= 0) + [-1])[0]", numbers.join(", ")),
    }
}

/// The links as expressions that a parser takes, each of which is the number of its first row whose condition holds, or else -1.
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

/// Labels or annotations: where the pod's own are, where those that an earlier pass recorded, and what else must hold of one's `value` for it
/// to be replaced.
struct Map {
    name: &'static str,
    own: &'static str,
    old: &'static str,
    is_replaceable: fn(value: &str) -> String,
}

const LABELS: Map = Map {
    name: "label",
    own: "variables.own",
    old: "variables.recordedLabels",
    is_replaceable: |value| format!(r#" && {value}.matches("^[-A-Za-z0-9_.]*$")"#),
};

const ANNOTATIONS: Map =
    Map { name: "annotation", own: "variables.annotations", old: "variables.recordedAnnotations", is_replaceable: |_| String::new() };

/// The variables that say which rows are written, given an expression for the number of the row for each key. `t` are the strings, `s`
/// says which policies select the pod, `own` is what the pod has itself, `old` is what an earlier pass recorded.
fn writes(variables: &mut Vec<Variable>, map: &Map, keys: Keys) {
    let Map { name, own, old, is_replaceable } = map;
    let within = |expression| with("own", own, with("t", "variables.strings", expression));
    chunked(variables, &format!("{name}Rows"), keys.rows.into_iter());
    chunked_within(variables, &format!("{name}Numbers"), keys.numbers.into_iter(), CHAINS_LIMIT, |list| {
        within(with("old", old, with("s", "variables.selected", list)))
    });
    let rows = with("rows", &format!("variables.{name}Rows"), format!("variables.{name}Numbers.filter(n, n >= 0).map(n, rows[n])"));
    let is_changed = format!("!(t[r[0]] in own) || (own[t[r[0]]] != t[r[2]]{})", is_replaceable("own[t[r[0]]]"));
    // A row that replaces is written where it changes something.
    let writes = if keys.replace { within(format!("{rows}.filter(r, {is_changed})")) } else { rows };
    variables.push(variable(format!("{name}Writes"), writes));
}

/// The rows of all keys, and for each key the number of the row that takes it, or -1 if it stays as it is.
#[derive(Default)]
struct Keys {
    rows: Vec<String>,
    numbers: Vec<String>,
    /// Whether some row replaces what the pod has.
    replace: bool,
}

impl Keys {
    /// Adds a key, given its rows, and what takes it where the pod lacks it, and where the pod has it.
    fn add(&mut self, key: usize, rows: impl Iterator<Item = String>, if_absent: &str, if_present: &str) {
        self.rows.extend(rows);
        self.replace |= if_present != "-1";
        let number =
            if if_absent == if_present { if_absent.to_owned() } else { format!("t[{key}] in own ? {} : {if_absent}", nested(if_present)) };
        self.numbers.push(format!(r#"(old != "" && old.contains("\"" + t[{key}] + "\":{{\"by\":\"")) ? -1 : {number}"#));
    }

    /// Rows have key, policy and value.
    fn add_label(&mut self, key: usize, labels: &[LabelRow]) {
        let numbered = || labels.iter().zip(self.rows.len()..);
        let if_absent = first(numbered().filter(|(row, _)| row.if_absent).map(|(row, number)| (selects(row.policy), number.to_string())));
        let if_present = first(numbered().take(until_last(labels, |row| row.replaces)).map(|(row, number)| {
            let LabelRow { policy, value, replaces, if_other, .. } = *row;
            let condition = if if_other { selects(policy) } else { format!("{} && own[t[{key}]] == t[{value}]", selects(policy)) };
            (condition, if replaces { number.to_string() } else { "-1".to_owned() })
        }));
        self.add(key, labels.iter().map(|row| format!("[{key}, {}, {}]", row.policy, row.value)), &if_absent, &if_present);
    }

    /// Rows have key, policy, value and value as JSON.
    fn add_annotation(&mut self, key: usize, annotations: &[AnnotationRow]) {
        let numbered = || annotations.iter().zip(self.rows.len()..);
        let link = |row: &AnnotationRow, number: usize, takes: bool| {
            (selects(row.policy), if takes && !row.is_large { number.to_string() } else { "-1".to_owned() })
        };
        let if_absent = first(numbered().map(|(row, number)| link(row, number, true)));
        let if_present =
            first(numbered().take(until_last(annotations, |row| row.replaces)).map(|(row, number)| link(row, number, row.replaces)));
        let rows = annotations.iter().map(|row| format!("[{key}, {}, {}, {}]", row.policy, row.value, row.json));
        self.add(key, rows, &if_absent, &if_present);
    }
}

/// How many rows there are up to the last that replaces. Those that fill in take the key of a pod that has it, and change nothing: after the
/// last that replaces they make no difference.
fn until_last<Row>(rows: &[Row], replaces: impl Fn(&Row) -> bool) -> usize {
    rows.iter().rposition(replaces).map_or(0, |last| last + 1)
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
        let condition = format!("{} && ({kept}{seconds} >= own || {seconds} >= variables.shortestGracePeriod)", selects(policy));
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

/// Containers that may have probes, hooks and stop signals: where they are, which conditions hold, and whether they are always started
/// again. Nobody asks for the last without `restarts`, which says whether the API server keeps the restartPolicy of application containers.
fn containers<'a>(conditions: impl Iterator<Item = &'a str>, restarts: Option<bool>) -> String {
    let conditions: Vec<_> = conditions.enumerate().map(|(number, condition)| format!(r#", "is{number}": dyn({condition})"#)).collect();
    let conditions = conditions.concat();
    let of = |list: &str, condition: &str, restarts: &str| {
        format!(
            r#"object.spec.?{list}.orValue([]).transformList(i, c, {condition}, {{"path": dyn("/spec/{list}/" + string(i)), "object": dyn(c){restarts}{conditions}}})"#
        )
    };
    let (of_applications, of_sidecars) = match restarts {
        Some(true) => {
            (format!(r#", "restarts": dyn(c.?restartPolicy.orValue({RESTART_POLICY}) == "Always")"#), r#", "restarts": dyn(true)"#)
        }
        Some(false) => (format!(r#", "restarts": dyn({RESTART_POLICY} == "Always")"#), r#", "restarts": dyn(true)"#),
        None => (String::new(), ""),
    };
    let is_sidecar = r#"c.?restartPolicy.orValue("") == "Always""#;
    format!("{} + {}", of("containers", "true", &of_applications), of("initContainers", is_sidecar, of_sidecars))
}

/// For each container that gets the setting: the container `c` and the row `r`, which has policy, value, whether it replaces and tunes as
/// 0 or 1, and the other form of the value.
fn setting_writes(variables: &mut Vec<Variable>, setting: Setting, rows: &[SettingRow]) {
    let name = setting.name();
    let table = rows
        .iter()
        .map(|row| format!("[{}, {}, {}, {}, {}]", row.policy, row.value, u8::from(row.replaces), u8::from(row.tunes), row.other_form));
    chunked(variables, &format!("{name}Rows"), table);
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
            conditions.extend(
                (setting == Setting::StopSignal).then(|| if row.needs_linux { r#"os == "linux""# } else { r#"os != """# }.to_owned()),
            );
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
            let numbers = if setting == Setting::StopSignal { with("os", OPERATING_SYSTEM, numbers) } else { numbers };
            variables.push(variable(format!("{name}Numbers{number}"), numbers));
            format!("variables.{name}Numbers{number}[i]")
        })
        .collect();
    // A failing readiness probe ends no container, but pods that run to their end have none.
    let concerns_container = match setting {
        Setting::Probe(ProbeKind::Liveness | ProbeKind::Startup) => "!e.restarts ? [] : ".to_owned(),
        Setting::Probe(ProbeKind::Readiness) => format!(r#"!e.restarts && {RESTART_POLICY} != "Always" ? [] : "#),
        Setting::Hook(_) | Setting::StopSignal => String::new(),
    };
    let recorded = format!(
        r#"(variables.recordedSettings != "" && variables.recordedSettings.contains("\"containers[" + e.c.object.name + "]{}\":{{\"by\":\""))"#,
        path(setting)
    );
    let is_there = is_there(setting);
    let (replaces, tunes) = (rows.iter().any(|row| row.replaces), rows.iter().any(|row| row.tunes));
    let (own, values) = (own_setting(setting), setting.values());
    let has_forms = rows.iter().any(|row| row.value != row.other_form);
    let other_form = if has_forms { format!(" && {own} != {values}[e.r[4]]") } else { String::new() };
    let is_replaced = format!("e.r[2] == 1 && {own} != {values}[e.r[1]]{other_form}");
    let changes = if tunes {
        format!("!({is_there}) || (e.r[3] == 0 ? {is_replaced} : size({}) > 0)", tuned_numbers(name))
    } else if replaces {
        format!("!({is_there}) || ({is_replaced})")
    } else {
        format!("!({is_there})")
    };
    let row = with("n", &first_of(&numbers), format!("n < 0 ? [] : variables.{name}Rows[n]"));
    let row = format!(r#"{{"c": dyn(e), "r": dyn({concerns_container}{row})}}"#);
    let writes = format!("variables.containers.transformList(i, e, {row}).filter(e, size(e.r) > 0 && !{recorded} && ({changes}))");
    variables.push(variable(name, writes));
}

/// The path of the setting in a container, as records write it.
pub(super) fn path(setting: Setting) -> String {
    match setting {
        Setting::Probe(kind) => format!(".{}", kind.field_name()),
        Setting::Hook(kind) => format!(".lifecycle.{}", kind.field_name()),
        Setting::StopSignal => format!(".lifecycle.{STOP_SIGNAL}"),
    }
}

/// The container's own setting.
pub(super) fn own_setting(setting: Setting) -> String {
    format!("e.c.object{}", path(setting))
}

/// Whether the container has the setting.
pub(super) fn is_there(setting: Setting) -> String {
    match setting {
        Setting::Probe(kind) => format!(r#""{}" in e.c.object"#, kind.field_name()),
        Setting::Hook(_) | Setting::StopSignal => format!(r#""{}" in e.c.object.?lifecycle.orValue({{}})"#, setting.name()),
    }
}

/// The names of the numbers that tuning changes in the container's own probe.
pub(super) fn tuned_numbers(kind: &str) -> String {
    let own = format!("int(e.c.object.{kind}[?n].orValue(0))");
    // Kubernetes' defaults; zero stands for absent, as what is absent reads as zero.
    let default = r#"{"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}[?n].orValue(0)"#;
    format!("variables.values[e.r[1]].filter(n, {own} != int(variables.values[e.r[1]][n]) && (e.r[2] == 1 || {own} == {default}))")
}
