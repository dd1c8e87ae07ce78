//! What remains of policies, as rows of numbers, and lists of literals for which the numbers stand. What users wrote is in these lists
//! and in the conditions of selectors and globs, and nowhere else: the expressions that are made of the rows (`choice`) hold numbers only.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use k8s_openapi::api::admissionregistration::v1::Variable;
use kube::core::Expression;
use podpolicy_api::StopSignal;
use podpolicy_engine::{
    Feature, HookKind, ProbeKind, Remaining, RemainingLabel, RemainingSetting, STOP_SIGNAL, Selector, Support, is_glob,
};
use serde::Serialize;
use serde_json::Value as Json;

use super::literal;

/// The tables of some policies.
#[derive(Debug, Default)]
pub(super) struct Tables {
    strings: Interned,
    values: Interned,
    conditions: Interned,
    /// For each policy, the conditions that must all hold for it to select the pod.
    selections: Vec<BTreeSet<String>>,
    /// For each policy, its name in records.
    names: Vec<String>,
    /// By the number of the key.
    labels: BTreeMap<usize, Vec<LabelRow>>,
    annotations: BTreeMap<usize, Vec<AnnotationRow>>,
    grace_periods: Vec<GracePeriodRow>,
    settings: HashMap<Setting, SettingRows>,
    keeps_restart_policies: bool,
}

/// What a policy says of a label. All numbers but seconds stand for an entry of a list.
#[derive(Debug)]
pub(super) struct LabelRow {
    pub(super) policy: usize,
    pub(super) value: usize,
    pub(super) replaces: bool,
    pub(super) if_absent: bool,
    pub(super) if_other: bool,
}

/// What a policy says of an annotation.
#[derive(Debug)]
pub(super) struct AnnotationRow {
    pub(super) policy: usize,
    pub(super) value: usize,
    /// The value as JSON text without its quotes.
    pub(super) json: usize,
    pub(super) replaces: bool,
    pub(super) is_large: bool,
}

/// What a policy says of the grace period.
#[derive(Debug)]
pub(super) struct GracePeriodRow {
    pub(super) policy: usize,
    pub(super) seconds: i64,
    pub(super) replaces: bool,
}

/// What a policy says of a setting of containers.
#[derive(Debug)]
pub(super) struct SettingRow {
    pub(super) policy: usize,
    /// The condition on the container's name; none if it always holds.
    pub(super) glob: Option<usize>,
    /// The number of its value; a stop signal's number is an index into the strings.
    pub(super) value: usize,
    /// The number of the other form of its value, or of the value itself where there is none.
    pub(super) other_form: usize,
    /// The condition that the container has the port that is named.
    pub(super) port: Option<usize>,
    pub(super) replaces: bool,
    /// Tunes the container's own probe.
    pub(super) tunes: bool,
    /// How long the hook sleeps.
    pub(super) sleep: Option<i64>,
    /// Whether a pod has to be one of Linux to get it; for stop signals, which Windows hardly knows.
    pub(super) needs_linux: bool,
}

/// The rows of one setting.
#[derive(Debug, Default)]
struct SettingRows {
    rows: Vec<SettingRow>,
    /// The names that the rules of each policy concern so far.
    names: HashMap<usize, Vec<String>>,
}

/// How long one expression may be. The API server takes 100,000 characters.
pub(super) const EXPRESSION_LIMIT: usize = 90_000;

/// The most claims on labels, and on annotations, and on one setting of containers: within them the API server looks through all of them
/// for each container of a large pod without running out of what it allows.
const MOST_ROWS_BY_KEY: usize = 10_000;
const MOST_ROWS_OF_A_SETTING: usize = 1_000;

/// What conditions on the pod's own labels call these.
const OWN: &str = "own";

/// The condition on a container's name that always holds.
const EVERY_CONTAINER: &str = "true";

/// A setting of a container.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Setting {
    Probe(ProbeKind),
    Hook(HookKind),
    StopSignal,
}

