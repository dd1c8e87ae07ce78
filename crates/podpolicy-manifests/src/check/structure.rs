//! Whether Kubernetes would take an object that makes pods: its fields are known, their values have the right type, and nothing is missing that
//! every pod needs.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::{CronJob, Job},
    core::v1::{Pod, PodTemplate, ReplicationController},
};
use podpolicy_api::{
    StopSignal,
    names::{is_dns_label, is_label_value, is_qualified_name},
};
use podpolicy_engine::kubernetes::Version;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{
    rule::{INVALID_MANIFEST, Rule, Severity},
    versions,
};
use crate::{
    Object, Step,
    object::place,
    wrong_type::{self, Misfit},
};

const UNKNOWN_FIELD: Rule = Rule {
    id: "unknown-field",
    severity: Severity::Error,
    summary: "an object that makes pods has a field that Kubernetes does not know",
    why: "kubectl refuses it; other clients have it dropped without a word, and a probe under a misspelt name is no probe.",
    remedy: "Correct the name of the field, or its indentation; kubectl explain lists the fields of each kind.",
};

const UNKNOWN_KIND: Rule = Rule {
    id: "unknown-kind",
    severity: Severity::Error,
    summary: "an object has the kind of a workload under another apiVersion, or in other capitals",
    why: "The API server does not know the kind, so that nothing becomes of the object, nor do policies look at its pods.",
    remedy: "Write apiVersion and kind as the message says.",
};

pub(super) const RULES: [&Rule; 2] = [&UNKNOWN_FIELD, &UNKNOWN_KIND];

/// Reads an object, and tells of fields that it should not have.
type Read = fn(&Json, &mut dyn FnMut(Vec<Step>)) -> Result<(), Misfit>;

/// The kinds of Kubernetes that make pods.
const KINDS: [(&str, &str, Read); 9] = [
    ("v1", "Pod", read::<Pod>),
    ("v1", "PodTemplate", read::<PodTemplate>),
    ("v1", "ReplicationController", read::<ReplicationController>),
    ("apps/v1", "Deployment", read::<Deployment>),
    ("apps/v1", "StatefulSet", read::<StatefulSet>),
    ("apps/v1", "DaemonSet", read::<DaemonSet>),
    ("apps/v1", "ReplicaSet", read::<ReplicaSet>),
    ("batch/v1", "Job", read::<Job>),
    ("batch/v1", "CronJob", read::<CronJob>),
];

/// Groups in which the API server had workloads, and has none any more.
const FORMER: [&str; 6] = ["extensions/v1beta1", "apps/v1beta1", "apps/v1beta2", "batch/v1beta1", "batch/v2alpha1", "batch"];

/// What is wrong with one field of an object, and where it is, from the object on.
pub(super) struct Defect {
    pub(super) rule: &'static Rule,
    pub(super) path: Vec<Step>,
    pub(super) field: String,
    pub(super) message: String,
}

impl Defect {
    pub(super) fn new(rule: &'static Rule, path: Vec<Step>, message: impl Into<String>) -> Self {
        Self { rule, field: wrong_type::field(&path), path, message: message.into() }
    }
}

/// What is wrong with an object for a version of Kubernetes; objects of kinds that make no pods are not looked at.
pub(super) fn defects(object: &Object<'_>, version: Version) -> Vec<Defect> {
    let Some((api_version, kind, read)) = KINDS.into_iter().find(|(_, kind, _)| kind.eq_ignore_ascii_case(object.kind)) else {
        return Vec::new();
    };
    if (object.api_version, object.kind) != (api_version, kind) {
        let is_meant = KINDS.iter().any(|(known, ..)| *known == object.api_version) || FORMER.contains(&object.api_version);
        let message = format!("there is no {} in {}; write apiVersion: {api_version} and kind: {kind}", object.kind, object.api_version);
        return Vec::from_iter(is_meant.then(|| Defect::new(&UNKNOWN_KIND, Step::keys(["kind"]), message)));
    }
    let versions::Findings { mut defects, former } = versions::findings(object, version);
    let mut unknown = |path: Vec<Step>| {
        if !former.contains(&path) && !path.iter().any(|step| matches!(step, Step::Key(key) if is_variable(key))) {
            defects.push(Defect::new(&UNKNOWN_FIELD, path, "Kubernetes does not know this field"));
        }
    };
    match read(&with_quantities_as_texts(object.value), &mut unknown) {
        Ok(()) => defects.extend(lacks(object)),
        Err(Misfit { path, message }) if !at(object.value, &path).and_then(Json::as_str).is_some_and(is_variable) => {
            defects.push(Defect::new(&INVALID_MANIFEST, path, message));
        }
        Err(_) => {}
    }
    defects
}

fn read<T: DeserializeOwned>(value: &Json, unknown: &mut dyn FnMut(Vec<Step>)) -> Result<(), Misfit> {
    wrong_type::read::<T>(value, unknown).map(drop)
}

/// Whether a text is to be filled in by Flux, envsubst or a template before anybody applies it.
fn is_variable(text: &str) -> bool {
    text.contains("${") || text.contains("{{") || text.contains("$(")
}

pub(super) fn at<'a>(value: &'a Json, path: &[Step]) -> Option<&'a Json> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

