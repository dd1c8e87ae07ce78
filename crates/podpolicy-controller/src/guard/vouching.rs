//! Whether the guard vouches for what a policy says now. Pure.
//!
//! A spec that the guard has checked was written by somebody who may run commands in the pods. It has checked what was written while it was in
//! force; so all that matters is when the present spec was written, and that is read off generations and creation times of the API server,
//! never off the time at which a watch brought it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use podpolicy_api::ExecChecked;
use podpolicy_engine::Exec;

/// How long every API server may take to act on a guard that is new.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

/// How the guard stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GuardState {
    /// Nobody has looked yet.
    Asking,
    /// It is not installed.
    Absent,
    /// It is not known to be in force, because of this.
    Unclear(String),
    /// It is in force.
    InForce(InForce),
}

/// A guard that is in force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InForce {
    /// Which guard, as statuses name it.
    pub(super) id: String,
    /// Since when its objects are as they are, by the clock of the API server; none where nobody can tell.
    pub(super) since: Option<Timestamp>,
    /// The generations that policies had, by UID, when it had been in force for long enough: whatever is newer has been checked.
    pub(super) baseline: Option<Arc<HashMap<String, i64>>>,
    /// It was still the same when this many generations of policies with commands had been seen.
    pub(super) confirmed: u64,
}

/// What is known of how a policy with commands was written.
pub(crate) struct Written<'a> {
    pub(crate) uid: &'a str,
    pub(crate) generation: i64,
    pub(crate) created: Option<Timestamp>,
    /// What its status remembers.
    pub(crate) checked: Option<&'a ExecChecked>,
}

impl GuardState {
    /// For who cannot ask: it vouches for what statuses remember, and for nothing else.
    pub(crate) fn as_remembered() -> Self {
        Self::InForce(InForce { id: String::new(), since: None, baseline: None, confirmed: 0 })
    }

    /// Who vouches for the authors of a policy.
    pub(crate) fn vouches_for(&self, policy: &Written<'_>) -> Exec {
        match self {
            Self::Asking => Exec::Unclear("the operator is asking the API server; wait a moment".to_owned()),
            Self::Absent => Exec::NoGuard,
            Self::Unclear(why) => Exec::Unclear(why.clone()),
            Self::InForce(guard) if guard.has_checked(policy) => Exec::Vouched,
            Self::InForce(_) => Exec::NotChecked,
        }
    }

    /// What the status of a policy that is vouched for should remember, if that is certain: the guard was still there after `seen`
    /// generations had been seen, the policy's present one among them. Without that the guard could have been gone when it was written,
    /// and the watch of the policy only be the faster one.
    pub(crate) fn to_remember(&self, generation: i64, seen: u64) -> Option<ExecChecked> {
        match self {
            Self::InForce(guard) if seen <= guard.confirmed => Some(ExecChecked { guard: guard.id.clone(), generation }),
            Self::InForce(_) | Self::Asking | Self::Absent | Self::Unclear(_) => None,
        }
    }
}

impl InForce {
    fn has_checked(&self, policy: &Written<'_>) -> bool {
        let Written { uid, generation, created, checked } = *policy;
        let wait = SignedDuration::try_from(SETTLED).unwrap_or(SignedDuration::MAX);
        let is_younger = created.zip(self.since).is_some_and(|(created, since)| created.duration_since(since) >= wait);
        let is_newer = self.baseline.as_ref().is_some_and(|baseline| baseline.get(uid).is_none_or(|then| generation > *then));
        // A generation that was checked once is; a later one if the guard has been the same all the time.
        let is_remembered = checked.is_some_and(|checked| checked.generation == generation || checked.guard == self.id);
        is_younger || is_newer || is_remembered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn guard(baseline: Option<&[(&str, i64)]>) -> GuardState {
        let baseline = baseline.map(|known| Arc::new(known.iter().map(|(uid, generation)| ((*uid).to_owned(), *generation)).collect()));
        GuardState::InForce(InForce { id: "guard".to_owned(), since: Some(time(1000)), baseline, confirmed: 5 })
    }

    fn written(created: i64, generation: i64) -> Written<'static> {
        Written { uid: "a", generation, created: Some(time(created)), checked: None }
    }

    #[test]
    fn policy_that_is_younger_than_the_guard_was_checked_from_the_start() {
        let vouched = |created| guard(None).vouches_for(&written(created, 7)) == Exec::Vouched;
        assert_eq!([0, 1000, 1009, 1010].map(vouched), [false, false, false, true]);
        let GuardState::InForce(unknown) = guard(None) else { unreachable!() };
        let unknown = GuardState::InForce(InForce { since: None, ..unknown });
        assert_eq!(unknown.vouches_for(&written(2000, 1)), Exec::NotChecked);
    }

    #[test]
    fn older_policy_is_checked_once_it_is_written_again() {
        let vouched = |known: &[(&str, i64)], generation| guard(Some(known)).vouches_for(&written(0, generation)) == Exec::Vouched;
        assert!(!vouched(&[("a", 3)], 2));
        assert!(!vouched(&[("a", 3)], 3));
        assert!(vouched(&[("a", 3)], 4));
        assert!(vouched(&[("b", 3)], 1), "it was not there when the guard already was");
        assert_eq!(guard(None).vouches_for(&written(0, 9)), Exec::NotChecked);
    }

    #[test]
    fn what_a_status_remembers_counts_for_its_generation_and_for_later_ones_under_the_same_guard() {
        let vouched = |by: &str, then, generation| {
            let checked = ExecChecked { guard: by.to_owned(), generation: then };
            guard(None).vouches_for(&Written { checked: Some(&checked), ..written(0, generation) }) == Exec::Vouched
        };
        assert!(vouched("guard", 3, 3));
        assert!(vouched("guard", 3, 4));
        assert!(vouched("former", 3, 3));
        assert!(!vouched("former", 3, 4));
    }

    #[test]
    fn nothing_is_vouched_for_without_a_guard() {
        let checked = ExecChecked { guard: "guard".to_owned(), generation: 7 };
        let policy = Written { checked: Some(&checked), ..written(2000, 7) };
        assert_eq!(GuardState::Absent.vouches_for(&policy), Exec::NoGuard);
        assert!(matches!(GuardState::Asking.vouches_for(&policy), Exec::Unclear(_)));
        assert!(matches!(GuardState::Unclear(String::new()).vouches_for(&policy), Exec::Unclear(_)));
    }

    #[test]
    fn only_what_the_guard_was_seen_to_outlive_is_remembered() {
        assert!(guard(None).to_remember(7, 5).is_some());
        assert!(guard(None).to_remember(7, 6).is_none());
        assert!(GuardState::Absent.to_remember(7, 5).is_none());
    }
}