impl SettingRow {
    /// A row that has no value yet, for every container.
    fn new(policy: usize, replaces: bool) -> Self {
        Self { policy, glob: None, value: 0, other_form: 0, port: None, replaces, tunes: false, sleep: None, needs_linux: false }
    }
}

/// A rule's value, in each form that a pod may have it in.
struct Forms {
    value: Json,
    other: Option<Json>,
}

impl Forms {
    /// None where the value is refused.
    fn of<Kind, Setting: Serialize>(setting: &RemainingSetting<'_, Kind, Setting>) -> Option<Self> {
        (!setting.is_refused).then(|| Self { value: json(&setting.value), other: setting.other_form.as_ref().map(json) })
    }
}

impl Setting {
    /// All settings.
    pub(super) const ALL: [Self; 6] = [
        Self::Probe(ProbeKind::Liveness),
        Self::Probe(ProbeKind::Readiness),
        Self::Probe(ProbeKind::Startup),
        Self::Hook(HookKind::PostStart),
        Self::Hook(HookKind::PreStop),
        Self::StopSignal,
    ];

    /// The field's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Probe(kind) => kind.field_name(),
            Self::Hook(kind) => kind.field_name(),
            Self::StopSignal => STOP_SIGNAL,
        }
    }

    /// The variable with the values that rows stand for. Texts are apart: a list in CEL has elements of one type.
    pub(super) fn values(self) -> &'static str {
        match self {
            Self::Probe(_) | Self::Hook(_) => "variables.values",
            Self::StopSignal => "variables.strings",
        }
    }
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
    /// The tables of policies in their order, for an API server with this support.
    pub(super) fn new(policies: &[Remaining<'_>], support: &Support) -> Self {
        let mut tables = Self { keeps_restart_policies: support.has(Feature::ContainerRestartPolicy), ..Self::default() };
        for (number, policy) in policies.iter().enumerate() {
            tables.add(number, policy);
        }
        tables
    }

    fn add(&mut self, number: usize, policy: &Remaining<'_>) {
        let replaces = policy.replaces();
        let conditions = selection(policy.policy.selector(), OWN)
            .chain(policy.namespaces.into_iter().flat_map(|selector| selection(selector, "variables.namespaceLabels")))
            .chain(exemption(policy.policy.exempt()));
        self.selections.push(conditions.collect());
        self.names.push(policy.policy.in_record().to_owned());
        for label in &policy.labels {
            let (key, value) = (self.strings.put(label.key), self.strings.put(label.value));
            let RemainingLabel { if_absent, if_other, .. } = *label;
            let rows = self.labels.entry(key).or_default();
            let hides = |first: &LabelRow| {
                first.if_absent >= if_absent && first.if_other >= if_other && covers(&self.selections, first.policy, number)
            };
            if !rows.iter().any(hides) {
                rows.push(LabelRow { policy: number, value, replaces, if_absent, if_other });
            }
        }
        for annotation in &policy.annotations {
            let is_large = annotation.is_large;
            // One that is too large only hides the others.
            let value = if is_large { "" } else { annotation.value };
            let (key, value, json) = (self.strings.put(annotation.key), self.strings.put(value), self.strings.put(&json_text(value)));
            let rows = self.annotations.entry(key).or_default();
            if !rows.iter().any(|first| covers(&self.selections, first.policy, number)) {
                rows.push(AnnotationRow { policy: number, value, json, replaces, is_large });
            }
        }
        if let Some(seconds) = policy.grace_period {
            let hides = |first: &GracePeriodRow| {
                first.seconds >= seconds && first.replaces <= replaces && covers(&self.selections, first.policy, number)
            };
            if !self.grace_periods.iter().any(hides) {
                self.grace_periods.push(GracePeriodRow { policy: number, seconds, replaces });
            }
        }
        for probe in &policy.probes {
            let row = SettingRow { tunes: !probe.value.has_handler(), ..SettingRow::new(number, replaces) };
            self.add_setting(Setting::Probe(probe.kind), row, probe.names, probe.port, Forms::of(probe));
        }
        for hook in &policy.hooks {
            let sleep = hook.value.sleep.as_ref().map(|sleep| sleep.seconds);
            let row = SettingRow { sleep, ..SettingRow::new(number, replaces) };
            self.add_setting(Setting::Hook(hook.kind), row, hook.names, hook.port, Forms::of(hook));
        }
        for signal in &policy.stop_signals {
            let needs_linux = !StopSignal::ON_WINDOWS.contains(&signal.value.name());
            let row = SettingRow { needs_linux, ..SettingRow::new(number, replaces) };
            self.add_setting(Setting::StopSignal, row, signal.names, signal.port, Forms::of(signal));
        }
    }

    /// Adds a rule for a setting, without a value where it is refused. It concerns the containers that it names and no earlier rule of the
    /// same policy does.
    fn add_setting(&mut self, setting: Setting, mut row: SettingRow, names: &[String], port: Option<&str>, forms: Option<Forms>) {
        let names = condition(names);
        let earlier = self.settings.entry(setting).or_default().names.entry(row.policy).or_default();
        if earlier.iter().any(|earlier| earlier == EVERY_CONTAINER || *earlier == names) {
            return;
        }
        let mut conditions: Vec<_> = earlier.iter().map(|earlier| format!("!({earlier})")).collect();
        if names != EVERY_CONTAINER {
            conditions.push(names.clone());
        }
        earlier.push(names);
        let Some(Forms { value, other }) = forms else { return };
        row.glob = (!conditions.is_empty()).then(|| self.conditions.put(&conditions.join(" && ")));
        row.value = match value.as_str() {
            Some(text) => self.strings.put(text),
            None => self.values.put(&literal::value(&value)),
        };
        // Only who replaces compares.
        let other = other.filter(|_| row.replaces && !row.tunes);
        row.other_form = other.map_or(row.value, |other| self.values.put(&literal::value(&other)));
        row.port = port.map(|name| {
            let name = self.strings.put(name);
            self.conditions.put(&format!(r#"c.?ports.orValue([]).exists(port, port.?name.orValue("") == variables.strings[{name}])"#))
        });
        self.put_setting(setting, row);
    }

    /// Files the row, unless an earlier one takes effect wherever this one could.
    fn put_setting(&mut self, setting: Setting, row: SettingRow) {
        let Self { settings, selections, .. } = self;
        let SettingRows { rows, names: _ } = settings.entry(setting).or_default();
        let hides = |first: &SettingRow| {
            let takes_effect = !first.tunes || row.tunes;
            // A hook with a shorter sleep has room wherever this one has.
            let has_room = first.sleep.is_none_or(|sleep| row.sleep.is_some_and(|longer| sleep <= longer));
            let matches = first.glob.is_none() || first.glob == row.glob;
            let has_port = first.port.is_none() || first.port == row.port;
            let has_system = !first.needs_linux || row.needs_linux;
            takes_effect && has_system && has_room && matches && has_port && covers(selections, first.policy, row.policy)
        };
        if !rows.iter().any(hides) {
            rows.push(row);
        }
    }

    /// Whether the API server could spend more on the tables than it allows, on a pod of many containers.
    pub(super) fn are_too_large(&self) -> bool {
        self.labels.values().map(Vec::len).sum::<usize>() > MOST_ROWS_BY_KEY
            || self.annotations.values().map(Vec::len).sum::<usize>() > MOST_ROWS_BY_KEY
            || self.settings.values().any(|setting| setting.rows.len() > MOST_ROWS_OF_A_SETTING)
    }

    /// The variables that hold what users wrote.
    pub(super) fn variables(&self) -> Vec<Variable> {
        let mut variables = Vec::new();
        chunked(&mut variables, "strings", self.strings.order.iter().map(|text| literal::text(text)));
        chunked(&mut variables, "values", self.values.order.iter().cloned());
        chunked(&mut variables, "names", self.names.iter().map(|name| literal::text(name)));
        variables
    }

    /// What policies say of each label, by the number of its key.
    pub(super) fn labels(&self) -> &BTreeMap<usize, Vec<LabelRow>> {
        &self.labels
    }

    /// What policies say of each annotation, by the number of its key.
    pub(super) fn annotations(&self) -> &BTreeMap<usize, Vec<AnnotationRow>> {
        &self.annotations
    }

    /// What policies say of the grace period.
    pub(super) fn grace_periods(&self) -> &[GracePeriodRow] {
        &self.grace_periods
    }

    /// What policies say of each setting of containers of which they say anything.
    pub(super) fn settings(&self) -> impl Iterator<Item = (Setting, &[SettingRow])> {
        let rows = |setting| self.settings.get(&setting).map_or(&[][..], |setting| &setting.rows);
        Setting::ALL.into_iter().map(move |setting| (setting, rows(setting))).filter(|(_, rows)| !rows.is_empty())
    }

    /// Whether the API server keeps the restartPolicy of application containers.
    pub(super) fn keeps_restart_policies(&self) -> bool {
        self.keeps_restart_policies
    }

    /// The conditions on a container `c`.
    pub(super) fn conditions(&self) -> impl Iterator<Item = &str> {
        self.conditions.order.iter().map(String::as_str)
    }

    /// How many bytes the annotations that policies set could take at most, with their keys.
    pub(super) fn annotation_bytes(&self) -> usize {
        let size = |number: usize| self.strings.order[number].len();
        let largest = |rows: &Vec<AnnotationRow>| rows.iter().map(|row| size(row.value)).max().unwrap_or(0);
        self.annotations.iter().map(|(key, rows)| size(*key) + largest(rows)).sum()
    }

    /// The variable that says which policies select the pod. It reads variables that stand before it.
    pub(super) fn selected(&self) -> Vec<Variable> {
        let mut variables = Vec::new();
        let conditions = |conditions: &BTreeSet<String>| {
            if conditions.is_empty() { "true".to_owned() } else { conditions.iter().cloned().collect::<Vec<_>>().join(" && ") }
        };
        chunked_within(&mut variables, "selected", self.selections.iter().map(conditions), EXPRESSION_LIMIT, |list| {
            with(OWN, "variables.own", list)
        });
        variables
    }
}

/// Whether one policy selects every pod that the other selects: it has no condition that the other has not.
fn covers(selections: &[BTreeSet<String>], one: usize, other: usize) -> bool {
    selections[one].is_subset(&selections[other])
}

/// A list, in as many variables as it needs, and one with the name that joins them. None is too long, unless one item alone makes it so.
pub(super) fn chunked(variables: &mut Vec<Variable>, name: &str, items: impl Iterator<Item = String>) {
    chunked_within(variables, name, items, EXPRESSION_LIMIT, |list| list);
}

/// Likewise, each list inside of an expression, with as many items as `limit` characters hold.
pub(super) fn chunked_within(
    variables: &mut Vec<Variable>,
    name: &str,
    items: impl Iterator<Item = String>,
    limit: usize,
    within: impl Fn(String) -> String,
) {
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
    let list = |chunk| within(literal::list(chunk));
    if let [chunk] = chunks.as_mut_slice() {
        variables.push(variable(name, list(std::mem::take(chunk))));
        return;
    }
    let parts: Vec<_> = (0..chunks.len()).map(|part| format!("variables.{name}{part}")).collect();
    variables.extend(chunks.into_iter().enumerate().map(|(part, chunk)| variable(format!("{name}{part}"), list(chunk))));
    variables.push(variable(name, parts.join(" + ")));
}

/// The expression with a short name for what it reads often: looking a variable up costs the API server more.
pub(super) fn with(name: &str, value: &str, expression: impl std::fmt::Display) -> String {
    format!("[{value}].map({name}, {expression})[0]")
}

/// The condition that the pod is of none of these owners.
fn exemption(owners: &BTreeSet<String>) -> Option<String> {
    let uids = literal::list(owners.iter().map(|uid| literal::text(uid)));
    let is_one = format!("owner.?controller.orValue(false) && owner.uid in {uids}");
    (!owners.is_empty()).then(|| format!("!object.metadata.?ownerReferences.orValue([]).exists(owner, {is_one})"))
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
    } else if !globs.iter().any(|glob| is_glob(glob)) {
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
