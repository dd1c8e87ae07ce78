//! Sizes and frequencies in a schema, as the API server of Kubernetes 1.30 assumes them: the largest size of each value, and how often
//! a value can occur in one object. This module never looks into expressions.
//!
//! It follows `SchemaDeclType` in k8s.io/apiserver (pkg/cel/common) and `CELSchemaContext` in k8s.io/apiextensions-apiserver.

use std::{collections::BTreeMap, rc::Rc};

use serde_json::{Value, json};

/// The size of the largest request that an API server accepts, in bytes. A value without a bound of its own can be this large.
const MAX_REQUEST: u64 = 3 * 1024 * 1024;
/// The largest value in such a request, without its quotes or brackets.
const MAX_VALUE: u64 = MAX_REQUEST - 2;
/// The length of the longest duration, and of the longest time, in JSON.
const MAX_TIME: u64 = 32;
/// The length of a date in JSON, with its quotes.
const DATE: u64 = 12;

/// A rule of a definition.
pub struct Rule {
    /// The field that has the rule, such as `spec.containers[].names[]`.
    pub path: String,
    pub expression: String,
    pub message_expression: Option<String>,
    /// The declaration of `self`.
    pub declared: Declared,
    /// How often the API server runs the rule on one object, at most.
    pub times: u64,
}

/// A value as its schema declares it.
#[derive(Clone)]
pub struct Declared {
    pub kind: Kind,
    /// The largest number of bytes, items or entries. It is 0 for numbers, booleans, objects and keys of maps.
    pub max_size: u64,
    /// The length of the shortest value in JSON.
    min_bytes: u64,
}

/// The type of a value, as far as costs depend on it.
#[derive(Clone)]
pub enum Kind {
    /// Unknown until the rule runs.
    Any,
    /// A value of a fixed size.
    Scalar,
    /// A string, or bytes.
    Text,
    List(Rc<Declared>),
    /// A map from strings to such values.
    Map(Rc<Declared>),
    Object(Rc<BTreeMap<String, Declared>>),
}

impl Declared {
    /// A value without a schema.
    pub const fn unbounded(kind: Kind) -> Self {
        Self { kind, max_size: u64::MAX, min_bytes: 0 }
    }

    /// Reads a schema. `None` if rules cannot see its values.
    pub fn new(schema: &Value) -> Option<Self> {
        if schema["x-kubernetes-int-or-string"] == true {
            // API servers before 1.35 ignore `maxLength` here.
            return Some(Self { kind: Kind::Any, max_size: MAX_VALUE, min_bytes: 1 });
        }
        match schema["type"].as_str()? {
            "array" => {
                let item = Self::new(&schema["items"])?;
                let max_size = schema["maxItems"].as_u64().unwrap_or(MAX_VALUE / (item.min_bytes + 1));
                Some(Self { kind: Kind::List(item.into()), max_size, min_bytes: 2 })
            }
            "object" if schema["additionalProperties"].is_object() => {
                let value = Self::new(&schema["additionalProperties"])?;
                let max_size = schema["maxProperties"].as_u64().unwrap_or(MAX_VALUE / (value.min_bytes + 6));
                Some(Self { kind: Kind::Map(value.into()), max_size, min_bytes: 2 })
            }
            "object" => Some(Self::object(schema)),
            "string" => Some(Self::text(schema)),
            "boolean" => Some(Self { kind: Kind::Scalar, max_size: 0, min_bytes: 4 }),
            "number" | "integer" => Some(Self { kind: Kind::Scalar, max_size: 0, min_bytes: 1 }),
            _ => None,
        }
    }

    /// An item of a list or a value of a map.
    pub fn element(&self) -> Option<Self> {
        match &self.kind {
            Kind::List(element) | Kind::Map(element) => Some(Self::clone(element)),
            Kind::Any | Kind::Scalar | Kind::Text | Kind::Object(_) => None,
        }
    }

