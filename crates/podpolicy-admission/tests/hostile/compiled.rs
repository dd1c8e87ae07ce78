//! A policy with texts of a user's in every place that takes text, compiled, and read again by a CEL implementation that is not ours. The fuzz
//! target uses it too.

use std::collections::HashMap;
use std::sync::Arc;

use cel::{Context, ExecutionError, Program as Cel, Value};
use podpolicy_admission::cel::compile;
use podpolicy_engine::{Exec, Policy, Program, Settings};
use serde_json::{Value as Json, json};

/// Variables that hold what users wrote. All others are the program.
const DATA: [&str; 3] = ["strings", "values", "selected"];

/// The compiled variables by name, and the patch.
pub struct Compiled {
    variables: Vec<(String, String)>,
    patch: String,
}

/// A policy that says the texts wherever a policy can say anything. The API server would refuse some; the compiler does not rely on
/// it.
pub fn hostile_policy(texts: &[String; 6]) -> Json {
    let [value, key, word, path, label, glob] = texts;
    json!({
        "metadata": { "name": "hostile", "namespace": "shop" },
        "spec": {
            "selector": { "matchLabels": { "app": label }, "matchExpressions": [{ "key": "tier", "operator": "In", "values": [label] }] },
            "precedence": "Policy",
            "labels": { "team": label },
            "annotations": { format!("x{key}"): value },
            "containers": [{
                "names": ["*", glob],
                "livenessProbe": { "exec": { "command": [word] } },
                "readinessProbe": { "httpGet": { "path": path, "port": 80, "httpHeaders": [{ "name": "A", "value": value }] } },
                "lifecycle": { "preStop": { "exec": { "command": [word] } }, "stopSignal": word },
            }],
        },
    })
}

impl Compiled {
    /// Compiles the one policy.
    pub fn of(policy: &Json) -> Self {
        let policy = Policy::from_namespaced(&serde_json::from_value(policy.clone()).unwrap()).with_exec(Exec::Vouched);
        let program = Program::new([Arc::new(policy)], HashMap::new(), Settings::default());
        let mut compilation = compile(&program);
        assert_eq!(compilation.omissions, []);
        let unit = compilation.units.pop().unwrap();
        let spec = unit.policy.spec.unwrap();
        let variables = spec.variables.unwrap().into_iter().map(|variable| (variable.name, variable.expression)).collect();
        let patch = spec.mutations.unwrap()[0].json_patch.clone().unwrap().expression.unwrap();
        let patch = patch.replace(&unit.digest, "digest");
        Self { variables, patch }
    }

    /// The expressions in which users have no say, but for the numbers in them, by name.
    pub fn program(&self) -> impl Iterator<Item = (&str, String)> {
        let is_program = |name: &str| !DATA.contains(&name);
        let variables =
            self.variables.iter().map(|(name, expression)| (name.as_str(), expression)).filter(move |(name, _)| is_program(name));
        variables.chain([("patch", &self.patch)]).map(|(name, expression)| {
            let expression = if depends_on_numbers(name) { without_numbers(expression) } else { expression.clone() };
            (name, expression)
        })
    }

    /// The first expression of the program that is another one in the other.
    pub fn difference(&self, other: &Self) -> Result<(), String> {
        let (ours, theirs): (Vec<_>, Vec<_>) = (self.program().collect(), other.program().collect());
        if ours.len() != theirs.len() {
            return Err(format!("{} expressions are {} in the other", ours.len(), theirs.len()));
        }
        match ours.into_iter().zip(theirs).find(|(ours, theirs)| ours != theirs) {
            Some(((name, ours), (_, theirs))) => Err(format!("{name} differs:\n{ours}\n{theirs}")),
            None => Ok(()),
        }
    }

    /// Whether the tables hold the texts, as they are.
    pub fn check(&self, texts: &[String; 6]) -> Result<(), String> {
        let [value, key, word, path, label, _] = texts;
        let is_number = |character: char| character.is_ascii_digit() || "[],- ".contains(character);
        for (name, rows) in self.variables.iter().filter(|(name, _)| name.ends_with("Rows")) {
            if !rows.chars().all(is_number) {
                return Err(format!("{name} holds more than numbers: {rows}"));
            }
        }
        let strings = self.evaluate("strings")?;
        let strings: Vec<_> = strings.as_array().ok_or("strings are no list")?.iter().filter_map(Json::as_str).collect();
        for wanted in [value.as_str(), &format!("x{key}"), label, word] {
            if !strings.contains(&wanted) {
                return Err(format!("{wanted:?} is not among the strings {strings:?}"));
            }
        }
        let values = self.evaluate("values")?;
        let wanted = [
            json!({ "exec": { "command": [word] } }),
            json!({ "httpGet": {
                "path": if path.is_empty() { "/" } else { path }, "port": 80, "scheme": "HTTP", "httpHeaders": [{ "name": "A", "value": value }],
            } }),
        ];
        for wanted in wanted {
            let is_there = values
                .as_array()
                .into_iter()
                .flatten()
                .any(|value| wanted.as_object().into_iter().flatten().all(|(handler, wanted)| value.get(handler) == Some(wanted)));
            if !is_there {
                return Err(format!("{wanted} is not among the values {values}"));
            }
        }
        Ok(())
    }

    /// What a table evaluates to: literals only, so that nothing else has to be known.
    fn evaluate(&self, name: &str) -> Result<Json, String> {
        let (_, expression) =
            self.variables.iter().find(|(known, _)| known == name).ok_or_else(|| format!("there is no variable {name}"))?;
        let program = Cel::compile(expression).map_err(|error| format!("{name} is no CEL: {error}\n{expression}"))?;
        let mut context = Context::default();
        context.add_function("dyn", |value: Value| -> Result<Value, ExecutionError> { Ok(value) });
        let value = program.execute(&context).map_err(|error| format!("{name} does not evaluate: {error}\n{expression}"))?;
        value.json().map_err(|error| format!("{name} is no JSON: {error:?}"))
    }
}

/// Whether the expression is made of rows, whose numbers say which text they mean, or of how long texts are.
fn depends_on_numbers(name: &str) -> bool {
    name.ends_with("Rows") || name.contains("Numbers") || name == "hasRoomForAll"
}

/// The expression with 0 for each number.
fn without_numbers(expression: &str) -> String {
    let mut text = String::with_capacity(expression.len());
    for character in expression.chars() {
        match character {
            '0'..='9' if text.ends_with('0') => {}
            '0'..='9' => text.push('0'),
            other => text.push(other),
        }
    }
    text
}
