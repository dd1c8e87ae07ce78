//! Values to types, with the field that does not fit and words for it that a person understands.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serde_path_to_error::Segment;

use crate::Step;

/// A value that its field cannot have.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// The way to it, from the value that was read on.
    pub(crate) path: Vec<Step>,
    pub(crate) message: String,
}

/// Reads a value. `unknown` is told of fields that the type does not have.
pub(crate) fn read<T: DeserializeOwned>(value: &Json, mut unknown: impl FnMut(Vec<Step>)) -> Result<T, Misfit> {
    let mut track = serde_path_to_error::Track::new();
    let with_path = serde_path_to_error::Deserializer::new(value, &mut track);
    let mut ignored = |path: serde_ignored::Path<'_>| unknown(ignored_steps(&path));
    let told = serde_ignored::Deserializer::new(with_path, &mut ignored);
    // The types of Kubernetes are many, and compiled once for all that is wrapped here.
    match erased_serde::deserialize(&mut <dyn erased_serde::Deserializer<'_>>::erase(told)) {
        Ok(read) => Ok(read),
        Err(error) => {
            let path = track.path().iter().filter_map(step).collect();
            Err(Misfit { path, message: in_words(&error.to_string()) })
        }
    }
}

impl Misfit {
    /// `spec.containers[0].image: a string is wanted, not a list`
    pub(crate) fn told(&self) -> String {
        let field = field(&self.path);
        if field.is_empty() { self.message.clone() } else { format!("{field}: {}", self.message) }
    }
}

/// The way to a field as people write it: `spec.containers[0].image`.
pub(crate) fn field(path: &[Step]) -> String {
    path.iter().fold(String::new(), |field, step| match step {
        Step::Key(key) if field.is_empty() => key.clone(),
        // Such as the key of a label.
        Step::Key(key) if key.contains(['.', '/']) => format!("{field}[{key}]"),
        Step::Key(key) => format!("{field}.{key}"),
        Step::Index(index) => format!("{field}[{index}]"),
    })
}

fn step(segment: &Segment) -> Option<Step> {
    match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}

fn ignored_steps(path: &serde_ignored::Path<'_>) -> Vec<Step> {
    use serde_ignored::Path;
    let (parent, step) = match path {
        Path::Root => return Vec::new(),
        Path::Seq { parent, index } => (parent, Some(Step::Index(*index))),
        Path::Map { parent, key } => (parent, Some(Step::Key(key.clone()))),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => (parent, None),
    };
    let mut steps = ignored_steps(parent);
    steps.extend(step);
    steps
}

/// Serde says `invalid type: string "5", expected i32`.
fn in_words(error: &str) -> String {
    if error.starts_with("invalid length ") && error.contains("struct ") {
        return "a mapping is wanted, not a list".to_owned();
    }
    let rest = error.strip_prefix("invalid type: ").or_else(|| error.strip_prefix("invalid value: "));
    let Some((given, wanted)) = rest.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return if error.contains("untagged enum Port") { "a number or a name is wanted".to_owned() } else { error.to_owned() };
    };
    let scalar = ["boolean ", "integer ", "floating point ", "string "].iter().find_map(|kind| given.strip_prefix(kind));
    let quoted = scalar.map(|scalar| scalar.trim_matches('`'));
    let given = match given {
        "map" => "a mapping",
        "sequence" => "a list",
        "null" | "unit value" => "nothing",
        other => quoted.unwrap_or(other),
    };
    let is_number = wanted.starts_with(['i', 'u', 'f']) && wanted[1..].bytes().all(|byte| byte.is_ascii_digit());
    let (wanted, remedy) = match wanted {
        "a string" if given == "nothing" => ("a string", "; give it a value, or remove it"),
        "a string" => ("a string", quoted.map_or("", |_| "; put it in quotes")),
        "a boolean" => ("true or false", ""),
        "a sequence" => ("a list", ""),
        "a map" => ("a mapping", ""),
        _ if is_number => {
            let is_digits = given.trim_matches('"').parse::<i64>().is_ok() && given.starts_with('"');
            ("a whole number", if is_digits { "; take it out of quotes" } else { "" })
        }
        "IntOrString" => ("a number or a string", ""),
        // Names of types.
        other if other.starts_with("struct ") || other.starts_with(char::is_uppercase) => ("a mapping", ""),
        other => (other, ""),
    };
    format!("{wanted} is wanted, not {given}{remedy}")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    #[test]
    fn misfits_are_told_by_field_and_in_words() {
        let told =
            |container: Json| read::<Pod>(&json!({ "apiVersion": "v1", "kind": "Pod", "spec": { "containers": container } }), |_| {});
        for (containers, wanted) in [
            (json!({}), "spec.containers: a list is wanted, not a mapping"),
            (json!("a"), "spec.containers: a list is wanted, not \"a\""),
            (json!([{ "name": true }]), "spec.containers[0].name: a string is wanted, not true; put it in quotes"),
            (json!([{ "image": [] }]), "spec.containers[0].image: a string is wanted, not a list"),
            (
                json!([{ "ports": [{ "containerPort": "80" }] }]),
                "spec.containers[0].ports[0].containerPort: a whole number is wanted, not \"80\"; take it out of quotes",
            ),
            (json!([{ "stdin": "yes" }]), "spec.containers[0].stdin: true or false is wanted, not \"yes\""),
            (json!([5]), "spec.containers[0]: a mapping is wanted, not 5"),
            (json!([{ "env": { "A": "b" } }]), "spec.containers[0].env: a list is wanted, not a mapping"),
            (
                json!([{ "livenessProbe": { "tcpSocket": { "port": [] } } }]),
                "spec.containers[0].livenessProbe.tcpSocket.port: a number or a string is wanted, not a list",
            ),
        ] {
            assert_eq!(told(containers).unwrap_err().told(), wanted);
        }
    }

    #[test]
    fn unknown_fields_are_told() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "labls": {}, "labels": { "a": "b" } },
            "spec": { "containers": [{ "name": "a", "readinesProbe": { "httpGet": {} } }] },
        });
        let mut unknown = Vec::new();
        read::<Pod>(&pod, |path| unknown.push(field(&path))).unwrap();
        assert_eq!(unknown, ["metadata.labls", "spec.containers[0].readinesProbe"]);
    }
}
