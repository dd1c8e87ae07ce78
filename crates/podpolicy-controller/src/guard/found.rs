//! The guard's two objects as they are in the cluster: whether they are there, whether they say what they should, and since when.

use std::sync::LazyLock;

use jiff::Timestamp;
use k8s_openapi::{
    api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client};

use crate::apply::{WriteError, within};

/// The name of both objects.
pub(super) const NAME: &str = "podpolicy-guard";

const EXPECTED: &str = "the files of config/guard are what this program was built with";

/// What they should say: the files that are installed.
static POLICY: LazyLock<ValidatingAdmissionPolicy> =
    LazyLock::new(|| serde_saphyr::from_str(include_str!("../../../../config/guard/validating_admission_policy.yaml")).expect(EXPECTED));
static BINDING: LazyLock<ValidatingAdmissionPolicyBinding> = LazyLock::new(|| {
    serde_saphyr::from_str(include_str!("../../../../config/guard/validating_admission_policy_binding.yaml")).expect(EXPECTED)
});

/// What was found.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// One of the two objects is missing, or both are.
    Absent,
    /// They say something else: why that is no guard, and what to do.
    Foreign(String),
    /// They are as they should be.
    Guard(Identity),
}

/// Which guard it is.
#[derive(Debug, PartialEq)]
pub(super) struct Identity {
    /// UIDs and generations of both: another id when one was made anew or says something else, even if it was changed back since.
    pub(super) id: String,
    /// Since when both are as they are; none where nobody can tell.
    pub(super) since: Option<Timestamp>,
}

/// Reads both, as they are now.
pub(super) async fn find(client: &Client) -> Result<Found, WriteError> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let policy = within(policies.get_opt(NAME)).await?;
    let binding = within(bindings.get_opt(NAME)).await?;
    Ok(judge(policy.as_ref(), binding.as_ref()))
}

fn judge(policy: Option<&ValidatingAdmissionPolicy>, binding: Option<&ValidatingAdmissionPolicyBinding>) -> Found {
    let Some((policy, binding)) = policy.zip(binding) else { return Found::Absent };
    let changed = if policy.spec != POLICY.spec {
        "ValidatingAdmissionPolicy"
    } else if binding.spec != BINDING.spec {
        "ValidatingAdmissionPolicyBinding"
    } else {
        return Found::Guard(identity([&policy.metadata, &binding.metadata]));
    };
    Found::Foreign(format!(
        "{changed} {NAME} is not the one that this version of the operator knows; apply config/guard of this version (kubectl apply -k \
         config/guard), and put rules of your own into objects of your own"
    ))
}

fn identity(objects: [&ObjectMeta; 2]) -> Identity {
    let id = objects.map(|meta| format!("{}:{}", meta.uid.as_deref().unwrap_or_default(), meta.generation.unwrap_or_default()));
    let since = objects.map(unchanged_since);
    Identity { id: id.join(","), since: since[0].zip(since[1]).map(|(one, other)| one.max(other)) }
}

/// Since when an object says what it says: since it was made, or, where it was changed, since somebody last did.
fn unchanged_since(meta: &ObjectMeta) -> Option<Timestamp> {
    if meta.generation == Some(1) {
        return Some(meta.creation_timestamp.as_ref()?.0);
    }
    let managers = meta.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none());
    // Without a time, it could have been any.
    managers.map(|entry| entry.time.as_ref().map(|time| time.0)).collect::<Option<Vec<_>>>()?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The guard with this in the metadata of the policy.
    fn guard(metadata: &Value) -> (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding) {
        let (mut policy, mut binding) = (POLICY.clone(), BINDING.clone());
        policy.metadata = serde_json::from_value(metadata.clone()).unwrap();
        let metadata = json!({ "uid": "b", "generation": 1, "creationTimestamp": "2026-01-01T00:00:05Z" });
        binding.metadata = serde_json::from_value(metadata).unwrap();
        (policy, binding)
    }

    fn since(metadata: &Value) -> Option<String> {
        let (policy, binding) = guard(metadata);
        match judge(Some(&policy), Some(&binding)) {
            Found::Guard(identity) => identity.since.map(|since| since.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn guard_is_as_old_as_the_last_change_of_either_object() {
        let created = json!({ "uid": "a", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z" });
        assert_eq!(since(&created).as_deref(), Some("2026-01-01T00:00:05Z"));
        let entry = |time: &str| json!({ "manager": "kubectl", "operation": "Update", "time": time });
        let status = json!({ "manager": "x", "operation": "Update", "subresource": "status", "time": "2026-03-01T00:00:00Z" });
        let mut changed = json!({ "uid": "a", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z" });
        assert_eq!(since(&changed), None, "nobody can tell");
        changed["managedFields"] = json!([entry("2026-02-01T00:00:00Z"), status, entry("2026-01-01T00:00:00Z")]);
        assert_eq!(since(&changed).as_deref(), Some("2026-02-01T00:00:00Z"));
    }

    #[test]
    fn guard_made_anew_or_changed_is_another() {
        let id = |metadata: &Value| {
            let (policy, binding) = guard(metadata);
            identity([&policy.metadata, &binding.metadata]).id
        };
        assert_eq!(id(&json!({ "uid": "a", "generation": 1 })), "a:1,b:1");
        assert_eq!(id(&json!({ "uid": "c", "generation": 1 })), "c:1,b:1");
        assert_eq!(id(&json!({ "uid": "a", "generation": 2 })), "a:2,b:1");
    }

    #[test]
    fn objects_that_say_something_else_are_no_guard() {
        let (policy, binding) = guard(&json!({ "uid": "a", "generation": 1 }));
        assert_eq!(judge(None, Some(&binding)), Found::Absent);
        assert_eq!(judge(Some(&policy), None), Found::Absent);
        let is_foreign = |policy, binding| matches!(judge(Some(policy), Some(binding)), Found::Foreign(_));
        assert!(!is_foreign(&policy, &binding));
        let mut lenient = policy.clone();
        lenient.spec.as_mut().unwrap().failure_policy = Some("Ignore".to_owned());
        assert!(is_foreign(&lenient, &binding));
        let mut warning = binding.clone();
        warning.spec.validation_actions = vec!["Warn".to_owned()];
        assert!(is_foreign(&policy, &warning));
    }
}