    /// A key of a map. The estimate treats all keys as empty.
    pub fn key(&self) -> Option<Self> {
        matches!(self.kind, Kind::Map(_)).then_some(Self { kind: Kind::Text, max_size: 0, min_bytes: 2 })
    }

    pub fn field(&self, name: &str) -> Option<Self> {
        let Kind::Object(fields) = &self.kind else { return None };
        fields.get(name).cloned()
    }

    fn object(schema: &Value) -> Self {
        let fields = properties(schema).filter_map(|(name, property)| Some((name.clone(), Self::new(property)?)));
        let fields: BTreeMap<_, _> = fields.collect();
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        // The API server fills in a default, so the request need not have the field.
        let required = required.filter(|name| schema["properties"][name].get("default").is_none());
        let bytes = required.filter_map(|name| Some(name.len() as u64 + fields.get(name)?.min_bytes + 4));
        Self { min_bytes: 2 + bytes.sum::<u64>(), kind: Kind::Object(fields.into()), max_size: 0 }
    }

    fn text(schema: &Value) -> Self {
        let max_length = schema["maxLength"].as_u64();
        match schema["format"].as_str() {
            Some("byte") => Self { kind: Kind::Text, max_size: max_length.unwrap_or(MAX_VALUE), min_bytes: 2 },
            Some("duration") => Self { kind: Kind::Scalar, max_size: MAX_TIME, min_bytes: 3 },
            Some("date-time") => Self { kind: Kind::Scalar, max_size: MAX_TIME, min_bytes: 21 },
            Some("date") => Self { kind: Kind::Scalar, max_size: DATE, min_bytes: DATE },
            _ => {
                let longest = schema["enum"].as_array().and_then(|values| values.iter().filter_map(Value::as_str).map(str::len).max());
                // `maxLength` counts characters, each of which may take four bytes.
                let max_size = max_length.map(|length| length.saturating_mul(4)).or(longest.map(|length| length as u64));
                Self { kind: Kind::Text, max_size: max_size.unwrap_or(MAX_VALUE), min_bytes: 2 }
            }
        }
    }
}

/// All rules in the schema of a definition.
pub fn rules(schema: &Value) -> Vec<Rule> {
    // Rules see these fields in every object, even if the schema lacks them.
    let text = json!({"type": "string"});
    let metadata = json!({"type": "object", "properties": {"name": text, "generateName": text}});
    let mut schema = schema.clone();
    for (name, property) in [("apiVersion", &text), ("kind", &text), ("metadata", &metadata)] {
        if schema["properties"][name].get("properties").is_none() {
            schema["properties"][name] = property.clone();
        }
    }
    let mut rules = Vec::new();
    collect(&schema, "", Some(1), &mut rules);
    rules
}

/// `times` is the largest number of values of this schema in one object. `None` means no bound.
fn collect(schema: &Value, path: &str, times: Option<u64>, rules: &mut Vec<Rule>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let declared = Declared::new(schema).unwrap_or(Declared::unbounded(Kind::Any));
        rules.push(Rule {
            path: path.to_owned(),
            expression: rule["rule"].as_str().unwrap_or_default().to_owned(),
            message_expression: rule["messageExpression"].as_str().map(str::to_owned),
            times: times.unwrap_or(MAX_REQUEST / (declared.min_bytes + 1)),
            declared,
        });
    }
    let dot = if path.is_empty() { "" } else { "." };
    for (name, property) in properties(schema) {
        collect(property, &format!("{path}{dot}{name}"), times, rules);
    }
    let inside = |bound: &str| Some(times?.saturating_mul(schema[bound].as_u64()?));
    if schema["items"].is_object() {
        collect(&schema["items"], &format!("{path}[]"), inside("maxItems"), rules);
    }
    if schema["additionalProperties"].is_object() {
        collect(&schema["additionalProperties"], &format!("{path}[*]"), inside("maxProperties"), rules);
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}
