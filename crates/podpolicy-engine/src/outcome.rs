//! What deciding about one pod yields: a verdict for each policy that selects it, the fields with their values and sources,
//! and what to write. The one type that status, command line and admission read.

use std::{collections::BTreeMap, sync::Arc};

use podpolicy_api::FindingReason;

use crate::{Field, Pod, Policy, PolicyId, Value};

/// What policies do to one pod.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// One for each policy that selects the pod, in the policies' order.
    pub verdicts: Vec<Verdict>,
    /// The fields that enforcing policies speak of, by field.
    pub fields: Vec<FieldOutcome>,
    /// Where one policy wins a field from another.
    pub conflicts: Vec<Conflict>,
    /// The policies that would select the pod, and leave it alone because its owner is exempt, in the policies' order.
    pub exempting: Vec<Arc<Policy>>,
    /// The labels and annotations to write; empty when the pod needs nothing.
    pub metadata: MetadataPlan,
}

/// How one pod stands with one policy.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The policy.
    pub policy: Arc<Policy>,
    /// How the pod stands.
    pub state: PodState,
    /// Whether create-time settings differ, whatever else is left to do.
    pub is_outdated: bool,
    /// Whether the policy has given the pod settings when it was created, as the pod's record says.
    pub has_given: bool,
    /// What was kept, overridden or refused.
    pub findings: Vec<Finding>,
}

/// How a pod stands with a policy.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PodState {
    /// Nothing is left to do: each field is applied, or kept by precedence.
    Compliant,
    /// All but the refused fields is done.
    Refused,
    /// Create-time settings differ: the pod must be replaced to get them.
    Outdated,
    /// A label or annotation must still be written.
    Pending,
}

/// Something that a user should know about one field of the pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Why it was found.
    pub reason: FindingReason,
    /// The field.
    pub field: Field,
    /// Whether the policy's value was withheld, which makes the pod *refused*.
    pub refused: bool,
    /// What happened, which other object is involved, and what to do.
    pub message: String,
}

/// The value that a field ends up with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldOutcome {
    /// The field.
    pub field: Field,
    /// Its value once all is done; none when it is absent.
    pub value: Option<Value>,
    /// Where the value comes from.
    pub source: Source,
    /// Whether the pod has it now.
    pub done: bool,
}

/// Where the value of a field comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// The workload, or a person who changed the pod; an absent value too.
    Workload,
    /// A policy, as records name it.
    Policy(String),
}

/// A field that one policy wins from another with another value.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// The field.
    pub field: Field,
    /// The policy whose value counts.
    pub winner: Arc<Policy>,
    /// The policy whose value does not.
    pub loser: Arc<Policy>,
}

impl Conflict {
    /// What tells one conflict from another: field, winner, loser.
    pub fn key(&self) -> (&Field, &PolicyId, &PolicyId) {
        (&self.field, self.winner.id(), self.loser.id())
    }
}

/// Labels and annotations to write: a value sets the key, none removes it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MetadataPlan {
    /// Labels by key.
    pub labels: BTreeMap<String, Option<String>>,
    /// Annotations by key, the record included.
    pub annotations: BTreeMap<String, Option<String>>,
}

impl MetadataPlan {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }

    /// Makes the pod what the API server stores once the plan is written.
    pub fn apply(&self, pod: &mut Pod) {
        for (values, changes) in [(&mut pod.labels, &self.labels), (&mut pod.annotations, &self.annotations)] {
            for (key, change) in changes {
                match change {
                    Some(value) => values.insert(key.clone(), value.clone()),
                    None => values.remove(key),
                };
            }
        }
    }
}
