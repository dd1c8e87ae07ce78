//! `docs/reference.md` is made from the definitions. `UPDATE=1 cargo test -p podpolicy-api` rewrites it.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, JSONSchemaProps, ValidationRule,
};
use podpolicy_api::custom_resource_definitions;

use crate::schema::{self, description, element};

const HEADER: &str = "\
# Reference

<!-- Made from the Rust types: `UPDATE=1 cargo test -p podpolicy-api` rewrites this page. -->

Every field of both kinds, of the API version `podpolicy.dev/v1alpha1`. `kubectl explain podpolicy.spec.containers` prints the
same text. Durations, counts and names are spelled as in Kubernetes' core/v1. The API server itself refuses what is not allowed
here, with a message that names the field. What conditions and findings mean, and what to do about them, is in
[findings.md](findings.md).
";

#[test]
fn reference_is_what_the_types_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference.md");
    let wanted = reference(&custom_resource_definitions());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &wanted).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "docs/reference.md is not what the types say: run `UPDATE=1 cargo test -p podpolicy-api`");
}

fn reference(definitions: &[CustomResourceDefinition]) -> String {
    let mut page = HEADER.to_owned();
    let mut parts = Parts::default();
    for definition in definitions {
        let names = &definition.spec.names;
        let root = schema::of(definition);
        let short: Vec<_> = names.short_names.iter().flatten().map(|name| format!("`{name}`")).collect();
        let category: Vec<_> = names.categories.iter().flatten().map(|name| format!("`{name}`")).collect();
        write!(
            page,
            "\n## {kind}\n\n{}\n\n{} Short name: {}. Category: {}, for both kinds at once.\n\n",
            description(root),
            if definition.spec.scope == "Namespaced" { "Namespaced." } else { "Cluster-scoped." },
            short.join(", "),
            category.join(", "),
            kind = names.kind,
        )
        .unwrap();
        page.push_str("`kubectl get` prints:\n\n| Column | What it says |\n|---|---|\n");
        for CustomResourceColumnDefinition { name, description, .. } in
            definition.spec.versions[0].additional_printer_columns.iter().flatten()
        {
            writeln!(page, "| {} | {} |", name.to_uppercase(), description.as_deref().unwrap_or_default()).unwrap();
        }
        let properties = root.properties.as_ref().unwrap();
        let spec = Parts::object(&properties["spec"], &mut parts);
        write!(page, "\n### {} spec\n\n{spec}", names.kind).unwrap();
        parts.add("Status", &properties["status"]);
    }
    page.push_str("\n## Parts\n");
    for title in &parts.order {
        write!(page, "\n### {title}\n\n{}", parts.texts[title]).unwrap();
    }
    page
}

/// The objects inside a spec or a status. Those of the same title are the same, wherever they stand.
#[derive(Default)]
struct Parts {
    order: Vec<String>,
    texts: BTreeMap<String, String>,
}

impl Parts {
    fn add(&mut self, title: &str, schema: &JSONSchemaProps) {
        let is_new = !self.order.iter().any(|known| known == title);
        if is_new {
            self.order.push(title.to_owned());
        }
        let text = Self::object(schema, self);
        let known = self.texts.entry(title.to_owned()).or_insert_with(|| text.clone());
        assert_eq!(*known, text, "two different objects have the title {title}: give one another");
    }

