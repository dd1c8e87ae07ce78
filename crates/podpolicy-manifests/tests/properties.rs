//! Properties over manifests in all styles: what comes out means what the engine decided, passing over it again changes nothing, and no
//! line is lost that carries no change.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod given;
mod invariants;

use std::fmt::Write as _;

use given::{NAMESPACE, program, rendered};
use podpolicy_manifests::{Manifest, render};
use proptest::{prelude::*, sample::select};
use serde_json::{Value as Json, json};

const POLICY: &str = "
apiVersion: podpolicy.dev/v1alpha1
kind: ClusterPodPolicy
metadata: {name: standard}
spec:
  selector: {}
  precedence: PRECEDENCE
  labels: {team: shop, app.kubernetes.io/part-of: \"no\"}
  annotations: {example.com/note: 'two\n\n  lines: \"# x\"', tier: \"1\"}
  terminationGracePeriodSeconds: 60
  containers:
  - names: [\"web*\"]
    readinessProbe: {httpGet: {path: /ready, port: 8080, httpHeaders: [{name: Accept, value: \"*/*\"}]}, periodSeconds: 5}
    lifecycle: {preStop: {exec: {command: [sh, -c, \"sleep 5; echo 'done'\"]}}}
  - livenessProbe: {tcpSocket: {port: 9000}}
    startupProbe: {failureThreshold: 30}
";

/// Keys of values that are written with an anchor, and as an alias of it.
const ANCHOR: &str = "&a";
const ALIAS: &str = "*a";

/// How a text is written.
#[derive(Clone, Debug)]
struct Styling {
    indent: usize,
    list_indent: usize,
    flow_from: usize,
    quotes: usize,
    comments: bool,
    ending: &'static str,
    final_newline: bool,
}

impl Styling {
    fn document(&self, value: &Json) -> String {
        let mut text = if self.flow_from == 0 { self.flow(value) } else { self.block(value, 0, 0) };
        text = text.trim_start_matches('\n').replace('\n', self.ending);
        if self.final_newline { text + self.ending } else { text }
    }

    fn scalar(&self, value: &Json) -> String {
        match value.as_str() {
            Some(text) if text.chars().all(|char| char.is_ascii_alphabetic()) && text.len() > 3 => match self.quotes {
                0 => text.to_owned(),
                1 => format!("'{text}'"),
                _ => format!("\"{text}\""),
            },
            _ => value.to_string(),
        }
    }

    fn flow(&self, value: &Json) -> String {
        match value {
            Json::Object(map) if map.contains_key(ALIAS) => ALIAS.to_owned(),
            Json::Object(map) if map.contains_key(ANCHOR) => format!("{ANCHOR} {}", self.flow(&map[ANCHOR])),
            Json::Object(map) => {
                let entries: Vec<_> = map.iter().map(|(key, value)| format!("{key:?}: {}", self.flow(value))).collect();
                format!("{{{}}}", entries.join(", "))
            }
            Json::Array(items) => format!("[{}]", items.iter().map(|item| self.flow(item)).collect::<Vec<_>>().join(", ")),
            _ => self.scalar(value),
        }
    }

    /// Begins with a line ending where the value is lines.
    fn block(&self, value: &Json, column: usize, depth: usize) -> String {
        let blanks = " ".repeat(column);
        match value {
            _ if depth >= self.flow_from => format!(" {}", self.flow(value)),
            Json::Object(map) if map.contains_key(ALIAS) => format!(" {ALIAS}"),
            Json::Object(map) if map.contains_key(ANCHOR) => format!(" {ANCHOR}{}", self.block(&map[ANCHOR], column, depth)),
            Json::Object(map) if !map.is_empty() => {
                let mut text = String::new();
                for (key, value) in map {
                    let column = column + if value.is_array() { self.list_indent } else { self.indent };
                    if self.comments {
                        _ = write!(text, "\n{blanks}# about {key}");
                    }
                    _ = write!(text, "\n{blanks}{key}:{}", self.block(value, column, depth + 1));
                    if self.comments && !value.is_object() && !value.is_array() {
                        _ = write!(text, "  # {key} is so");
                    }
                }
                text
            }
            Json::Array(items) if !items.is_empty() => {
                let mut text = String::new();
                for item in items {
                    let written = self.block(item, column + 2, depth + 1);
                    let first = match written.strip_prefix('\n') {
                        // The first key stands behind the dash, or below it where a comment comes first.
                        Some(lines) if !lines.trim_start().starts_with('#') => format!(" {}", lines.trim_start()),
                        _ => written,
                    };
                    _ = write!(text, "\n{blanks}-{first}");
                }
                text
            }
            _ => format!(" {}", self.flow(value)),
        }
    }
}

fn styling() -> impl Strategy<Value = Styling> {
    (2..5_usize, 0..3_usize, 0..12_usize, 0..3_usize, any::<bool>(), select(vec!["\n", "\r\n"]), any::<bool>()).prop_map(
        |(indent, list_indent, flow_from, quotes, comments, ending, final_newline)| Styling {
            indent,
            list_indent,
            flow_from,
            quotes,
            comments,
            ending,
            final_newline,
        },
    )
}

fn container() -> impl Strategy<Value = Json> {
    let probe = select(vec![
        json!(null),
        json!({ "httpGet": { "path": "/", "port": 80 } }),
        json!({ "tcpSocket": { "port": 9000 }, "periodSeconds": 3, "timeoutSeconds": 1 }),
        json!({ "exec": { "command": ["test", "x"] }, "failureThreshold": 3 }),
        json!({ "httpGet": { "port": 8080, "path": "/ready", "httpHeaders": [{ "name": "A", "value": "b" }] }, "initialDelaySeconds": 0 }),
    ]);
    let lifecycle = select(vec![
        json!(null),
        json!({}),
        json!({ "postStart": { "exec": { "command": ["a"] } } }),
        json!({ "preStop": { "sleep": { "seconds": 1 } } }),
    ]);
    let probes = (probe.clone(), probe.clone(), probe);
    (probes, lifecycle, any::<bool>()).prop_map(|((liveness, readiness, startup), lifecycle, keeps_null)| {
        let mut container = json!({ "image": "nginx", "args": ["one", "-x"], "zeal": [] });
        for (field, value) in
            [("livenessProbe", liveness), ("readinessProbe", readiness), ("startupProbe", startup), ("lifecycle", lifecycle)]
        {
            if keeps_null || !value.is_null() {
                container[field] = value;
            }
        }
        container
    })
}

fn object() -> impl Strategy<Value = Json> {
    let map = || select(vec![json!(null), json!({}), json!({ "app": "abcd" }), json!({ "app": "x: y", "team": "bank", "tier": "1" })]);
    let grace = select(vec![json!(null), json!(30), json!(5)]);
    let kind = select(vec!["Deployment", "CronJob", "Pod", "List"]);
    (map(), map(), grace, prop::collection::vec(container(), 1..3), kind, any::<bool>()).prop_map(|(labels, annotations, grace, mut containers, kind, is_bare)| {
        for (container, name) in containers.iter_mut().zip(["web-a", "side"]) {
            container["name"] = name.into();
        }
        let mut pod = json!({ "metadata": { "labels": labels, "annotations": annotations }, "spec": { "containers": containers, "terminationGracePeriodSeconds": grace } });
        if is_bare {
            pod["metadata"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
            pod["spec"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
        }
        let metadata = json!({ "name": "abcde" });
        match kind {
            "Deployment" => json!({ "kind": kind, "apiVersion": "apps/v1", "metadata": metadata, "spec": { "template": pod, "replicas": 2 } }),
            "CronJob" => json!({ "kind": kind, "metadata": metadata, "spec": { "jobTemplate": { "spec": { "template": pod } } } }),
            "List" => json!({ "kind": kind, "items": [{ "kind": "Job", "metadata": metadata, "spec": { "template": pod } }, { "kind": "ConfigMap" }] }),
            _ => {
                pod["kind"] = "Pod".into();
                pod["apiVersion"] = "v1".into();
                pod["metadata"]["name"] = "abcde".into();
                pod
            }
        }
    })
}

/// The object with an anchor at one of its values, and an alias in place of a later one of the same type, if there is one.
fn with_alias(mut object: Json, (first, second): (usize, usize)) -> Json {
    let mut places = Vec::new();
    collect(&object, "", &mut places);
    let at = first % places.len();
    let is_meant = |place: &&String| {
        let kind = |place: &String| std::mem::discriminant(object.pointer(place).unwrap());
        !place.starts_with(&format!("{}/", places[at])) && kind(place) == kind(&places[at])
    };
    let later: Vec<_> = places[at + 1..].iter().filter(is_meant).cloned().collect();
    if let Some(alias) = later.get(second % later.len().max(1)) {
        let anchored = object.pointer_mut(&places[at]).unwrap();
        *anchored = json!({ ANCHOR: anchored.take() });
        *object.pointer_mut(alias).unwrap() = json!({ ALIAS: null });
    }
    object
}

/// All values in there, in the order in which they are written, by their JSON pointers.
fn collect(value: &Json, at: &str, places: &mut Vec<String>) {
    let inner: Vec<_> = match value {
        Json::Object(map) => map.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect(),
        Json::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    for (key, value) in inner {
        let place = format!("{at}/{key}");
        places.push(place.clone());
        collect(value, &place, places);
    }
}

fn is_subsequence(lines: &[&str], of: &[&str]) -> Option<String> {
    let mut of = of.iter();
    lines.iter().find(|line| !of.any(|other| other == *line)).map(|line| (*line).to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rendering_keeps_what_it_does_not_change(objects in prop::collection::vec((object(), styling()), 1..3), replaces: bool) {
        let texts: Vec<_> = objects.iter().map(|(object, styling)| styling.document(object)).collect();
        let text = texts.iter().map(|text| format!("---\n{}", text.trim_end())).collect::<Vec<_>>().join("\n")
            + if objects.last().unwrap().1.final_newline { "\n" } else { "" };
        let policy = POLICY.replace("PRECEDENCE", if replaces { "Policy" } else { "Workload" });
        let once = rendered(&policy, &text);
        prop_assert!(once.problems.is_empty(), "{}\n{:?}", text, once.problems);
        let after = once.text(&text).unwrap_or_else(|| text.clone());
        prop_assert_eq!(after.ends_with('\n'), text.ends_with('\n'));

        let twice = rendered(&policy, &after);
        prop_assert!(twice.problems.is_empty(), "{}\n{:?}", after, twice.problems);
        prop_assert!(twice.text(&after).is_none(), "{}\nthen\n{}", after, twice.text(&after).unwrap_or_default());

        // Lines with a brace or an empty value may be written anew, and numbers that Kubernetes takes anyway may be tuned; all other lines only
        // where the policy replaces.
        let may_change = |line: &&str| line.contains("Threshold: 3") || line.contains("Seconds: 30") || line.contains(['{', '[']) || line.contains(": null") || (replaces && !line.trim_start().starts_with('#'));
        let kept: Vec<_> = text.lines().filter(|line| !may_change(line)).collect();
        let lines: Vec<_> = after.lines().collect();
        if !replaces {
            prop_assert_eq!(is_subsequence(&kept, &lines), None, "{}\nthen\n{}", text, after);
        }
    }

    #[test]
    fn aliases_show_what_they_showed(object in object(), places: (usize, usize), styling in styling(), replaces: bool) {
        let text = styling.document(&with_alias(object, places));
        let policy = POLICY.replace("PRECEDENCE", if replaces { "Policy" } else { "Workload" });
        let manifest = Manifest::parse(text.clone()).unwrap();
        let program = program(&policy, &[&manifest]);
        let rendered = render(&manifest, &program, NAMESPACE);
        // Some of these are refused, for what an alias shows, or for a value of the wrong type; never for a mistake of the editing.
        prop_assert!(rendered.problems.iter().all(|problem| !problem.message.contains("please report it")), "{}\n{:?}", text, rendered.problems);
        let after = invariants::after(&manifest, &rendered);
        if rendered.problems.is_empty() {
            invariants::is_done(&program, NAMESPACE, &after);
            invariants::means_what_was_decided(&manifest, &program, NAMESPACE, &after);
        }
    }
}
