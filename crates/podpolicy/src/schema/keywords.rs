//! The keywords of schemas that say something of values. A whole `JSONSchemaProps` has three times as many, and takes ten times the room: a command
//! on a small file would spend most of its time on those.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::Value;

/// A schema. What another keyword says is not looked at; a test sees to it that definitions have no such keyword.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Schema<'a> {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) default: Option<Value>,
    #[serde(rename = "enum")]
    pub(super) values: Option<Vec<Value>>,
    #[serde(borrow)]
    pub(super) properties: BTreeMap<&'a str, Box<Schema<'a>>>,
    #[serde(borrow)]
    pub(super) required: Vec<&'a str>,
    #[serde(borrow)]
    pub(super) additional_properties: Option<Box<Schema<'a>>>,
    #[serde(borrow)]
    pub(super) items: Option<Box<Schema<'a>>>,
    pub(super) minimum: Option<f64>,
    pub(super) maximum: Option<f64>,
    pub(super) max_length: Option<usize>,
    pub(super) min_items: Option<usize>,
    pub(super) max_items: Option<usize>,
    pub(super) max_properties: Option<usize>,
    #[serde(rename = "x-kubernetes-int-or-string")]
    pub(super) int_or_string: bool,
    #[serde(rename = "x-kubernetes-preserve-unknown-fields")]
    pub(super) preserve_unknown_fields: bool,
    #[serde(rename = "x-kubernetes-validations", borrow)]
    pub(super) rules: Vec<Rule<'a>>,
}

/// A rule in CEL.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule<'a> {
    #[serde(borrow, rename = "rule")]
    pub(super) expression: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) message_expression: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) field_path: Option<Cow<'a, str>>,
}
