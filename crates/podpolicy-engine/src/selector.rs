//! A label selector, parsed once. kube's `Expression` says what one condition means; this is the list of them, which can
//! also be looked through.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as core;
use kube::core::{Expression, SelectorExt};
use podpolicy_api::{LabelSelector, Operator};

/// Conditions on labels, all of which must hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Selector(Vec<Expression>);

impl Selector {
    /// Whether the labels satisfy every condition.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|expression| expression.matches(labels))
    }

    /// Whether labels of which only these are known can satisfy every condition.
    pub(crate) fn can_match(&self, known: &BTreeMap<String, String>) -> bool {
        self.0.iter().filter(|expression| known.contains_key(key(expression))).all(|expression| expression.matches(known))
    }

    /// Whether there is no condition, so that everything is selected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The label keys that conditions are on.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(key)
    }

    /// The conditions as Kubernetes writes them.
    pub fn requirements(&self) -> impl Iterator<Item = core::LabelSelectorRequirement> {
        self.0.iter().map(|expression| {
            let (operator, values) = match expression {
                Expression::Equal(_, value) => ("In", vec![value.clone()]),
                Expression::NotEqual(_, value) => ("NotIn", vec![value.clone()]),
                Expression::In(_, values) => ("In", values.iter().cloned().collect()),
                Expression::NotIn(_, values) => ("NotIn", values.iter().cloned().collect()),
                Expression::Exists(_) => ("Exists", Vec::new()),
                Expression::DoesNotExist(_) => ("DoesNotExist", Vec::new()),
            };
            let values = (!values.is_empty()).then_some(values);
            core::LabelSelectorRequirement { key: key(expression).to_owned(), operator: operator.to_owned(), values }
        })
    }

    /// The conditions.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.0.iter()
    }
}

fn key(expression: &Expression) -> &str {
    match expression {
        Expression::In(key, _)
        | Expression::NotIn(key, _)
        | Expression::Equal(key, _)
        | Expression::NotEqual(key, _)
        | Expression::Exists(key)
        | Expression::DoesNotExist(key) => key,
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, expression) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{expression}")?;
        }
        Ok(())
    }
}

impl From<&LabelSelector> for Selector {
    fn from(selector: &LabelSelector) -> Self {
        let labels = selector.match_labels.iter().map(|(key, value)| Expression::Equal(key.clone(), value.clone()));
        let expressions = selector.match_expressions.iter().map(|requirement| {
            let (key, values) = (requirement.key.clone(), requirement.values.iter().cloned().collect());
            match requirement.operator {
                Operator::In => Expression::In(key, values),
                Operator::NotIn => Expression::NotIn(key, values),
                Operator::Exists => Expression::Exists(key),
                Operator::DoesNotExist => Expression::DoesNotExist(key),
            }
        });
        Self(labels.chain(expressions).collect())
    }
}

impl From<core::LabelSelector> for Selector {
    /// An operator that is not Kubernetes' cannot come from an API server; such a condition is left out.
    fn from(selector: core::LabelSelector) -> Self {
        let labels = selector.match_labels.into_iter().flatten().map(|(key, value)| Expression::Equal(key, value));
        let expressions = selector.match_expressions.into_iter().flatten().filter_map(|requirement| requirement.try_into().ok());
        Self(labels.chain(expressions).collect())
    }
}
