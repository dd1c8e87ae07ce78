//! Compiles a program to MutatingAdmissionPolicy objects, so that the API server itself gives pods their settings. Pure: no
//! I/O, no clock. The same program always gives the same objects.

mod before;
mod choice;
mod literal;
mod objects;
mod patch;
mod record;
mod tables;

use std::collections::BTreeSet;

use k8s_openapi::{
    api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use podpolicy_engine::{Place, PolicyId, Program, Remaining, Support};

use crate::namespaces::{by_name, in_common, selector};
use objects::Content;

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

/// How the names of the objects begin.
pub const NAME_PREFIX: &str = "podpolicy-";

/// The most policies of one unit: what the API server spends on an expression has a bound.
const MOST_POLICIES: usize = 500;

/// Compiles the program. A namespace gets a unit of its own where that would differ from what all others get: because it has
/// PodPolicies, or because something there selects on a label that a ClusterPodPolicy sets. All others share one unit, which asks each
/// namespace for its labels: so it is in force in namespaces that do not exist yet, from their first pod on.
pub fn compile(program: &Program) -> Compilation {
    let mut compilation = Compilation::default();
    let others = program.residue(Place::Anywhere);
    let mut apart: BTreeSet<&str> = BTreeSet::new();
    for namespace in program.namespaces() {
        let here = program.residue(Place::Namespace(namespace));
        if is_shared(program, namespace, &others, &here) {
            continue;
        }
        apart.insert(namespace);
        if here.is_empty() {
            continue;
        }
        let conditions = vec![by_name("In", [namespace])];
        compilation.add(
            format!("{NAME_PREFIX}namespace-{namespace}"),
            Covers::Namespace(namespace.to_owned()),
            &here,
            program.support(),
            selector(conditions),
        );
    }
    if !others.is_empty() {
        apart.extend(program.excluded_namespaces().iter().map(String::as_str));
        let mut conditions = in_common(others.iter().map(|remaining| remaining.namespaces));
        if !apart.is_empty() {
            conditions.push(by_name("NotIn", apart));
        }
        compilation.add(format!("{NAME_PREFIX}others"), Covers::Others, &others, program.support(), selector(conditions));
    }
    compilation.units.sort_by(|a, b| a.name.cmp(&b.name));
    compilation
}

impl Compilation {
    /// Adds a unit with as many of the policies, in their order, as have room.
    fn add(&mut self, name: String, covers: Covers, policies: &[Remaining<'_>], support: &Support, namespaces: LabelSelector) {
        let mut room = policies.len().min(MOST_POLICIES);
        let mut content = Content::new(&policies[..room], support);
        if content.is_none() {
            // The largest number with room: 0 has, `room` has not.
            let mut too_many = room;
            room = 0;
            while room + 1 < too_many {
                let half = room.midpoint(too_many);
                match Content::new(&policies[..half], support) {
                    Some(fitting) => (room, content) = (half, Some(fitting)),
                    None => too_many = half,
                }
            }
        }
        let place = match &covers {
            Covers::Others => "all namespaces that need nothing of their own".to_owned(),
            Covers::Namespace(name) => format!("namespace {name}"),
        };
        for left_out in &policies[room..] {
            let message = format!(
                "the policies for {place} are more than an API server takes in one MutatingAdmissionPolicy, and the {room} that go first have taken the room; merge policies, shorten annotations, or run the operator with --admission webhook"
            );
            self.omissions.push(Omission { policy: left_out.policy.id().clone(), covers: covers.clone(), message });
        }
        let Some(content) = content.filter(|_| room > 0) else { return };
        let policies = policies[..room].iter().map(|remaining| remaining.policy.id().clone()).collect();
        let (policy, binding, digest) = content.objects(&name, namespaces);
        self.units.push(Unit { name, covers, digest, policies, policy, binding });
    }
}

/// Whether the unit for all other namespaces gives the namespace exactly what it should get.
fn is_shared(program: &Program, namespace: &str, others: &[Remaining<'_>], here: &[Remaining<'_>]) -> bool {
    if program.excluded_namespaces().contains(namespace) {
        return false;
    }
    let labels = program.namespace_labels(namespace);
    let acts_here =
        |remaining: &&Remaining<'_>| remaining.namespaces.is_none_or(|selector| labels.is_some_and(|labels| selector.matches(labels)));
    let given = others.iter().filter(acts_here);
    given.map(Remaining::settings).eq(here.iter().map(Remaining::settings))
}
