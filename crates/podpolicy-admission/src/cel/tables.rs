//! What remains of policies, as tables of numbers and literals. They are all that differs from one compiled object to the next: the
//! expressions that read them (`text`) are always the same, but for the names of settings.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use k8s_openapi::api::admissionregistration::v1::Variable;
use kube::core::Expression;
use podpolicy_engine::{HookKind, ProbeKind, Remaining, Selector};
use serde::Serialize;
use serde_json::Value as Json;

use super::literal;

/// The tables of some policies.
#[derive(Debug, Default)]
pub(super) struct Tables {
    strings: Interned,
    values: Interned,
    globs: Interned,
    /// For each policy, the conditions that must all hold for it to select the pod.
    selections: Vec<BTreeSet<String>>,
    /// For each policy, its name in records.
    names: Vec<String>,
    /// By key: policy, key, value, replaces, if absent, if other.
    labels: ByKey,
    /// By key: policy, key, value, value as JSON text, replaces, is large.
    annotations: ByKey,
    /// Policy, seconds, replaces.
    grace_periods: Vec<[i64; 3]>,
    /// By setting.
    settings: HashMap<Setting, SettingRows>,
}

/// Rows by the number of their key.
type ByKey = BTreeMap<usize, Vec<[usize; 6]>>;

/// The rows of one setting.
#[derive(Debug, Default)]
struct SettingRows {
    /// Policy, condition on the container, value, port, replaces, tunes, seconds of sleep or -1.
    rows: Vec<[i64; 7]>,
    /// The names that the rules of each policy concern so far.
    names: HashMap<usize, Vec<String>>,
}

/// The most claims on labels, and on annotations, and on one setting of containers: within them the API server looks through all of them
/// for each container of a large pod without running out of what it allows.
const MOST_ROWS_BY_KEY: usize = 10_000;
const MOST_ROWS_OF_A_SETTING: usize = 1_000;

/// The condition on a container's name that always holds.
const EVERY_CONTAINER: &str = "true";

/// A setting of a container.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Setting {
    Probe(ProbeKind),
    Hook(HookKind),
}

impl Setting {
    /// All settings.
    pub(super) const ALL: [Self; 5] = [
        Self::Probe(ProbeKind::Liveness),
        Self::Probe(ProbeKind::Readiness),
        Self::Probe(ProbeKind::Startup),
        Self::Hook(HookKind::PostStart),
        Self::Hook(HookKind::PreStop),
    ];

    /// The field's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Probe(kind) => kind.field_name(),
            Self::Hook(kind) => kind.field_name(),
        }
    }
}

/// Which tables have rows, so that expressions speak of nothing that no policy sets.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) has_labels: bool,
    pub(super) has_annotations: bool,
    pub(super) has_grace_period: bool,
    pub(super) settings: Vec<SettingShape>,
    /// The conditions on the name of a container `c`, as a list.
    pub(super) globs: String,
}

/// What the rows of one setting do.
#[derive(Debug)]
pub(super) struct SettingShape {
    pub(super) setting: Setting,
    /// Some row tunes the container's own.
    pub(super) tunes: bool,
    /// Some row replaces the container's own, by tuning it or altogether.
    pub(super) replaces: bool,
    /// Some row asks a named port.
    pub(super) has_ports: bool,
}

/// Texts, each once.
#[derive(Debug, Default)]
struct Interned {
    order: Vec<String>,
    known: HashMap<String, usize>,
}

impl Interned {
    /// The number of the text.
    fn put(&mut self, text: &str) -> usize {
        if let Some(&number) = self.known.get(text) {
            return number;
        }
        let number = self.order.len();
        self.order.push(text.to_owned());
        self.known.insert(text.to_owned(), number);
        number
    }
}

/// A variable of a compiled object.
pub(super) fn variable(name: impl Into<String>, expression: impl Into<String>) -> Variable {
    Variable { name: name.into(), expression: expression.into() }
}

