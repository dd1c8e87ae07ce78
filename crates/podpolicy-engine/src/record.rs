//! The record on a pod (`podpolicy.dev/applied`): what policies wrote, which policy wrote it, and the value it replaced.
//! With it alone everything can be taken back, also after the policy is gone.

use std::collections::BTreeMap;

use podpolicy_api::APPLIED_ANNOTATION;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::{Field, Pod};

/// What policies wrote to one pod.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Labels by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Entry>,
    /// Annotations by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, Entry>,
    /// Settings that were given at creation, by field path. They cannot be taken back on a live pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub created: BTreeMap<String, CreatedEntry>,
}

/// A label or annotation that a policy wrote.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// The policy, as `PodPolicy/name` or `ClusterPodPolicy/name`.
    pub by: String,
    /// The value that it wrote.
    pub value: String,
    /// The value that was there before; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
}

/// A setting that a policy gave at creation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CreatedEntry {
    /// The policy, as `PodPolicy/name` or `ClusterPodPolicy/name`.
    pub by: String,
    /// The value that the workload had declared; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Json>,
}

/// An entry that is only looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct EntryRef<'a> {
    pub(crate) by: &'a str,
    pub(crate) value: &'a str,
    pub(crate) was: Option<&'a str>,
}

impl<'a> From<&'a Entry> for EntryRef<'a> {
    fn from(Entry { by, value, was }: &'a Entry) -> Self {
        Self { by, value, was: was.as_deref() }
    }
}

impl From<EntryRef<'_>> for Entry {
    fn from(EntryRef { by, value, was }: EntryRef<'_>) -> Self {
        Self { by: by.to_owned(), value: value.to_owned(), was: was.map(str::to_owned) }
    }
}

impl Record {
    /// The record on the pod. One that cannot be read counts as none: then everything on the pod is its own.
    pub fn of(pod: &Pod) -> Self {
        pod.annotations.get(APPLIED_ANNOTATION).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// What is recorded of a label or annotation.
    pub fn entry(&self, field: &Field) -> Option<&Entry> {
        match field {
            Field::Label(key) => self.labels.get(key),
            Field::Annotation(key) => self.annotations.get(key),
            Field::GracePeriod | Field::Container(_) | Field::Probe { .. } | Field::Hook { .. } | Field::StopSignal { .. } => None,
        }
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty() && self.created.is_empty()
    }

    /// The annotation's value; none when nothing is recorded.
    pub fn to_annotation(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        Some(serde_json::to_string(self).expect("a record has only strings for keys"))
    }
}
