//! What remains of policies, as tables of numbers and literals. They are all that differs from one compiled object to the next: the
//! expressions that read them (`text`) are always the same, but for the names of settings.

use std::collections::HashMap;

use kube::core::Expression;
use podpolicy_engine::{HookKind, ProbeKind, Remaining, Selector};
use serde::Serialize;
use serde_json::Value as Json;

use super::literal;

/// The tables of some policies.
#[derive(Debug, Default)]
pub(super) struct Tables {
    strings: Interned<String>,
    values: Interned<String>,
    globs: Interned<String>,
    /// For each policy, whether it selects the pod.
    selections: Vec<String>,
    /// For each policy, its name in records.
    names: Vec<String>,
    /// By key: policy, key, value, replaces, if absent, if other.
    labels: Vec<Vec<[usize; 6]>>,
    /// By key: policy, key, value, value as JSON text, replaces, is large.
    annotations: Vec<Vec<[usize; 6]>>,
    /// Policy, seconds, replaces.
    grace_periods: Vec<[i64; 3]>,
    /// By kind: policy, rule, glob, value, port, replaces, how.
    probes: HashMap<ProbeKind, Vec<[usize; 7]>>,
    /// By kind: policy, rule, glob, value, port, replaces, how, seconds of sleep or -1.
    hooks: HashMap<HookKind, Vec<[i64; 8]>>,
    label_keys: HashMap<String, usize>,
    annotation_keys: HashMap<String, usize>,
}

/// How a row takes effect: it sets a value, tunes the workload's own, or only hides the policy's later rules.
const SETS: usize = 0;
const TUNES: usize = 1;
const HIDES: usize = 2;