impl Tables {
    /// The tables of policies in their order.
    pub(super) fn new(policies: &[Remaining<'_>]) -> Self {
        let mut tables = Self::default();
        // Number 0 stands for no port.
        tables.strings.put("");
        for (number, policy) in policies.iter().enumerate() {
            tables.add(number, policy);
        }
        tables
    }

    fn add(&mut self, number: usize, policy: &Remaining<'_>) {
        let replaces = usize::from(policy.replaces());
        let conditions = selection(policy.policy.selector(), "variables.own")
            .chain(policy.namespaces.into_iter().flat_map(|selector| selection(selector, "variables.namespaceLabels")));
        self.selections.push(conditions.collect());
        self.names.push(policy.policy.in_record().to_owned());
        for label in &policy.labels {
            let (key, value) = (self.strings.put(label.key), self.strings.put(label.value));
            let row = [number, key, value, replaces, label.if_absent.into(), label.if_other.into()];
            put_key(&mut self.labels, &self.selections, row, |first| first[4] >= row[4] && first[5] >= row[5]);
        }
        for annotation in &policy.annotations {
            // One that is too large only hides the others.
            let value = if annotation.is_large { "" } else { annotation.value };
            let (key, value, json) = (self.strings.put(annotation.key), self.strings.put(value), self.strings.put(&json_text(value)));
            let row = [number, key, value, json, replaces, annotation.is_large.into()];
            put_key(&mut self.annotations, &self.selections, row, |_| true);
        }
        if let Some(seconds) = policy.grace_period {
            let row = [signed(number), seconds, signed(replaces)];
            let is_hidden = self
                .grace_periods
                .iter()
                .any(|first| covers(&self.selections, unsigned(first[0]), number) && first[1] >= seconds && first[2] <= row[2]);
            if !is_hidden {
                self.grace_periods.push(row);
            }
        }
        for probe in &policy.probes {
            let tunes = !probe.value.has_handler();
            let value = (!probe.is_refused).then(|| (json(&probe.value), [i64::from(tunes), -1]));
            self.add_setting(Setting::Probe(probe.kind), (number, replaces), probe.names, probe.port, value);
        }
        for hook in &policy.hooks {
            let sleep = hook.value.sleep.map_or(-1, |sleep| sleep.seconds);
            let value = (!hook.is_refused).then(|| (json(&hook.value), [0, sleep]));
            self.add_setting(Setting::Hook(hook.kind), (number, replaces), hook.names, hook.port, value);
        }
    }

    /// Adds a rule for a setting, without a value where it is refused. It concerns the containers that it names and no earlier rule of the
    /// same policy does.
    fn add_setting(
        &mut self,
        setting: Setting,
        (number, replaces): (usize, usize),
        names: &[String],
        port: Option<&str>,
        value: Option<(Json, [i64; 2])>,
    ) {
        let names = condition(names);
        let earlier = self.settings.entry(setting).or_default().names.entry(number).or_default();
        if earlier.iter().any(|earlier| earlier == EVERY_CONTAINER || *earlier == names) {
            return;
        }
        let mut conditions: Vec<_> = earlier.iter().map(|earlier| format!("!({earlier})")).collect();
        if names != EVERY_CONTAINER || conditions.is_empty() {
            conditions.push(names.clone());
        }
        earlier.push(names);
        let Some((value, [tunes, sleep])) = value else { return };
        let glob = self.globs.put(&conditions.join(" && "));
        let value = self.values.put(&literal::value(&value));
        let port = port.map_or(0, |name| self.strings.put(name));
        let [number, glob, value, port, replaces] = [number, glob, value, port, replaces].map(signed);
        self.put_setting(setting, [number, glob, value, port, replaces, tunes, sleep]);
    }

    /// Files the row, unless an earlier one takes effect wherever this one could.
    fn put_setting(&mut self, setting: Setting, row: [i64; 7]) {
        let Self { settings, selections, globs, .. } = self;
        let SettingRows { rows, names: _ } = settings.entry(setting).or_default();
        let is_hidden = rows.iter().any(|first| {
            let [policy, glob, _, port, _, tunes, sleep] = *first;
            let takes_effect = tunes == 0 || row[5] == 1;
            // A hook with a shorter sleep has room wherever this one has.
            let has_room = sleep < 0 || sleep <= row[6];
            let matches = glob == row[1] || globs.order[unsigned(glob)] == EVERY_CONTAINER;
            takes_effect && has_room && matches && (port == 0 || port == row[3]) && covers(selections, unsigned(policy), unsigned(row[0]))
        });
        if !is_hidden {
            rows.push(row);
        }
    }

    /// Whether the API server could spend more on the tables than it allows, on a pod of many containers.
    pub(super) fn are_too_large(&self) -> bool {
        let is_too_long = |groups: &ByKey| groups.values().map(Vec::len).sum::<usize>() > MOST_ROWS_BY_KEY;
        is_too_long(&self.labels)
            || is_too_long(&self.annotations)
            || self.settings.values().any(|setting| setting.rows.len() > MOST_ROWS_OF_A_SETTING)
    }

    /// The variables that hold the tables; none is longer than `limit` characters, unless one policy alone makes it so.
    pub(super) fn variables(&self, shape: &Shape, limit: usize) -> Vec<Variable> {
        let rows = |rows: &Vec<[usize; 6]>| literal::list(rows.iter().map(|row| row_text(row)));
        let Shape { has_labels, has_annotations, has_grace_period, settings, globs: _ } = shape;
        let mut variables = Vec::new();
        chunked(&mut variables, "strings", self.strings.order.iter().map(|text| literal::text(text)), limit);
        chunked(&mut variables, "values", self.values.order.iter().cloned(), limit);
        chunked(&mut variables, "names", self.names.iter().map(|name| literal::text(name)), limit);
        if *has_labels {
            chunked(&mut variables, "labelRows", self.labels.values().map(rows), limit);
        }
        if *has_annotations {
            chunked(&mut variables, "annotationRows", self.annotations.values().map(rows), limit);
        }
        if *has_grace_period {
            chunked(&mut variables, "gracePeriodRows", self.grace_periods.iter().map(|row| row_text(row)), limit);
        }
        for SettingShape { setting, .. } in settings {
            let rows = self.settings.get(setting).into_iter().flat_map(|setting| &setting.rows);
            chunked(&mut variables, &format!("{}Rows", setting.name()), rows.map(|row| row_text(row)), limit);
        }
        variables
    }

    /// Which tables have rows.
    pub(super) fn shape(&self) -> Shape {
        let settings = Setting::ALL.into_iter().filter_map(|setting| {
            let SettingRows { rows, names: _ } = self.settings.get(&setting)?;
            (!rows.is_empty()).then(|| SettingShape {
                setting,
                tunes: rows.iter().any(|row| row[5] == 1),
                replaces: rows.iter().any(|row| row[4] == 1 || row[5] == 1),
                has_ports: rows.iter().any(|row| row[3] > 0),
            })
        });
        Shape {
            has_labels: !self.labels.is_empty(),
            has_annotations: !self.annotations.is_empty(),
            has_grace_period: !self.grace_periods.is_empty(),
            settings: settings.collect(),
            globs: literal::list(self.globs.order.iter().cloned()),
        }
    }

    /// The variable that says which policies select the pod. It reads variables that stand before it.
    pub(super) fn selected(&self, limit: usize) -> Vec<Variable> {
        let mut variables = Vec::new();
        let conditions = |conditions: &BTreeSet<String>| {
            if conditions.is_empty() { "true".to_owned() } else { conditions.iter().cloned().collect::<Vec<_>>().join(" && ") }
        };
        chunked(&mut variables, "selected", self.selections.iter().map(conditions), limit);
        variables
    }
}

/// Files the row under its key, unless an earlier one takes effect wherever this one could.
fn put_key(groups: &mut ByKey, selections: &[BTreeSet<String>], row: [usize; 6], is_hidden_by: impl Fn(&[usize; 6]) -> bool) {
    let rows = groups.entry(row[1]).or_default();
    if !rows.iter().any(|first| is_hidden_by(first) && covers(selections, first[0], row[0])) {
        rows.push(row);
    }
}

/// Whether one policy selects every pod that the other selects: it has no condition that the other has not.
fn covers(selections: &[BTreeSet<String>], one: usize, other: usize) -> bool {
    selections[one].is_subset(&selections[other])
}

/// A list, in as many variables as it needs, and one with the name that joins them.
fn chunked(variables: &mut Vec<Variable>, name: &str, items: impl Iterator<Item = String>, limit: usize) {
    let mut chunks: Vec<Vec<String>> = vec![Vec::new()];
    let mut size = 0;
    for item in items {
        if size + item.len() > limit && size > 0 {
            chunks.push(Vec::new());
            size = 0;
        }
        size += item.len() + 2;
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(item);
        }
    }
    if let [chunk] = chunks.as_mut_slice() {
        variables.push(variable(name, literal::list(std::mem::take(chunk))));
        return;
    }
    let parts: Vec<_> = (0..chunks.len()).map(|part| format!("variables.{name}{part}")).collect();
    variables.extend(chunks.into_iter().enumerate().map(|(part, chunk)| variable(format!("{name}{part}"), literal::list(chunk))));
    variables.push(variable(name, parts.join(" + ")));
}

