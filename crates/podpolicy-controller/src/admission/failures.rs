//! Units that could not be written: why, and when they are tried again. It reads no clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::standing::Problem;
use crate::{apply::WriteError, retry};

/// The failures in a row of each unit, by name.
#[derive(Default)]
pub(super) struct Failures {
    units: BTreeMap<String, Failed>,
}

struct Failed {
    error: WriteError,
    in_a_row: u32,
    again: Instant,
}

impl Failures {
    pub(super) fn failed(&mut self, name: &str, error: WriteError, now: Instant) {
        let in_a_row = self.units.get(name).map_or(0, |failed| failed.in_a_row);
        let again = now + retry::wait(in_a_row);
        self.units.insert(name.to_owned(), Failed { error, in_a_row: in_a_row.saturating_add(1), again });
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.units.remove(name);
    }

    /// Forgets the failures of units of which something else is wanted now.
    pub(super) fn retain(&mut self, is_as_before: impl Fn(&str) -> bool) {
        self.units.retain(|name, _| is_as_before(name));
    }

    pub(super) fn is_due(&self, name: &str, now: Instant) -> bool {
        self.units.get(name).is_none_or(|failed| failed.again <= now)
    }

    /// When the next of those that wait is tried again.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.units.values().map(|failed| failed.again).filter(|again| *again > now).min()
    }

    /// The units whose content the API server does not take.
    pub(super) fn refused(&self) -> BTreeSet<String> {
        let is_refused = |failed: &Failed| matches!(failed.error, WriteError::Refused(_));
        self.units.iter().filter(|(_, failed)| is_refused(failed)).map(|(name, _)| name.clone()).collect()
    }

    /// What is wrong with a unit.
    pub(super) fn problem(&self, name: &str) -> Option<Problem> {
        let Failed { error, .. } = self.units.get(name)?;
        match error {
            WriteError::Forbidden(message) => Some(Problem::Forbidden(message.clone())),
            WriteError::Refused(_) | WriteError::Unavailable(_) | WriteError::ChangedBack => {
                Some(Problem::Failing(format!("cannot write MutatingAdmissionPolicy {name}: {error}")))
            }
            // Somebody else writes as well: nothing is wrong yet.
            WriteError::Gone | WriteError::Changed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_unit_that_failed_waits_longer_each_time_unless_something_else_is_wanted() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let refused = || WriteError::Refused("too large".to_owned());
        failures.failed("a", refused(), now);
        assert!(!failures.is_due("a", now) && failures.is_due("b", now));
        let due = failures.next_due(now).unwrap();
        failures.failed("a", refused(), due);
        assert!(failures.next_due(due).unwrap() - due > due - now);
        failures.retain(|_| false);
        assert!(failures.is_due("a", now) && failures.refused().is_empty());
    }

    #[test]
    fn only_a_refusal_is_not_waited_for() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        failures.failed("a", WriteError::Refused("too large".to_owned()), now);
        failures.failed("b", WriteError::Unavailable("timeout".to_owned()), now);
        assert_eq!(failures.refused(), ["a".to_owned()].into());
        assert_eq!(failures.next_due(now + Duration::from_mins(2)), None);
    }
}
