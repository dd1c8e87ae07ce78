//! What is seen when a case is decided, and `want.yaml` in the same shape: the pod once the plan is written, its record, and
//! what the outcome says about policies, fields and conflicts.

use std::{collections::BTreeMap, path::Path};

use podpolicy_api::APPLIED_ANNOTATION;
use podpolicy_engine::{Conflict, FieldOutcome, Finding, Outcome, Record, Source, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::given::Given;

/// What is seen when a case is decided.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Seen {
    /// What is wrong with policies, by policy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    problems: BTreeMap<String, Vec<String>>,
    labels: BTreeMap<String, String>,
    /// The pod's annotations less the record.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    /// The record; as text if it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<Json>,
    /// Whether the pod differs, so that it is patched.
    patched: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    verdicts: Vec<SeenVerdict>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fields: Vec<SeenField>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<SeenConflict>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct SeenVerdict {
    policy: String,
    state: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    findings: Vec<SeenFinding>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct SeenFinding {
    reason: String,
    field: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    refused: bool,
    /// A piece of the message.
    says: String,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct SeenField {
    field: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Json>,
    source: String,
    done: bool,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct SeenConflict {
    field: String,
    winner: String,
    loser: String,
}

impl Seen {
    /// Decides the case, and what must be true of every case: the order of the policies does not matter, and a second pass
    /// writes nothing.
    pub fn of(given: &Given) -> Self {
        let program = given.program(given.policies.iter().cloned());
        let outcome = program.decide(&given.pod);
        let backwards = given.program(given.policies.iter().rev().cloned()).decide(&given.pod);
        assert_eq!(format!("{outcome:?}"), format!("{backwards:?}"), "the order of the policies matters");
        let mut pod = given.pod.clone();
        outcome.metadata.apply(&mut pod);
        let again = program.decide(&pod);
        assert!(again.metadata.is_empty(), "a second pass writes {:?}", again.metadata);
        let record = pod.annotations.get(APPLIED_ANNOTATION).map(|text| match serde_json::from_str::<Record>(text) {
            Ok(record) => serde_json::to_value(record).unwrap(),
            Err(_) => Json::String(text.clone()),
        });
        let problems = given.policies.iter().filter(|policy| !policy.problems().is_empty());
        let mut annotations = pod.annotations;
        annotations.remove(APPLIED_ANNOTATION);
        let Outcome { verdicts, fields, conflicts, exempting: _, metadata } = outcome;
        Self {
            problems: problems.map(|policy| (policy.id().to_string(), policy.problems().to_vec())).collect(),
            labels: pod.labels,
            annotations,
            record,
            patched: !metadata.is_empty(),
            verdicts: verdicts.into_iter().map(SeenVerdict::from).collect(),
            fields: fields.into_iter().map(SeenField::from).collect(),
            conflicts: conflicts.into_iter().map(SeenConflict::from).collect(),
        }
    }

    /// Reads `want.yaml`.
    pub fn read(text: &str, file: &Path) -> Self {
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// The same with the pieces of messages that are wanted, where the messages hold them.
    pub fn in_the_words_of(mut self, wanted: &Self) -> Self {
        let findings = self.verdicts.iter_mut().map(|verdict| &mut verdict.findings);
        for (findings, wanted) in findings.zip(&wanted.verdicts) {
            for (finding, wanted) in findings.iter_mut().zip(&wanted.findings) {
                if finding.says.contains(&wanted.says) {
                    finding.says.clone_from(&wanted.says);
                }
            }
        }
        self
    }

    /// The same with the first part of each message, which says what happened; the rest says what to do.
    pub fn in_short(mut self) -> Self {
        for finding in self.verdicts.iter_mut().flat_map(|verdict| &mut verdict.findings) {
            if let Some((what, _)) = finding.says.split_once("; ") {
                finding.says = what.to_owned();
            }
        }
        self
    }
}

impl From<Verdict> for SeenVerdict {
    fn from(verdict: Verdict) -> Self {
        let Verdict { policy, state, is_outdated: _, has_given: _, findings } = verdict;
        Self { policy: policy.id().to_string(), state: format!("{state:?}"), findings: findings.into_iter().map(Into::into).collect() }
    }
}

impl From<Finding> for SeenFinding {
    fn from(finding: Finding) -> Self {
        let Finding { reason, field, refused, message } = finding;
        Self { reason: reason.to_string(), field: field.to_string(), refused, says: message }
    }
}

impl From<FieldOutcome> for SeenField {
    fn from(outcome: FieldOutcome) -> Self {
        let FieldOutcome { field, value, source, done } = outcome;
        let source = match source {
            Source::Workload => "Workload".to_owned(),
            Source::Policy(policy) => policy,
        };
        Self { field: field.to_string(), value: value.map(|value| serde_json::to_value(value).unwrap()), source, done }
    }
}

impl From<Conflict> for SeenConflict {
    fn from(conflict: Conflict) -> Self {
        let Conflict { field, winner, loser } = conflict;
        Self { field: field.to_string(), winner: winner.id().to_string(), loser: loser.id().to_string() }
    }
}