fn row_text<T: ToString>(row: &[T]) -> String {
    format!("[{}]", row.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).expect("an API server does not hold that many policies")
}

fn unsigned(number: i64) -> usize {
    usize::try_from(number).expect("it numbers something")
}

/// The conditions of a selector, on labels in a variable.
fn selection<'a>(selector: &'a Selector, labels: &'a str) -> impl Iterator<Item = String> + 'a {
    selector.expressions().map(move |expression| {
        let values = |values: &BTreeSet<String>| literal::list(values.iter().map(|value| literal::text(value)));
        match expression {
            Expression::Equal(key, value) => format!("{labels}[?{}] == optional.of({})", literal::text(key), literal::text(value)),
            Expression::NotEqual(key, value) => format!("{labels}[?{}] != optional.of({})", literal::text(key), literal::text(value)),
            Expression::In(key, wanted) => {
                let key = literal::text(key);
                format!("({key} in {labels} && {labels}[{key}] in {})", values(wanted))
            }
            Expression::NotIn(key, unwanted) => {
                let key = literal::text(key);
                format!("!({key} in {labels} && {labels}[{key}] in {})", values(unwanted))
            }
            Expression::Exists(key) => format!("{} in {labels}", literal::text(key)),
            Expression::DoesNotExist(key) => format!("!({} in {labels})", literal::text(key)),
        }
    })
}

