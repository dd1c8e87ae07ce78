//! What a look at the Lease says to do. Pure: what is seen and the times go in; the holder's clock counts for nothing, only when a change
//! of the Lease was first seen here.

use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};

use super::Election;

/// What to do about the Lease.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Move {
    /// Create it: there is none.
    Create(Box<Lease>),
    /// Replace it, as its resourceVersion allows.
    Replace(Box<Lease>),
    /// Another holds it.
    Wait,
}

/// What was seen of the Lease, and when it was first seen so.
#[derive(Debug, Default)]
pub(super) struct Sight {
    seen: Option<(String, Instant)>,
}

impl Sight {
    /// What to do now that the Lease is like this.
    pub(super) fn next(&mut self, election: &Election, lease: Option<Lease>, now: Instant, time: Timestamp) -> Move {
        let Some(lease) = lease else {
            self.seen = None;
            let metadata =
                ObjectMeta { name: Some(election.name.clone()), namespace: Some(election.namespace.clone()), ..ObjectMeta::default() };
            return Move::Create(Box::new(Lease { metadata, spec: Some(held(election, &LeaseSpec::default(), time)) }));
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                self.seen = Some((version, now));
                now
            }
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().filter(|holder| !holder.is_empty());
        let is_over = now.duration_since(since) >= election.times.duration;
        if holder.is_none_or(|holder| holder == election.identity) || is_over {
            return Move::Replace(Box::new(Lease { spec: Some(held(election, &spec, time)), ..lease }));
        }
        Move::Wait
    }
}

/// The Lease in the hands of this operator.
fn held(election: &Election, before: &LeaseSpec, time: Timestamp) -> LeaseSpec {
    let is_new = before.holder_identity.as_deref() != Some(&election.identity);
    let transitions = before.lease_transitions.unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(election.identity.clone()),
        lease_duration_seconds: Some(i32::try_from(election.times.duration.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: if is_new { Some(MicroTime(time)) } else { before.acquire_time.clone() },
        renew_time: Some(MicroTime(time)),
        lease_transitions: Some(if is_new && before.holder_identity.is_some() { transitions.saturating_add(1) } else { transitions }),
        ..LeaseSpec::default()
    }
}

/// The Lease given up: the next may take it at once.
pub(super) fn released(lease: Lease, time: Timestamp) -> Lease {
    let before = lease.spec.unwrap_or_default();
    let spec =
        LeaseSpec { holder_identity: Some(String::new()), lease_duration_seconds: Some(1), renew_time: Some(MicroTime(time)), ..before };
    Lease { spec: Some(spec), ..lease }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::leadership::ElectionTimes;

    fn election(identity: &str) -> Election {
        Election {
            namespace: "podpolicy-system".to_owned(),
            name: "podpolicy".to_owned(),
            identity: identity.to_owned(),
            times: ElectionTimes::default(),
        }
    }

    /// The Lease as somebody wrote it, with the version that the API server gives it.
    fn written(by: &str, version: &str) -> Lease {
        let Move::Create(mut lease) = Sight::default().next(&election(by), None, Instant::now(), Timestamp::UNIX_EPOCH) else {
            panic!("there is none yet");
        };
        lease.metadata.resource_version = Some(version.to_owned());
        *lease
    }

    fn holder(next: &Move) -> Option<&str> {
        match next {
            Move::Create(lease) | Move::Replace(lease) => lease.spec.as_ref()?.holder_identity.as_deref(),
            Move::Wait => None,
        }
    }

    #[test]
    fn first_who_comes_creates_it_and_renews_it() {
        let (mut sight, now) = (Sight::default(), Instant::now());
        assert_eq!(holder(&sight.next(&election("a"), None, now, Timestamp::UNIX_EPOCH)), Some("a"));
        let later = Timestamp::from_second(5).unwrap();
        let Move::Replace(renewed) = sight.next(&election("a"), Some(written("a", "1")), now, later) else { panic!("it is a's") };
        assert_eq!(renewed.metadata.resource_version.as_deref(), Some("1"), "only what was seen is replaced");
        let spec = renewed.spec.unwrap();
        assert_eq!((spec.acquire_time.unwrap().0, spec.renew_time.unwrap().0), (Timestamp::UNIX_EPOCH, later));
        assert_eq!(spec.lease_transitions, Some(0));
    }

    #[test]
    fn another_waits_as_long_as_it_is_renewed_whatever_its_times_say() {
        let (mut sight, mut now) = (Sight::default(), Instant::now());
        for version in 0..10 {
            assert_eq!(sight.next(&election("b"), Some(written("a", &version.to_string())), now, Timestamp::MAX), Move::Wait);
            now += Duration::from_secs(14);
        }
    }

    #[test]
    fn another_takes_what_was_not_renewed_for_its_duration() {
        let (mut sight, start) = (Sight::default(), Instant::now());
        let mut look =
            |after| sight.next(&election("b"), Some(written("a", "1")), start + Duration::from_secs(after), Timestamp::UNIX_EPOCH);
        assert_eq!(look(0), Move::Wait);
        assert_eq!(look(14), Move::Wait);
        let Move::Replace(taken) = look(15) else { panic!("it is over") };
        let spec = taken.spec.unwrap();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("b"), Some(1)));
    }

    #[test]
    fn what_was_given_up_is_taken_at_once() {
        let given_up = released(written("a", "1"), Timestamp::UNIX_EPOCH);
        let next = Sight::default().next(&election("b"), Some(given_up), Instant::now(), Timestamp::UNIX_EPOCH);
        assert_eq!(holder(&next), Some("b"));
    }
}
