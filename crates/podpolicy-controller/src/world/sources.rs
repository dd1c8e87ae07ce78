//! How the watches stand, and what follows for what is known: what has not been seen, and what the operator may not see.

use std::collections::{BTreeSet, HashMap};

use podpolicy_engine::PolicyKind;

use crate::{
    observe::Failure,
    source::{Source, Watchable},
};

/// How the watch of each source stands.
pub(super) struct Sources {
    states: HashMap<Source, SourceState>,
}

/// How the watch of a source stands.
#[derive(Clone, Debug, Eq, PartialEq)]
enum SourceState {
    Waiting,
    Listed,
    Failing { failure: Failure, listed_before: bool },
}

impl SourceState {
    /// Whether the objects of the source have been seen, even if they cannot be now.
    fn was_listed(&self) -> bool {
        match self {
            Self::Listed => true,
            Self::Failing { listed_before, .. } => *listed_before,
            Self::Waiting => false,
        }
    }

    fn log(&self, source: &Source) {
        match self {
            Self::Waiting => {}
            Self::Listed => tracing::debug!(%source, "listed"),
            Self::Failing { failure: Failure::Forbidden { verb }, .. } => {
                tracing::warn!(resource = %source.resource, verb, "may not {verb} {source}; grant get, list and watch on {}", source.resource);
            }
            Self::Failing { failure: Failure::NotServed, .. } => {
                let resource = source.resource;
                match resource {
                    Watchable::PodPolicies | Watchable::ClusterPodPolicies => {
                        tracing::warn!(%resource, "the API server does not serve {resource}; waiting for its CRD: install it with `podpolicy crd | kubectl apply --server-side -f -`");
                    }
                    Watchable::Pods | Watchable::Namespaces | Watchable::Selecting(_) => {
                        tracing::warn!(%resource, "the API server does not serve {resource}; going on without");
                    }
                }
            }
            Self::Failing { failure: Failure::Other(error), .. } => {
                tracing::warn!(resource = %source.resource, error, "could not watch {source}; trying again");
            }
        }
    }
}

impl Sources {
    /// Sources that nothing is known of yet.
    pub(super) fn waiting(sources: &[Source]) -> Self {
        Self { states: sources.iter().map(|source| (source.clone(), SourceState::Waiting)).collect() }
    }

    /// Notes that the source has been listed; says whether that is new.
    pub(super) fn listed(&mut self, source: &Source) -> bool {
        self.set(source, SourceState::Listed)
    }

    /// Notes that the watch of the source fails; says whether that is new.
    pub(super) fn failing(&mut self, source: &Source, failure: Failure) -> bool {
        let listed_before = self.states.get(source).is_some_and(SourceState::was_listed);
        self.set(source, SourceState::Failing { failure, listed_before })
    }

    fn set(&mut self, source: &Source, state: SourceState) -> bool {
        if self.states.get(source) == Some(&state) {
            return false;
        }
        state.log(source);
        self.states.insert(source.clone(), state);
        true
    }

    /// Whether every source has been listed, or cannot be. Definitions of policies that are not installed are waited for: as long as
    /// nobody can have written a policy there is nothing to do.
    pub(super) fn is_synced(&self) -> bool {
        self.states.iter().all(|(source, state)| match state {
            SourceState::Listed | SourceState::Failing { failure: Failure::Forbidden { .. }, .. } => true,
            SourceState::Failing { failure: Failure::NotServed, listed_before } => {
                *listed_before || !matches!(source.resource, Watchable::PodPolicies | Watchable::ClusterPodPolicies)
            }
            SourceState::Failing { failure: Failure::Other(_), listed_before } => *listed_before,
            SourceState::Waiting => false,
        })
    }

    /// The sources that have not been listed, for people who wait.
    pub(super) fn unsynced(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.states.iter().filter(|(_, state)| **state != SourceState::Listed).map(|(source, _)| source.to_string()).collect();
        names.sort();
        names
    }

    /// What the operator may not do that makes it blind, in words.
    pub(super) fn blindness(&self) -> Option<String> {
        let blind = self.states.iter().filter(|(source, _)| matches!(source.resource, Watchable::Pods | Watchable::Namespaces));
        let mut messages: Vec<_> = blind
            .filter_map(|(source, state)| match state {
                SourceState::Failing { failure: Failure::Forbidden { verb }, .. } => {
                    Some(format!("the operator may not {verb} {source}; grant it list and watch"))
                }
                SourceState::Failing { .. } | SourceState::Listed | SourceState::Waiting => None,
            })
            .collect();
        messages.sort();
        messages.into_iter().next()
    }

    /// Resources that could select pods and cannot be seen.
    pub(super) fn unseen_selectors(&self) -> BTreeSet<String> {
        let selecting = self.states.iter().filter(|(source, _)| matches!(source.resource, Watchable::Selecting(_)));
        let unseen = selecting.filter(|(_, state)| match state {
            SourceState::Waiting | SourceState::Failing { failure: Failure::Forbidden { .. }, .. } => true,
            // A connection that fails takes away nothing that was seen, and shows nothing that was not.
            SourceState::Failing { failure: Failure::Other(_), listed_before } => !listed_before,
            SourceState::Listed | SourceState::Failing { failure: Failure::NotServed, .. } => false,
        });
        unseen.map(|(source, _)| source.to_string()).collect()
    }

    /// Kinds of policies of which not all have been seen: what they wrote must stay.
    pub(super) fn unseen_kinds(&self) -> BTreeSet<PolicyKind> {
        let is_seen = |resource: Watchable| {
            let mut states = self.states.iter().filter(|(source, _)| source.resource == resource).map(|(_, state)| state).peekable();
            states.peek().is_some() && states.all(SourceState::was_listed)
        };
        let pod_policies = (!is_seen(Watchable::PodPolicies)).then_some(PolicyKind::PodPolicy);
        // Without the labels of namespaces nobody can tell where a ClusterPodPolicy acts.
        let cluster = (!is_seen(Watchable::ClusterPodPolicies) || !is_seen(Watchable::Namespaces)).then_some(PolicyKind::ClusterPodPolicy);
        pod_policies.into_iter().chain(cluster).collect()
    }
}