/// The globs of one rule as a condition on a container `c`.
fn condition(globs: &[String]) -> String {
    if globs.iter().any(|glob| glob == "*") {
        EVERY_CONTAINER.to_owned()
    } else if globs.iter().all(|glob| !glob.contains(['*', '?'])) {
        format!("c.name in {}", literal::list(globs.iter().map(|name| literal::text(name))))
    } else {
        let patterns: Vec<_> = globs.iter().map(|glob| pattern(glob)).collect();
        format!("c.name.matches({})", literal::text(&format!("^({})$", patterns.join("|"))))
    }
}

/// A probe or hook as JSON.
fn json(value: &impl Serialize) -> Json {
    serde_json::to_value(value).expect("settings have only strings for keys")
}

/// A glob over container names as a regular expression.
fn pattern(glob: &str) -> String {
    let mut pattern = String::new();
    for character in glob.chars() {
        match character {
            '*' => pattern.push_str(".*"),
            '?' => pattern.push('.'),
            plain if plain.is_ascii_alphanumeric() || plain == '-' => pattern.push(plain),
            other => _ = write!(pattern, "\\x{{{:x}}}", u32::from(other)),
        }
    }
    pattern
}

/// The text inside the quotes of a JSON string.
fn json_text(text: &str) -> String {
    let quoted = serde_json::to_string(text).expect("text is JSON");
    quoted[1..quoted.len() - 1].to_owned()
}
