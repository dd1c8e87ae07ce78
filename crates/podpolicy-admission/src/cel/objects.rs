//! The two objects of a unit.

use k8s_openapi::api::admissionregistration::v1::{
    JSONPatch, MatchCondition, MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingAdmissionPolicyBindingSpec,
    MutatingAdmissionPolicySpec, Mutation, NamedRuleWithOperations, Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use podpolicy_api::GROUP;
use podpolicy_engine::{Remaining, Support};
use sha2::{Digest, Sha256};

use super::tables::{EXPRESSION_LIMIT, Tables};
use super::{IN_FORCE_CONDITION, OWNER_LABEL, before, choice, literal, patch, record};

/// How large all expressions of a unit may be: what etcd takes is 1.5 MiB, and a server-side apply sends it with more around it.
const UNIT_LIMIT: usize = 900_000;

/// What is compiled for some namespaces, before it has a name.
pub(super) struct Content {
    variables: Vec<Variable>,
    patch: String,
}

impl Content {
    /// Compiles the policies; none if that gets larger than an API server takes.
    pub(super) fn new(policies: &[Remaining<'_>], support: &Support) -> Option<Self> {
        let tables = Tables::new(policies, support);
        if tables.are_too_large() {
            return None;
        }
        let mut variables = tables.variables();
        variables.extend(before::before());
        variables.extend(tables.selected());
        variables.extend(choice::decisions(&tables));
        variables.extend(record::records(&tables));
        let is_small = variables.iter().all(|variable| variable.expression.len() <= EXPRESSION_LIMIT + 10_000)
            && variables.iter().map(|variable| variable.expression.len()).sum::<usize>() <= UNIT_LIMIT;
        is_small.then(|| Self { variables, patch: patch::patch(&tables) })
    }

    /// The objects under a name, for namespaces with these labels, and what tells their content from any other.
    pub(super) fn objects(
        self,
        name: &str,
        namespaces: LabelSelector,
    ) -> (MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, String) {
        let digest = self.digest(&namespaces);
        let marker = patch::marker(&literal::text(&format!("{IN_FORCE_CONDITION}{name}")), &literal::text(&digest));
        let expression = format!(r#"request.resource.resource == "pods" ? ({}) : ({marker})"#, self.patch);
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([(OWNER_LABEL.0.to_owned(), OWNER_LABEL.1.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let policy = MutatingAdmissionPolicy {
            metadata: metadata.clone(),
            spec: Some(MutatingAdmissionPolicySpec {
                // A defect in an expression must not keep pods from being created.
                failure_policy: Some("Ignore".to_owned()),
                match_constraints: Some(MatchResources {
                    resource_rules: Some(vec![
                        rule("", "v1", "CREATE", &["pods"]),
                        rule(GROUP, "v1alpha1", "UPDATE", &["podpolicies/status", "clusterpodpolicies/status"]),
                    ]),
                    ..MatchResources::default()
                }),
                // What reports write to the status of policies is none of its concern, only who asks whether it is in force.
                match_conditions: Some(vec![MatchCondition {
                    name: "pods-and-questions".to_owned(),
                    expression: r#"request.resource.resource == "pods" || request.dryRun"#.to_owned(),
                }]),
                mutations: Some(vec![Mutation {
                    patch_type: "JSONPatch".to_owned(),
                    json_patch: Some(JSONPatch { expression: Some(expression) }),
                    ..Mutation::default()
                }]),
                // Other admission plugins can inject containers after this.
                reinvocation_policy: Some("IfNeeded".to_owned()),
                variables: Some(self.variables),
                ..MutatingAdmissionPolicySpec::default()
            }),
        };
        let binding = MutatingAdmissionPolicyBinding {
            metadata,
            spec: Some(MutatingAdmissionPolicyBindingSpec {
                policy_name: Some(name.to_owned()),
                match_resources: Some(MatchResources { namespace_selector: Some(namespaces), ..MatchResources::default() }),
                ..MutatingAdmissionPolicyBindingSpec::default()
            }),
        };
        (policy, binding, digest)
    }

    fn digest(&self, namespaces: &LabelSelector) -> String {
        let mut hash = Sha256::new();
        for Variable { name, expression } in &self.variables {
            hash.update(name);
            hash.update([0]);
            hash.update(expression);
            hash.update([0]);
        }
        hash.update(&self.patch);
        hash.update(serde_json::to_vec(namespaces).expect("a selector has only strings for keys"));
        hash.finalize().iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }
}

fn rule(group: &str, version: &str, operation: &str, resources: &[&str]) -> NamedRuleWithOperations {
    NamedRuleWithOperations {
        api_groups: Some(vec![group.to_owned()]),
        api_versions: Some(vec![version.to_owned()]),
        operations: Some(vec![operation.to_owned()]),
        resources: Some(resources.iter().map(|&resource| resource.to_owned()).collect()),
        ..NamedRuleWithOperations::default()
    }
}
