//! A value against a schema: fields, types and bounds, in the words of the API server where it has good ones; then the rules.

use std::fmt::Display;

use serde_json::{Map, Value};

use super::{
    alike,
    keywords::Schema,
    rules::{self, Verdict},
    wrong::{Place, Wrong},
};

/// A walk over a value, which finds all that is wrong with it.
#[derive(Default)]
pub(super) struct Walk {
    wrong: Vec<Wrong>,
}

/// Whether a value has the fields and types of its schema. Rules of what is around it say nothing useful where it has not.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Right,
    Wrong,
}

impl Walk {
    /// What is wrong with a whole object.
    pub(super) fn over(schema: &Schema<'_>, value: &Value) -> Vec<Wrong> {
        let mut walk = Self::default();
        walk.value(schema, value, &Place::default());
        walk.wrong
    }

    fn value(&mut self, schema: &Schema<'_>, value: &Value, place: &Place) -> Shape {
        let before = self.wrong.len();
        let shape = self.structure(schema, value, place);
        if shape == Shape::Right {
            self.rules(schema, value, place, self.wrong.len() == before);
        }
        shape
    }

    fn rules(&mut self, schema: &Schema<'_>, value: &Value, place: &Place, is_sound: bool) {
        for rule in &schema.rules {
            let place = || place.then(rule.field_path.as_deref().unwrap_or_default());
            match rules::judge(rule, value) {
                Verdict::Broken(message) => self.tell(place(), message),
                Verdict::Undecided(message) if is_sound => self.tell(place(), message),
                Verdict::Holds | Verdict::Undecided(_) => {}
            }
        }
    }

    fn structure(&mut self, schema: &Schema<'_>, value: &Value, place: &Place) -> Shape {
        if schema.int_or_string {
            return match value {
                Value::String(text) => self.text(schema, text, place),
                Value::Number(number) if number.is_i64() => Shape::Right,
                _ => self.mismatch("integer,string", value, place),
            };
        }
        match (schema.kind.as_deref(), value) {
            (Some("object"), Value::Object(fields)) => self.object(schema, fields, place),
            (Some("array"), Value::Array(items)) => self.array(schema, items, place),
            (Some("string"), Value::String(text)) => self.text(schema, text, place),
            (Some("integer"), Value::Number(number)) if number.is_i64() => {
                self.bounds(schema, number.as_i64().unwrap_or_default(), place);
                Shape::Right
            }
            (Some("boolean"), Value::Bool(_)) | (None, _) => Shape::Right,
            (Some(wanted), _) => self.mismatch(wanted, value, place),
        }
    }

    fn object(&mut self, schema: &Schema<'_>, fields: &Map<String, Value>, place: &Place) -> Shape {
        let mut shape = Shape::Right;
        self.at_most(schema.max_properties, fields.len(), place);
        for missing in schema.required.iter().filter(|name| !fields.contains_key(**name)) {
            self.tell(place.field(missing), "Required value");
            shape = Shape::Wrong;
        }
        for (name, value) in fields {
            let found = match (schema.properties.get(name.as_str()), &schema.additional_properties) {
                (Some(property), _) => self.value(property, value, &place.field(name)),
                (None, Some(values)) => self.value(values, value, &place.key(name)),
                (None, _) if schema.preserve_unknown_fields => Shape::Right,
                (None, _) => self.unknown(schema, name, place),
            };
            if found == Shape::Wrong {
                shape = Shape::Wrong;
            }
        }
        shape
    }

    fn array(&mut self, schema: &Schema<'_>, items: &[Value], place: &Place) -> Shape {
        let mut shape = Shape::Right;
        self.at_most(schema.max_items, items.len(), place);
        if let Some(least) = schema.min_items.filter(|least| items.len() < *least) {
            self.tell(place.clone(), format!("should have at least {least} items, not {}", items.len()));
        }
        if let Some(schema) = &schema.items {
            for (index, item) in items.iter().enumerate() {
                if self.value(schema, item, &place.item(index)) == Shape::Wrong {
                    shape = Shape::Wrong;
                }
            }
        }
        shape
    }

    fn text(&mut self, schema: &Schema<'_>, text: &str, place: &Place) -> Shape {
        let length = text.chars().count();
        if let Some(most) = schema.max_length.filter(|most| length > *most) {
            self.tell(place.clone(), format!("may not be more than {most} bytes, not {length}"));
        }
        if let Some(allowed) = schema.values.as_ref().filter(|allowed| !allowed.iter().any(|allowed| allowed == text)) {
            let words: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
            let meant = alike::meant(text, &words);
            let listed: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
            self.tell(place.clone(), format!("unsupported value {text:?}; {meant}supported values: {}", listed.join(", ")));
        }
        Shape::Right
    }

    #[allow(clippy::cast_precision_loss, reason = "bounds are small, and larger numbers stay larger")]
    fn bounds(&mut self, schema: &Schema<'_>, number: i64, place: &Place) {
        match (schema.minimum, schema.maximum) {
            (Some(minimum), _) if (number as f64) < minimum => {
                self.tell(place.clone(), format!("should be greater than or equal to {minimum}, not {number}"));
            }
            (_, Some(maximum)) if (number as f64) > maximum => {
                self.tell(place.clone(), format!("should be less than or equal to {maximum}, not {number}"));
            }
            _ => {}
        }
    }

    fn at_most(&mut self, most: Option<usize>, length: usize, place: &Place) {
        if let Some(most) = most.filter(|most| length > *most) {
            self.tell(place.clone(), format!("must have at most {most} items, not {length}"));
        }
    }

    fn unknown(&mut self, schema: &Schema<'_>, name: &str, place: &Place) -> Shape {
        let known: Vec<_> = schema.properties.keys().copied().collect();
        let meant = alike::meant(name, &known);
        self.tell(place.field(name), format!("unknown field; {meant}known are {}", known.join(", ")));
        Shape::Wrong
    }

    fn mismatch(&mut self, wanted: &str, value: &Value, place: &Place) -> Shape {
        let found: &dyn Display = match value {
            Value::Object(_) => &"a map",
            Value::Array(_) => &"a list",
            scalar => scalar,
        };
        let remedy = match (wanted, value) {
            ("string", Value::Bool(_) | Value::Number(_)) => "; put it in quotes",
            ("integer", Value::String(text)) if text.parse::<i64>().is_ok() => "; leave out the quotes",
            ("boolean", Value::String(text)) if text.parse::<bool>().is_ok() => "; leave out the quotes",
            _ => "",
        };
        self.tell(place.clone(), format!("must be of type {wanted}, not {found}{remedy}"));
        Shape::Wrong
    }

    fn tell(&mut self, place: Place, message: impl Into<String>) {
        self.wrong.push(Wrong::at(place, message));
    }
}
