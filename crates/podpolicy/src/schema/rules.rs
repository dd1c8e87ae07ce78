//! The rules in CEL of a definition, tried without an API server. A rule is compiled when its field is first met.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
};

use kube::core::cel::{
    KubeCelExt as _,
    cel::{Context, Program, Value},
};
use serde_json::Value as Json;

use super::{keywords::Rule, sure};

thread_local! {
    static RULES: Rules = Rules::new();
}

/// What a rule says of a value.
pub(super) enum Verdict {
    Holds,
    /// Why not.
    Broken(String),
    /// What hinders it.
    Undecided(String),
}

/// Tries a rule on a value.
pub(super) fn judge(rule: &Rule<'_>, value: &Json) -> Verdict {
    if !sure::holds(&rule.expression, value) {
        return by_cel(rule, value);
    }
    debug_assert!(matches!(by_cel(rule, value), Verdict::Holds), "{} {value}", rule.expression);
    Verdict::Holds
}

fn by_cel(rule: &Rule<'_>, value: &Json) -> Verdict {
    RULES.with(|rules| {
        let mut scope = rules.context.new_inner_scope();
        scope.add_variable_from_value("self", cel(value));
        match rules.evaluate(&rule.expression, &scope) {
            Ok(Value::Bool(true)) => Verdict::Holds,
            Ok(Value::Bool(false)) => Verdict::Broken(rules.message(rule, &scope)),
            Ok(_) => Verdict::Undecided(format!("the rule {} says neither yes nor no", rule.expression)),
            Err(problem) => Verdict::Undecided(format!("the rule {} cannot be tried: {problem}", rule.expression)),
        }
    })
}

struct Rules {
    context: Context<'static>,
    programs: RefCell<HashMap<String, Program>>,
}

impl Rules {
    fn new() -> Self {
        let mut context = Context::default().with_all();
        // CEL has types as values; this evaluator has not, so names stand for them.
        context.add_function("type", |value: Value| value.type_of().to_string());
        for name in ["int", "string"] {
            context.add_variable_from_value(name, name);
        }
        Self { context, programs: RefCell::default() }
    }

    fn evaluate(&self, expression: &str, scope: &Context<'_>) -> Result<Value, String> {
        let mut programs = self.programs.borrow_mut();
        let program = match programs.entry(expression.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Program::compile(expression).map_err(|error| error.to_string())?),
        };
        program.execute(scope).map_err(|error| error.to_string())
    }

    fn message(&self, rule: &Rule<'_>, scope: &Context<'_>) -> String {
        let evaluated = rule.message_expression.as_ref().map(|expression| self.evaluate(expression, scope));
        match (evaluated, &rule.message) {
            (Some(Ok(Value::String(message))), _) => message.to_string(),
            (_, Some(message)) => message.clone().into_owned(),
            (_, None) => format!("does not satisfy the rule {}", rule.expression),
        }
    }
}

fn cel(value: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Int),
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(cel).collect::<Vec<_>>().into(),
        Json::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), cel(value))).collect::<HashMap<_, _>>().into(),
    }
}
