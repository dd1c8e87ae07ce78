//! What the probes of the operator itself ask: is the loop alive, and has everything been listed once?

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The loop wakes at least this often, and is taken for dead when it has not for ten times as long.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);

/// The state that the health endpoints tell.
#[derive(Debug)]
pub struct Health {
    ready: AtomicBool,
    last_beat: Mutex<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Self { ready: AtomicBool::new(false), last_beat: Mutex::new(Instant::now()) }
    }
}

impl Health {
    /// Whether everything has been listed once.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Whether the loop is alive.
    pub fn is_live(&self) -> bool {
        self.last_beat().elapsed() < 10 * HEARTBEAT
    }

    pub(crate) fn beat(&self, now: Instant, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
        *self.last_beat.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn last_beat(&self) -> Instant {
        *self.last_beat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
