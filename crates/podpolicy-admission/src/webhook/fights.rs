//! Bounds how often the configuration is restored while somebody else keeps changing the operator's part. It reads no clock.

use std::time::{Duration, Instant};

/// This many changes in a row are undone without a wait: people try things out.
const AT_ONCE: u32 = 10;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// A fight is over after this time without a change.
const QUIET: Duration = Duration::from_mins(5);

/// Counts the restorations in a row.
#[derive(Debug, Default)]
pub(super) struct Fights {
    in_a_row: u32,
    last: Option<Instant>,
}

impl Fights {
    /// When the configuration may be restored, if not now.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let last = self.last.filter(|_| self.is_on(now))?;
        let doublings = self.in_a_row.saturating_sub(AT_ONCE);
        let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_WAIT);
        Some(last + wait).filter(|next| *next > now)
    }

    /// The configuration is restored now.
    pub(super) fn restored(&mut self, now: Instant) {
        self.in_a_row = if self.is_recent(now) { self.in_a_row.saturating_add(1) } else { 1 };
        self.last = Some(now);
    }

    /// Whether there were so many changes lately that they are no accident.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.in_a_row >= AT_ONCE && self.is_recent(now)
    }

    fn is_recent(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < QUIET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restorations_wait_longer_each_time_once_somebody_keeps_changing_things() {
        let (mut fights, mut now) = (Fights::default(), Instant::now());
        for _ in 0..AT_ONCE {
            assert_eq!(fights.next(now), None);
            assert!(!fights.is_on(now));
            fights.restored(now);
        }
        assert!(fights.is_on(now));
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let next = now + Duration::from_secs(seconds);
            assert_eq!(fights.next(now), Some(next));
            assert_eq!(fights.next(next), None);
            now = next;
            fights.restored(now);
        }
    }

    #[test]
    fn a_fight_is_over_when_nothing_was_changed_for_a_while() {
        let (mut fights, now) = (Fights::default(), Instant::now());
        for _ in 0..=AT_ONCE {
            fights.restored(now);
        }
        let later = now + QUIET;
        assert!(!fights.is_on(later) && fights.next(later).is_none());
        fights.restored(later);
        assert!(!fights.is_on(later), "it is counted from the start again");
    }
}
