//! How policies stand at creation: what the loop is told, and what follows for a policy's status. Values only.

use std::{collections::HashMap, fmt, sync::Arc};

use podpolicy_api::{AdmissionBackend, AdmissionStatus, ConditionReason, FindingReason, PodPolicyStatus};
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
    /// Why some of its pods get no settings: somebody else narrowed the webhook. It is in force for all others.
    pub(crate) narrowed: Option<String>,
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
    pub(crate) narrowed: Option<String>,
}

impl AdmissionState {
    /// What the status of a policy has to say; nothing where there is no backend.
    pub(crate) fn of(&self, policy: &Arc<Policy>) -> Option<AtCreation> {
        let standings = match self {
            Self::Off => return None,
            Self::Starting => {
                let progress = Progress::Unknown("the operator is looking at what the API server offers".to_owned());
                return Some(AtCreation { backend: None, progress, omitted: None, narrowed: None });
            }
            Self::On(standings) => standings,
        };
        let backend = Some(standings.backend);
        // One of another spec says nothing of this one, and one of the same spec before it was changed and changed back neither.
        let standing = standings.policies.get(policy.id()).filter(|standing| Arc::ptr_eq(&standing.policy, policy));
        if let Some(Standing { policy: _, progress, omitted, narrowed }) = standing {
            let (progress, omitted, narrowed) = (progress.clone(), omitted.clone(), narrowed.clone());
            return Some(AtCreation { backend, progress, omitted, narrowed });
        }
        let unknown = || Progress::Unknown("the present spec is being brought to the API server".to_owned());
        let progress = standings.problem.clone().map_or_else(unknown, Progress::Stuck);
        Some(AtCreation { backend, progress, omitted: None, narrowed: None })
    }
}

impl AtCreation {
    /// Where the policy, or some of its pods, are left out, and why.
    pub(crate) fn left_out(&self) -> Option<&str> {
        self.omitted.as_deref().or(self.narrowed.as_deref())
    }

    /// Falls back to what the policy's status says where the present state is unknown, so a restart of the operator changes no status. What
    /// was said of one backend is nothing about another.
    pub(crate) fn or_as_before(self, before: &PodPolicyStatus, present: Option<i64>) -> Self {
        let Progress::Unknown(message) = self.progress else { return self };
        let is_about_this =
            |before: &&AdmissionStatus| Some(before.generation) == present && self.backend.is_none_or(|backend| backend == before.backend);
        match before.admission.as_ref().filter(is_about_this) {
            Some(admission) => {
                let omitted = admission.message.clone();
                // Of a policy that is left out, the finding says the same.
                let finding = before.findings.iter().find(|finding| finding.reason == FindingReason::NotAtCreation);
                let narrowed = finding.filter(|_| omitted.is_none()).map(|finding| finding.message.clone());
                Self { progress: Progress::InForce, omitted, narrowed, ..self }
            }
            None => Self { progress: Progress::Waiting(message), ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use podpolicy_api::Finding;

    use super::*;

    #[test]
    fn what_was_said_before_counts_for_the_same_generation_and_backend_only() {
        let admission = Some(AdmissionStatus { backend: AdmissionBackend::Webhook, generation: 2, message: None });
        let before = PodPolicyStatus { admission, ..PodPolicyStatus::default() };
        let now = |backend, present| unknown(backend).or_as_before(&before, present).progress;
        let waiting = Progress::Waiting("asking".to_owned());
        assert_eq!(now(None, Some(2)), Progress::InForce);
        assert_eq!(now(Some(AdmissionBackend::Webhook), Some(2)), Progress::InForce);
        assert_eq!(now(Some(AdmissionBackend::Webhook), Some(3)), waiting);
        assert_eq!(now(Some(AdmissionBackend::Native), Some(2)), waiting);
    }

    #[test]
    fn what_was_said_before_of_pods_that_are_left_out_counts_as_well() {
        let said = |message: &str| {
            let reason = FindingReason::NotAtCreation;
            Finding { reason, field: "spec".to_owned(), pods: 0, example: String::new(), message: message.to_owned() }
        };
        for (omitted, finding, narrowed) in
            [(None, None, None), (None, Some("aks"), Some("aks")), (Some("too large"), Some("too large"), None)]
        {
            let message = omitted.map(str::to_owned);
            let admission = Some(AdmissionStatus { backend: AdmissionBackend::Webhook, generation: 2, message });
            let before = PodPolicyStatus { admission, findings: finding.map(said).into_iter().collect(), ..PodPolicyStatus::default() };
            let now = unknown(None).or_as_before(&before, Some(2));
            assert_eq!((now.omitted.as_deref(), now.narrowed.as_deref()), (omitted, narrowed));
        }
    }

    fn unknown(backend: Option<AdmissionBackend>) -> AtCreation {
        AtCreation { backend, progress: Progress::Unknown("asking".to_owned()), omitted: None, narrowed: None }
    }
}