    /// The table of an object's fields, and its rules.
    fn object(schema: &JSONSchemaProps, parts: &mut Self) -> String {
        let required = schema.required.as_deref().unwrap_or_default();
        let mut text = "| Field | Type | Default | Allowed | What it does |\n|---|---|---|---|---|\n".to_owned();
        for (name, property) in schema.properties.iter().flatten() {
            let default = match &property.default {
                Some(default) => format!("`{}`", default.0.to_string().trim_matches('"')),
                None if required.contains(name) => "required".to_owned(),
                None => String::new(),
            };
            let type_ = parts.type_of(name, property);
            let cells = [format!("`{name}`"), type_, default, allowed(property), description(property).to_owned()];
            writeln!(text, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | ")).unwrap();
        }
        let rules: Vec<_> = schema.x_kubernetes_validations.iter().flatten().map(rule).collect();
        if !rules.is_empty() {
            write!(text, "\nAlso:\n\n{}", rules.iter().fold(String::new(), |list, rule| list + "- " + rule + "\n")).unwrap();
        }
        text
    }

    /// The type in words; that of an object is a link to its part.
    fn type_of(&mut self, name: &str, schema: &JSONSchemaProps) -> String {
        if schema.x_kubernetes_int_or_string == Some(true) {
            return "integer or string".to_owned();
        }
        let type_ = schema.type_.as_deref().unwrap_or_default();
        match (type_, element(schema)) {
            ("array", Some(items)) => format!("list of {}", self.type_of(name, items)),
            ("object", Some(values)) => format!("map of string to {}", self.type_of(name, values)),
            ("object", None) => {
                let title = title(name, schema);
                self.add(title, schema);
                format!("[{title}](#{})", title.to_lowercase().replace(' ', "-"))
            }
            _ => type_.to_owned(),
        }
    }
}

/// What the object that a field holds is called.
fn title(field: &str, schema: &JSONSchemaProps) -> &'static str {
    let has = |name: &str| schema.properties.as_ref().is_some_and(|properties| properties.contains_key(name));
    match field {
        "selector" | "namespaceSelector" => "Label selector",
        "matchExpressions" => "Label selector requirement",
        "containers" => "Container rule",
        "livenessProbe" | "readinessProbe" | "startupProbe" => "Probe",
        "lifecycle" => "Lifecycle",
        "postStart" | "preStop" => "Hook",
        "httpGet" => "HTTP GET",
        "httpHeaders" => "HTTP header",
        "tcpSocket" => "TCP socket",
        "grpc" => "gRPC",
        "exec" => "Exec",
        "sleep" => "Sleep",
        "rollout" if has("phase") => "Rollout status",
        "rollout" => "Rollout",
        "failure" => "Rollout failure",
        "admission" => "Admission status",
        "conditions" => "Condition",
        "execChecked" => "Exec check",
        "findings" => "Finding",
        "pods" => "Pod counts",
        field => panic!("the object {field} has no title yet: give it one here"),
    }
}

/// The bounds and rules of a field and of what it holds.
fn allowed(schema: &JSONSchemaProps) -> String {
    let mut bounds = Vec::new();
    if let Some(values) = &schema.enum_ {
        bounds.push(values.iter().map(|value| format!("`{}`", value.0.as_str().unwrap_or("null"))).collect::<Vec<_>>().join(", "));
    }
    match (schema.minimum, schema.maximum) {
        (Some(minimum), Some(maximum)) => bounds.push(format!("{minimum} to {maximum}")),
        (Some(minimum), None) => bounds.push(format!("at least {minimum}")),
        (None, Some(maximum)) => bounds.push(format!("at most {maximum}")),
        (None, None) => {}
    }
    match (schema.min_items, schema.max_items) {
        (Some(minimum), Some(maximum)) => bounds.push(format!("{minimum} to {maximum} items")),
        (None, Some(maximum)) => bounds.push(format!("at most {maximum} items")),
        (_, None) => {}
    }
    if let Some(maximum) = schema.max_properties {
        bounds.push(format!("at most {maximum} entries"));
    }
    let is_number_too = schema.x_kubernetes_int_or_string == Some(true);
    if let Some(maximum) = schema.max_length.filter(|_| !is_number_too) {
        bounds.push(format!("at most {maximum} bytes"));
    }
    let is_object = schema.properties.is_some();
    if !is_object {
        bounds.extend(schema.x_kubernetes_validations.iter().flatten().map(rule));
    }
    if let Some(inner) = element(schema).map(allowed).filter(|inner| !inner.is_empty()) {
        bounds.push(format!("each: {inner}"));
    }
    bounds.join("; ")
}

fn rule(rule: &ValidationRule) -> String {
    let message = rule.message.as_deref().unwrap_or_else(|| panic!("no message for {}", rule.rule));
    match &rule.field_path {
        Some(path) => format!("`{}`: {message}", path.trim_start_matches('.')),
        None => message.to_owned(),
    }
}
