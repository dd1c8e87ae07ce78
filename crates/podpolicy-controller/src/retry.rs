//! Work that is due now or later: each key at most once, with a growing wait after failures. It knows no clock: the time is
//! passed in.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    hash::Hash,
    time::{Duration, Instant},
};

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Keys that wait for their turn.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    due: VecDeque<K>,
    queued: HashSet<K>,
    in_flight: HashSet<K>,
    /// Keys that were asked for while in flight.
    again: HashSet<K>,
    later: BTreeSet<(Instant, K)>,
    /// Failures in a row.
    failures: HashMap<K, u32>,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    pub(crate) fn new() -> Self {
        Self {
            due: VecDeque::new(),
            queued: HashSet::new(),
            in_flight: HashSet::new(),
            again: HashSet::new(),
            later: BTreeSet::new(),
            failures: HashMap::new(),
        }
    }

    /// Asks for a key. One that failed waits until its time has come; one that is in flight comes again afterwards.
    pub(crate) fn push(&mut self, key: &K) {
        if self.in_flight.contains(key) {
            self.again.insert(key.clone());
        } else if !self.failures.contains_key(key) && self.queued.insert(key.clone()) {
            self.due.push_back(key.clone());
        }
    }

    /// Asks for a key whose work is another than before: it does not wait because the other failed.
    pub(crate) fn push_anew(&mut self, key: &K) {
        self.failures.remove(key);
        self.push(key);
    }

    /// Asks for a key at a later time, beside what else is asked of it.
    pub(crate) fn push_at(&mut self, key: &K, at: Instant) {
        self.later.insert((at, key.clone()));
    }

    /// Nothing more is to be done for the key.
    pub(crate) fn forget(&mut self, key: &K) {
        self.again.remove(key);
        self.failures.remove(key);
        if self.queued.remove(key) {
            self.due.retain(|due| due != key);
        }
    }

    /// Takes the next key that is due; it is in flight until `finished` or `failed`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<K> {
        while let Some((at, key)) = self.later.pop_first() {
            if at > now {
                self.later.insert((at, key));
                break;
            }
            if self.in_flight.contains(&key) {
                self.again.insert(key);
            } else if self.queued.insert(key.clone()) {
                self.due.push_back(key);
            }
        }
        let key = self.due.pop_front()?;
        self.queued.remove(&key);
        self.in_flight.insert(key.clone());
        Some(key)
    }

    /// The key's work is done.
    pub(crate) fn finished(&mut self, key: &K) {
        self.in_flight.remove(key);
        self.failures.remove(key);
        if self.again.remove(key) {
            self.push(key);
        }
    }

    /// The key's work failed: it comes again after a wait that doubles with each failure in a row.
    pub(crate) fn failed(&mut self, key: &K, now: Instant) {
        self.in_flight.remove(key);
        self.again.remove(key);
        let failures = self.failures.entry(key.clone()).or_default();
        self.later.insert((now + wait(*failures), key.clone()));
        *failures = failures.saturating_add(1);
    }

    /// When the next key that waits is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Whether nothing is due and nothing is in flight; keys that wait for later do not count.
    pub(crate) fn is_idle(&self) -> bool {
        self.due.is_empty() && self.in_flight.is_empty()
    }

    /// How many keys are due or in flight.
    pub(crate) fn depth(&self) -> usize {
        self.due.len() + self.in_flight.len()
    }
}

/// How many writes one key may get in a minute before it must wait.
const MOST_WRITES: u32 = 20;
const WINDOW: Duration = Duration::from_mins(1);

/// Bounds how often one key is written or told of. Usually that is once; only a fight with somebody else reaches the bound.
#[derive(Debug)]
pub(crate) struct Pace<K> {
    most: u32,
    window: Duration,
    windows: HashMap<K, (Instant, u32)>,
}

impl<K: Clone + Eq + Hash> Pace<K> {
    /// For writes.
    pub(crate) fn new() -> Self {
        Self::of(MOST_WRITES, WINDOW)
    }

    /// So many in this time.
    pub(crate) fn of(most: u32, window: Duration) -> Self {
        Self { most, window, windows: HashMap::new() }
    }

    /// Counts a write, or says when the next one is allowed.
    pub(crate) fn take(&mut self, key: &K, now: Instant) -> Result<(), Instant> {
        let window = self.window;
        let is_open = |start: Instant| now.duration_since(start) < window;
        if self.windows.len() > 10_000 {
            self.windows.retain(|_, (start, _)| is_open(*start));
        }
        let (start, count) = self.windows.entry(key.clone()).or_insert((now, 0));
        if !is_open(*start) {
            (*start, *count) = (now, 0);
        }
        if *count >= self.most {
            return Err(*start + window);
        }
        *count += 1;
        Ok(())
    }
}

/// How soon after one key another may be done, so that many keys make no more load than some.
const SHARE: Duration = Duration::from_millis(50);

/// Spaces out what can wait: a key that comes alone is done at once, many take turns.
#[derive(Debug)]
pub(crate) struct Spacing<K> {
    /// When the keys may be done that have asked.
    turns: HashMap<K, Instant>,
    done: HashMap<K, Instant>,
    /// When the next turn is free.
    free: Option<Instant>,
}