/// Expressions, each once.
#[derive(Debug)]
struct Interned<T> {
    order: Vec<T>,
    known: HashMap<T, usize>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { order: Vec::new(), known: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Interned<T> {
    fn put(&mut self, item: T) -> usize {
        *self.known.entry(item.clone()).or_insert_with(|| {
            self.order.push(item);
            self.order.len() - 1
        })
    }
}

/// A variable of a compiled object.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) expression: String,
}

impl Variable {
    pub(super) fn new(name: impl Into<String>, expression: impl Into<String>) -> Self {
        Self { name: name.into(), expression: expression.into() }
    }
}

impl Tables {
    /// The tables of policies in their order.
    pub(super) fn new(policies: &[Remaining<'_>]) -> Self {
        let mut tables = Self::default();
        // Number 0 stands for no port.
        tables.strings.put(String::new());
        for (number, policy) in policies.iter().enumerate() {
            tables.add(number, policy);
        }
        tables
    }

    fn add(&mut self, number: usize, policy: &Remaining<'_>) {
        let replaces = usize::from(policy.replaces());
        let conditions = selection(policy.policy.selector(), "variables.own")
            .chain(policy.namespaces.into_iter().flat_map(|selector| selection(selector, "variables.namespaceLabels")));
        let conditions: Vec<_> = conditions.collect();
        self.selections.push(if conditions.is_empty() { "true".to_owned() } else { conditions.join(" && ") });
        self.names.push(policy.policy.in_record().to_owned());
        for label in &policy.labels {
            let (key, value) = (self.strings.put(label.key.to_owned()), self.strings.put(label.value.to_owned()));
            let row = [number, key, value, replaces, label.if_absent.into(), label.if_other.into()];
            group(&mut self.labels, &mut self.label_keys, label.key, row);
        }
        for annotation in &policy.annotations {
            // One that is too large only hides the others.
            let value = if annotation.is_large { "" } else { annotation.value };
            let (key, value, json) =
                (self.strings.put(annotation.key.to_owned()), self.strings.put(value.to_owned()), self.strings.put(json_text(value)));
            let row = [number, key, value, json, replaces, annotation.is_large.into()];
            group(&mut self.annotations, &mut self.annotation_keys, annotation.key, row);
        }
        if let Some(seconds) = policy.grace_period {
            self.grace_periods.push([signed(number), seconds, signed(replaces)]);
        }
        for (rule, probe) in policy.probes.iter().enumerate() {
            let how = match (probe.is_refused, probe.probe.has_handler()) {
                (true, _) => HIDES,
                (false, true) => SETS,
                (false, false) => TUNES,
            };
            let value = self.value(&probe.probe, how);
            let (glob, port) = (self.glob(probe.names), self.port(probe.port));
            self.probes.entry(probe.kind).or_default().push([number, rule, glob, value, port, replaces, how]);
        }
        for (rule, hook) in policy.hooks.iter().enumerate() {
            let how = if hook.is_refused { HIDES } else { SETS };
            let value = self.value(&hook.hook, how);
            let (glob, port) = (self.glob(hook.names), self.port(hook.port));
            let sleep = hook.hook.sleep.map_or(-1, |sleep| sleep.seconds);
            let [number, rule, glob, value, port, replaces, how] = [number, rule, glob, value, port, replaces, how].map(signed);
            self.hooks.entry(hook.kind).or_default().push([number, rule, glob, value, port, replaces, how, sleep]);
        }
    }

    fn value(&mut self, value: &impl Serialize, how: usize) -> usize {
        let value = if how == HIDES { Json::Object(serde_json::Map::new()) } else { serde_json::to_value(value).expect("settings have only strings for keys") };
        self.values.put(literal::value(&value))
    }

    fn port(&mut self, name: Option<&str>) -> usize {
        name.map_or(0, |name| self.strings.put(name.to_owned()))
    }

    /// The globs of one rule become one condition on a container's name.
    fn glob(&mut self, globs: &[String]) -> usize {
        let condition = if globs.iter().any(|glob| glob == "*") {
            "true".to_owned()
        } else if globs.iter().all(|glob| !glob.contains(['*', '?'])) {
            format!("c.name in {}", literal::list(globs.iter().map(|name| literal::text(name))))
        } else {
            let patterns: Vec<_> = globs.iter().map(|glob| pattern(glob)).collect();
            format!("c.name.matches({})", literal::text(&format!("^({})$", patterns.join("|"))))
        };
        self.globs.put(condition)
    }

    /// The variables that hold the tables; none is longer than `limit` characters, unless one policy alone makes it so.
    pub(super) fn variables(&self, limit: usize) -> Vec<Variable> {
        let rows = |rows: &Vec<[usize; 6]>| literal::list(rows.iter().map(|row| row_text(row)));
        let mut variables = Vec::new();
        chunked(&mut variables, "strings", self.strings.order.iter().map(|text| literal::text(text)), limit);
        chunked(&mut variables, "values", self.values.order.iter().cloned(), limit);
        chunked(&mut variables, "names", self.names.iter().map(|name| literal::text(name)), limit);
        chunked(&mut variables, "labelRows", self.labels.iter().map(rows), limit);
        chunked(&mut variables, "annotationRows", self.annotations.iter().map(rows), limit);
        chunked(&mut variables, "gracePeriodRows", self.grace_periods.iter().map(|row| row_text(row)), limit);
        for kind in ProbeKind::ALL {
            let rows = self.probes.get(&kind).into_iter().flatten();
            chunked(&mut variables, &format!("{}Rows", kind.field_name()), rows.map(|row| row_text(row)), limit);
        }
        for kind in HookKind::ALL {
            let rows = self.hooks.get(&kind).into_iter().flatten();
            chunked(&mut variables, &format!("{}Rows", kind.field_name()), rows.map(|row| row_text(row)), limit);
        }
        variables
    }

    /// The variable that says which policies select the pod. It reads variables that stand before it.
    pub(super) fn selected(&self, limit: usize) -> Vec<Variable> {
        let mut variables = Vec::new();
        chunked(&mut variables, "selected", self.selections.iter().cloned(), limit);
        variables
    }

    /// The conditions on the name of a container `c`, as a list.
    pub(super) fn globs(&self) -> String {
        literal::list(self.globs.order.iter().cloned())
    }
}

/// Files the row under its key.
fn group(groups: &mut Vec<Vec<[usize; 6]>>, keys: &mut HashMap<String, usize>, key: &str, row: [usize; 6]) {
    let at = *keys.entry(key.to_owned()).or_insert_with(|| {
        groups.push(Vec::new());
        groups.len() - 1
    });
    groups[at].push(row);
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
        variables.push(Variable::new(name, literal::list(std::mem::take(chunk))));
        return;
    }
    let parts: Vec<_> = (0..chunks.len()).map(|part| format!("variables.{name}{part}")).collect();
    variables.extend(chunks.into_iter().enumerate().map(|(part, chunk)| Variable::new(format!("{name}{part}"), literal::list(chunk))));
    variables.push(Variable::new(name, parts.join(" + ")));
}

fn row_text<T: ToString>(row: &[T]) -> String {
    format!("[{}]", row.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).expect("an API server does not hold that many policies")
}

/// The conditions of a selector, on labels in a variable.
fn selection<'a>(selector: &'a Selector, labels: &'a str) -> impl Iterator<Item = String> + 'a {
    selector.expressions().map(move |expression| {
        let values = |values: &std::collections::BTreeSet<String>| literal::list(values.iter().map(|value| literal::text(value)));
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

/// A glob over container names as a regular expression.
fn pattern(glob: &str) -> String {
    let mut pattern = String::new();
    for character in glob.chars() {
        match character {
            '*' => pattern.push_str(".*"),
            '?' => pattern.push('.'),
            plain if plain.is_ascii_alphanumeric() || plain == '-' => pattern.push(plain),
            other => pattern.push_str(&format!("\\x{{{:x}}}", u32::from(other))),
        }
    }
    pattern
}

/// The text inside the quotes of a JSON string.
fn json_text(text: &str) -> String {
    let quoted = serde_json::to_string(text).expect("text is JSON");
    quoted[1..quoted.len() - 1].to_owned()
}
