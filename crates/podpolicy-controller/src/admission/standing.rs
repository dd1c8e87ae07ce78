//! How policies stand at creation: what the loop is told, and what follows for a policy's status. Values only.

use std::{collections::HashMap, fmt, sync::Arc};

use podpolicy_api::{AdmissionBackend, AdmissionStatus, ConditionReason};
use podpolicy_engine::{Policy, PolicyId};

/// What is known of how pods are given their settings when they are created.
#[derive(Clone, Debug)]
pub(crate) enum AdmissionState {
    /// Nothing yet.
    Starting,
    /// They are not.
    Off,
    /// By a backend, and how each policy stands with it.
    On(Standings),
}

/// How the policies of a program stand with a backend.
#[derive(Clone, Debug)]
pub(crate) struct Standings {
    pub(crate) backend: AdmissionBackend,
    pub(crate) policies: HashMap<PolicyId, Standing>,
    /// What keeps policies that do not stand here from getting there.
    pub(crate) problem: Option<Problem>,
}

impl Standings {
    /// Nothing is in force by the backend, for this reason.
    pub(super) fn stuck(backend: AdmissionBackend, problem: Problem) -> Self {
        Self { backend, policies: HashMap::new(), problem: Some(problem) }
    }

    /// Whether pods are given all that they should be.
    pub(super) fn are_all_in_force(&self) -> bool {
        self.policies.values().all(|standing| standing.progress == Progress::InForce)
    }
}

/// How one policy stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    /// The policy that this is said of: as it was when the program was made.
    pub(crate) policy: Arc<Policy>,
    pub(crate) progress: Progress,
    /// Where the policy is left out, and why.
    pub(crate) omitted: Option<String>,
}

/// How far a policy has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    /// Pods are created with its settings.
    InForce,
    /// Nobody has found out yet, because of this: what was said before still counts.
    Unknown(String),
    /// Not yet, and nothing is wrong: this is waited for.
    Waiting(String),
    /// Not before something is put right.
    Stuck(Problem),
}

/// What is in the way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Problem {
    /// The operator lacks a right. Tried again; goes once it is granted.
    Forbidden(String),
    /// The native backend is asked for, and the API server does not serve what it needs. Asked again from time to time.
    NotServed,
    /// The webhook is to be asked, and API servers could not reach it. Goes only when the operator is configured otherwise.
    NotReachable,
    /// The API server refuses or fails a request. Tried again.
    Failing(String),
}

impl Problem {
    pub(crate) fn reason(&self) -> ConditionReason {
        match self {
            Self::Forbidden(_) => ConditionReason::Forbidden,
            Self::NotServed | Self::NotReachable => ConditionReason::NotAtCreation,
            Self::Failing(_) => ConditionReason::WriteFailed,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(message) => write!(
                f,
                "{message}; grant the operator the rights of config/rbac/role.yaml on mutatingadmissionpolicies and \
                 mutatingadmissionpolicybindings, or run it with --admission webhook or none"
            ),
            Self::NotServed => f.write_str(
                "the API server does not serve mutatingadmissionpolicies in admissionregistration.k8s.io/v1 (Kubernetes 1.36 and later \
                 do); run the operator with --admission auto, webhook or none",
            ),
            Self::NotReachable => f.write_str(
                "API servers have no address of the webhook, because the operator runs outside of the cluster; give it --webhook-url \
                 https://HOST:PORT/mutate, or run it with --admission none",
            ),
            Self::Failing(message) => write!(f, "{message}; tried again"),
        }
    }
}

/// What a policy's status has to say of creation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AtCreation {
    /// None as long as it is not known.
    pub(crate) backend: Option<AdmissionBackend>,
    pub(crate) progress: Progress,
    pub(crate) omitted: Option<String>,
}

impl AdmissionState {
    /// What the status of a policy has to say; nothing where there is no backend.
    pub(crate) fn of(&self, policy: &Arc<Policy>) -> Option<AtCreation> {
        let standings = match self {
            Self::Off => return None,
            Self::Starting => {
                let progress = Progress::Unknown("the operator is looking at what the API server offers".to_owned());
                return Some(AtCreation { backend: None, progress, omitted: None });
            }
            Self::On(standings) => standings,
        };
        let backend = Some(standings.backend);
        // One of another spec says nothing of this one, and one of the same spec before it was changed and changed back neither.
        let standing = standings.policies.get(policy.id()).filter(|standing| Arc::ptr_eq(&standing.policy, policy));
        if let Some(Standing { policy: _, progress, omitted }) = standing {
            return Some(AtCreation { backend, progress: progress.clone(), omitted: omitted.clone() });
        }
        let unknown = || Progress::Unknown("the present spec is being brought to the API server".to_owned());
        Some(AtCreation { backend, progress: standings.problem.clone().map_or_else(unknown, Progress::Stuck), omitted: None })
    }
}

impl AtCreation {
    /// With what the policy's status said before in place of what nobody knows. So a restart of the operator changes no status. What was
    /// said of one backend is nothing about another.
    pub(crate) fn or_as_before(self, before: Option<&AdmissionStatus>, present: Option<i64>) -> Self {
        let Progress::Unknown(message) = self.progress else { return self };
        let is_about_this =
            |before: &&AdmissionStatus| Some(before.generation) == present && self.backend.is_none_or(|backend| backend == before.backend);
        match before.filter(is_about_this) {
            Some(before) => Self { progress: Progress::InForce, omitted: before.message.clone(), ..self },
            None => Self { progress: Progress::Waiting(message), ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_before_counts_for_the_same_generation_and_backend_only() {
        let before = AdmissionStatus { backend: AdmissionBackend::Webhook, generation: 2, message: None };
        let now = |backend, present| {
            let unknown = AtCreation { backend, progress: Progress::Unknown("asking".to_owned()), omitted: None };
            unknown.or_as_before(Some(&before), present).progress
        };
        let waiting = Progress::Waiting("asking".to_owned());
        assert_eq!(now(None, Some(2)), Progress::InForce);
        assert_eq!(now(Some(AdmissionBackend::Webhook), Some(2)), Progress::InForce);
        assert_eq!(now(Some(AdmissionBackend::Webhook), Some(3)), waiting);
        assert_eq!(now(Some(AdmissionBackend::Native), Some(2)), waiting);
    }
}