impl<K: Clone + Eq + Hash> Spacing<K> {
    pub(crate) fn new() -> Self {
        Self { turns: HashMap::new(), done: HashMap::new(), free: None }
    }

    /// When the key's turn comes, if not now: not sooner than `interval` after it was done. A turn that it has stays.
    pub(crate) fn turn(&mut self, key: &K, interval: Duration, now: Instant) -> Option<Instant> {
        let turn = *self.turns.entry(key.clone()).or_insert_with(|| {
            let free = self.free.map_or(now, |free| free.max(now));
            self.free = Some(free + SHARE);
            self.done.get(key).map_or(free, |done| free.max(*done + interval))
        });
        (turn > now).then_some(turn)
    }

    /// The key is done now, in its turn or not.
    pub(crate) fn done(&mut self, key: &K, now: Instant) {
        // Some never come back for theirs.
        self.turns.retain(|other, turn| other != key && now.saturating_duration_since(*turn) < WINDOW);
        self.done.retain(|_, done| now.saturating_duration_since(*done) < WINDOW);
        self.done.insert(key.clone(), now);
    }
}

/// Doubles from half a second up to a minute.
pub(crate) fn wait(failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_handed_out_once_until_it_is_finished() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.push(&"a");
        queue.push(&"a");
        assert_eq!(queue.pop(now), Some("a"));
        queue.push(&"a");
        assert_eq!(queue.pop(now), None, "it is in flight");
        queue.finished(&"a");
        assert_eq!(queue.pop(now), Some("a"), "it was asked for again meanwhile");
    }

    #[test]
    fn a_failed_key_comes_again_after_a_wait_that_doubles_up_to_a_minute() {
        let (mut queue, mut now) = (Queue::new(), Instant::now());
        queue.push(&"a");
        for seconds in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            assert_eq!(queue.pop(now), Some("a"));
            queue.failed(&"a", now);
            queue.push(&"a");
            let due = now + Duration::from_secs_f64(seconds);
            assert_eq!(queue.pop(now), None, "not before {seconds} s");
            assert_eq!(queue.next_due(), Some(due));
            now = due;
        }
    }

    #[test]
    fn success_resets_the_wait() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.push(&"a");
        queue.pop(now);
        queue.failed(&"a", now);
        let due = now + FIRST_WAIT;
        assert_eq!(queue.pop(due), Some("a"));
        queue.finished(&"a");
        queue.push(&"a");
        assert_eq!(queue.pop(due), Some("a"));
    }

    #[test]
    fn a_failed_key_with_new_work_does_not_wait() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.push(&"a");
        queue.pop(now);
        queue.failed(&"a", now);
        queue.push_anew(&"a");
        assert_eq!(queue.pop(now), Some("a"));
        queue.failed(&"a", now);
        assert_eq!(queue.pop(now), None, "that failed as well");
    }

    #[test]
    fn a_key_that_is_written_again_and_again_waits_for_the_next_minute() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        for _ in 0..MOST_WRITES {
            assert_eq!(pace.take(&"a", now), Ok(()));
        }
        assert_eq!(pace.take(&"a", now), Err(now + WINDOW));
        assert_eq!(pace.take(&"b", now), Ok(()), "others do not wait");
        assert_eq!(pace.take(&"a", now + WINDOW), Ok(()));
    }

    #[test]
    fn a_few_keys_are_done_once_in_their_interval() {
        let (mut spacing, now) = (Spacing::new(), Instant::now());
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(3));
        assert_eq!(spacing.turn(&"a", short, now), None, "the first time at once");
        spacing.done(&"a", now);
        assert_eq!(spacing.turn(&"a", short, now), Some(now + short));
        assert_eq!(spacing.turn(&"b", short, now), Some(now + 2 * SHARE), "others wait for their turn only");
        assert_eq!(spacing.turn(&"a", short, now + short), None);
        spacing.done(&"a", now + short);
        assert_eq!(spacing.turn(&"a", long, now + short), Some(now + short + long));
        assert_eq!(spacing.turn(&"a", short, now + short), Some(now + short + long), "a turn stays");
        spacing.done(&"a", now + 2 * short);
        assert_eq!(spacing.turn(&"a", long, now + 2 * short), Some(now + 2 * short + long), "done out of turn, it starts anew");
    }

    #[test]
    fn many_keys_take_turns_of_twenty_a_second() {
        let (mut spacing, start) = (Spacing::new(), Instant::now());
        let mut done = HashMap::new();
        for step in 0..60_000 {
            let now = start + Duration::from_millis(step);
            for key in 0..200 {
                if spacing.turn(&key, Duration::from_secs(1), now).is_none() {
                    spacing.done(&key, now);
                    *done.entry(key).or_insert(0) += 1;
                }
            }
        }
        assert_eq!(done.values().sum::<i32>(), 60 * 20);
        assert!((0..200).all(|key| done[&key] == 6), "nobody goes without: {done:?}");
    }

    #[test]
    fn a_forgotten_key_is_not_handed_out() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.push(&"a");
        queue.forget(&"a");
        assert_eq!(queue.pop(now), None);
        assert!(queue.is_idle());
    }
}
