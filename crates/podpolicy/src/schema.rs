//! What the API server would check of a policy by the schema of its definition: unknown and missing fields, types, bounds. The rules in
//! CEL are not tried.

use std::{fmt, sync::OnceLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use podpolicy_api::custom_resource_definitions;
use podpolicy_manifests::Step;
use serde_json::Value;

/// How alike a word must be to a known one to be taken for a slip of it, from 0 to 1.
const ALIKE: f64 = 0.7;

/// What is wrong with one field of a policy. `Display` gives `path: message`.
#[derive(Debug)]
pub(crate) struct Wrong {
    path: String,
    message: String,
}

impl Wrong {
    /// A mistake in the field of that path.
    pub(crate) fn field(path: &str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), message: message.into() }
    }

    /// A mistake in words that begin with the path of the field.
    pub(crate) fn of(text: &str) -> Self {
        match text.split_once(": ") {
            Some((path, message)) if !path.contains(' ') => Self::field(path, message),
            _ => Self::field("", text),
        }
    }

    /// The way to the field, from the policy on.
    pub(crate) fn path(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut rest = self.path.as_str();
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let (step, after) = inner.split_once(']').unwrap_or((inner, ""));
                steps.push(step.parse().map_or_else(|_| Step::Key(step.to_owned()), Step::Index));
                rest = after;
            } else {
                rest = rest.strip_prefix('.').unwrap_or(rest);
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                steps.push(Step::Key(rest[..end].to_owned()));
                rest = &rest[end..];
            }
        }
        steps
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

type Result<T> = std::result::Result<T, Wrong>;

/// Fails with a mistake in a field.
macro_rules! bail {
    ($($text:tt)*) => { return Err(Wrong::of(&format!($($text)*))) };
}

/// Checks the spec of a policy. The error begins with the path of the field.
pub(crate) fn check(kind: &str, api_version: &str, policy: &Value) -> Result<()> {
    // It takes longer to make them than to read most files.
    static DEFINITIONS: OnceLock<[CustomResourceDefinition; 2]> = OnceLock::new();
    let definitions = DEFINITIONS.get_or_init(custom_resource_definitions);
    let definition = definitions.iter().find(|definition| definition.spec.names.kind == kind);
    let versions = definition.iter().flat_map(|definition| &definition.spec.versions);
    let version = versions.clone().find(|version| api_version.split_once('/').is_some_and(|(_, wanted)| wanted == version.name));
    let Some(version) = version else {
        let known = versions.map(|version| version.name.as_str()).collect::<Vec<_>>().join(", ");
        bail!("apiVersion: {api_version} is not known; the versions are {known}");
    };
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let spec = schema.and_then(|schema| schema.properties.as_ref()?.get("spec"));
    let Some(spec) = spec else { return Ok(()) };
    match policy.get("spec") {
        Some(value) => check_value(spec, value, "spec"),
        None => bail!("spec: required"),
    }
}

fn check_value(schema: &JSONSchemaProps, value: &Value, path: &str) -> Result<()> {
    // An absent field and one that is null are the same.
    if value.is_null() {
        return Ok(());
    }
    if schema.x_kubernetes_int_or_string == Some(true) {
        return if value.is_string() || value.is_i64() { Ok(()) } else { bail!("{path}: an integer or a string is wanted, not {value}") };
    }
    if let Some(allowed) = schema.enum_.as_ref().filter(|allowed| !allowed.iter().any(|allowed| allowed.0 == *value)) {
        let allowed: Vec<_> = allowed.iter().filter_map(|allowed| allowed.0.as_str()).collect();
        bail!("{path}: one of {} is wanted, not {value}", allowed.join(", "));
    }
    match (schema.type_.as_deref(), value) {
        (Some("object"), Value::Object(fields)) => check_object(schema, fields, path),
        (Some("array"), Value::Array(items)) => check_items(schema, items, path),
        (Some("integer"), Value::Number(number)) if number.is_i64() => check_bounds(schema, number.as_i64().unwrap_or_default(), path),
        (Some("boolean"), Value::Bool(_)) | (Some("string"), Value::String(_)) | (None, _) => Ok(()),
        (Some(wanted), _) => {
            let article = if wanted.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
            bail!("{path}: {article} {wanted} is wanted, not {value}")
        }
    }
}

fn check_object(schema: &JSONSchemaProps, fields: &serde_json::Map<String, Value>, path: &str) -> Result<()> {
    if let Some(missing) = schema.required.iter().flatten().find(|name| fields.get(*name).is_none_or(Value::is_null)) {
        bail!("{path}.{missing}: required");
    }
    for (name, value) in fields {
        match (schema.properties.as_ref().and_then(|known| known.get(name)), &schema.additional_properties) {
            (Some(property), _) => check_value(property, value, &format!("{path}.{name}"))?,
            (None, Some(JSONSchemaPropsOrBool::Schema(values))) => check_value(values, value, &format!("{path}[{name}]"))?,
            (None, _) => {
                let known: Vec<_> = schema.properties.iter().flat_map(|known| known.keys()).map(String::as_str).collect();
                let likeness = |known: &str| strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase());
                let alike = known.iter().filter(|known| likeness(known) > ALIKE).max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
                let meant = alike.map(|alike| format!("did you mean {alike}? ")).unwrap_or_default();
                bail!("{path}.{name}: unknown field; {meant}known are {}", known.join(", "));
            }
        }
    }
    Ok(())
}

fn check_items(schema: &JSONSchemaProps, items: &[Value], path: &str) -> Result<()> {
    if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
        for (index, item) in items.iter().enumerate() {
            check_value(schema, item, &format!("{path}[{index}]"))?;
        }
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "bounds are small, and larger numbers stay larger")]
fn check_bounds(schema: &JSONSchemaProps, number: i64, path: &str) -> Result<()> {
    match (schema.minimum, schema.maximum) {
        (Some(minimum), _) if (number as f64) < minimum => bail!("{path}: at least {minimum} is wanted, not {number}"),
        (_, Some(maximum)) if (number as f64) > maximum => bail!("{path}: at most {maximum} is wanted, not {number}"),
        _ => Ok(()),
    }
}