/// Quantities may be numbers, as in `cpu: 1`.
fn with_quantities_as_texts(value: &Json) -> Json {
    match value {
        Json::Object(map) => Json::Object(
            map.iter()
                .map(|(key, value)| {
                    let value = match (key.as_str(), value) {
                        ("limits" | "requests" | "overhead" | "capacity", Json::Object(quantities)) => {
                            Json::Object(quantities.iter().map(|(name, quantity)| (name.clone(), as_text(quantity))).collect())
                        }
                        ("sizeLimit" | "divisor", quantity) => as_text(quantity),
                        (_, value) => with_quantities_as_texts(value),
                    };
                    (key.clone(), value)
                })
                .collect(),
        ),
        Json::Array(items) => Json::Array(items.iter().map(with_quantities_as_texts).collect()),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => value.clone(),
    }
}

fn as_text(quantity: &Json) -> Json {
    if quantity.is_number() { Json::from(quantity.to_string()) } else { quantity.clone() }
}

/// What the API server misses, or finds to contradict itself.
fn lacks(object: &Object<'_>) -> Vec<Defect> {
    let way = Step::keys(place(object.api_version, object.kind).iter().copied());
    let path = |keys: &[&str]| [way.clone(), Step::keys(keys.iter().copied())].concat();
    let template = at(object.value, &way).unwrap_or(&Json::Null);
    let mut defects = Vec::new();
    let mut tell = |path: Vec<Step>, message: String| defects.push(Defect::new(&INVALID_MANIFEST, path, message));
    let list = |name: &str| template["spec"][name].as_array().map(Vec::as_slice).unwrap_or_default();
    if list("containers").is_empty() {
        tell(path(&["spec", "containers"]), "there is no container; is it indented as it should be?".to_owned());
    }
    let mut names = BTreeSet::new();
    for name in ["containers", "initContainers"] {
        for (index, container) in list(name).iter().enumerate() {
            let here = |field: &str| [path(&["spec", name]), vec![Step::Index(index), Step::Key(field.to_owned())]].concat();
            match container["name"].as_str().unwrap_or_default() {
                "" => tell(here("name"), "a container needs a name".to_owned()),
                name if is_variable(name) => {}
                name if !is_dns_label(name) => {
                    tell(here("name"), format!("{name:?} is no name of a container: lower-case letters, digits and '-', 63 at most"));
                }
                name if !names.insert(name) => tell(here("name"), format!("another container of the pod is named {name} as well")),
                _ => {}
            }
            for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                one_handler(&container[probe], ["httpGet", "tcpSocket", "grpc", "exec"], |message| tell(here(probe), message));
            }
            for hook in ["preStop", "postStart"] {
                let mut hook_path = here("lifecycle");
                hook_path.push(Step::Key(hook.to_owned()));
                let handlers = ["exec", "httpGet", "sleep", "tcpSocket"];
                one_handler(&container["lifecycle"][hook], handlers, |message| tell(hook_path.clone(), message));
            }
            let os = template["spec"]["os"]["name"].as_str().unwrap_or_default();
            if let Some(message) = container["lifecycle"]["stopSignal"].as_str().and_then(|signal| misfit_signal(signal, os)) {
                tell([here("lifecycle"), Step::keys(["stopSignal"])].concat(), message);
            }
        }
    }
    for (field, is_value) in [("labels", is_label_value as fn(&str) -> bool), ("annotations", |_| true)] {
        for (key, value) in template["metadata"][field].as_object().into_iter().flatten() {
            let here = || path(&["metadata", field, key]);
            let value = value.as_str().unwrap_or_default();
            if !is_variable(key) && !is_qualified_name(key) {
                tell(here(), "no label or annotation has such a key; one looks like team or example.com/team".to_owned());
            }
            if !is_variable(value) && !is_value(value) {
                tell(here(), format!("a label cannot have the value {value:?}: letters, digits, '-', '_' and '.', 63 at most"));
            }
        }
    }
    let selector = object.value["spec"]["selector"]["matchLabels"].as_object();
    let labels = &template["metadata"]["labels"];
    let selects = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"].contains(&object.kind);
    if let Some((key, value)) = selector.filter(|_| selects).into_iter().flatten().find(|(key, value)| labels.get(key) != Some(value)) {
        let value = value.as_str().unwrap_or_default();
        tell(Step::keys(["spec", "selector", "matchLabels", key]), format!("the pod template lacks the label {key}: {value}"));
    }
    defects
}

/// What Kubernetes has against a stop signal in a pod of an operating system.
fn misfit_signal(signal: &str, os: &str) -> Option<String> {
    if is_variable(signal) || is_variable(os) {
        return None;
    }
    let (known, examples) = match os {
        "" => {
            let message = "Kubernetes takes a stop signal only in pods with spec.os.name; add os: {name: linux} to the pod's spec";
            return Some(message.to_owned());
        }
        "windows" => (StopSignal::ON_WINDOWS.as_slice(), "SIGTERM or SIGKILL"),
        _ => (StopSignal::ON_LINUX.as_slice(), "a name such as SIGQUIT or SIGRTMIN+3"),
    };
    (!known.contains(&signal)).then(|| format!("Kubernetes takes no stop signal {signal:?} in {os} pods; use {examples}"))
}

/// Kubernetes takes one handler in a probe or hook, and no more or less.
fn one_handler<const N: usize>(probe: &Json, handlers: [&str; N], tell: impl FnOnce(String)) {
    if !probe.is_object() {
        return;
    }
    let given: Vec<_> = handlers.into_iter().filter(|handler| !probe[handler].is_null()).collect();
    match given.as_slice() {
        [_] => {}
        [] => tell(format!("no handler is there: one of {} is needed", handlers.join(", "))),
        several => tell(format!("several handlers are there, {}: keep one", several.join(" and "))),
    }
}
