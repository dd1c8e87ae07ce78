//! Waits for what will be, with a deadline, and says what was there instead when it did not come.
//!
//! Must never stand in for a condition with a pause: nothing here waits for time to pass for its own sake.

use std::cell::RefCell;
use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

/// How long tests wait for something that normally takes a second or two; generous, because CI machines are slow.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// How often [`eventually`] looks.
const INTERVAL: Duration = Duration::from_millis(50);

/// What a look at the world found.
#[derive(Debug)]
pub enum Seen<T> {
    /// What was waited for.
    Done(T),
    /// Not yet: a description of what is there instead, for the message when time runs out.
    NotYet(String),
}

impl Seen<()> {
    /// Done when `done`, otherwise not yet, with what is there instead.
    pub fn when(done: bool, instead: impl Debug) -> Self {
        if done { Self::Done(()) } else { Self::NotYet(format!("{instead:?}")) }
    }
}

/// Looks again and again until `look` is done.
///
/// Fails after `deadline` with `what`, the time and what was seen last; and at once with an error of `look`: what may
/// pass, such as an object that does not exist yet, is [`Seen::NotYet`]. A look that hangs counts as time.
pub async fn eventually<T, F>(what: &str, deadline: Duration, mut look: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Seen<T>>>,
{
    let start = Instant::now();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = "nothing: no look came back".to_owned();
    loop {
        ticks.tick().await;
        match timeout_at(start + deadline, look()).await {
            Ok(Ok(Seen::Done(value))) => return Ok(value),
            Ok(Ok(Seen::NotYet(instead))) => last = instead,
            Ok(Err(error)) => return Err(error).with_context(|| format!("while waiting for {what}")),
            Err(_elapsed) => {}
        }
        if start.elapsed() >= deadline {
            bail!("waited {deadline:?} in vain for {what}; seen last: {last}");
        }
    }
}

/// Watches one object until `condition` holds for it; the condition is given `None` while it does not exist.
///
/// Fails after `deadline` with `what`, the time and the object as it was then.
pub async fn object<K>(api: &Api<K>, name: &str, what: &str, deadline: Duration, condition: impl Condition<K>) -> anyhow::Result<Option<K>>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
{
    let last = RefCell::new(None);
    let remembering = |object: Option<&K>| {
        let holds = condition.matches_object(object);
        *last.borrow_mut() = Some(object.cloned());
        holds
    };
    // Boxed: the futures of watches are large, and those of tests hold many.
    if let Ok(found) = timeout(deadline, Box::pin(await_condition(api.clone(), name, remembering))).await {
        return found.with_context(|| format!("while waiting for {what}"));
    }
    let instead = match last.take() {
        None => "nothing: no answer came from the API server".to_owned(),
        Some(None) => format!("no object with the name {name}"),
        Some(Some(object)) => serde_saphyr::to_string(&object).unwrap_or_else(|error| format!("{object:?} ({error})")),
    };
    bail!("waited {deadline:?} in vain for {what}; seen last: {instead}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn eventually_returns_the_value_that_comes() {
        let mut looks = 0;
        let value = eventually("the third look", DEADLINE, || {
            looks += 1;
            let seen = if looks == 3 { Seen::Done(looks) } else { Seen::NotYet(format!("look {looks}")) };
            async { Ok(seen) }
        });
        assert_eq!(value.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn timeout_says_what_how_long_and_what_was_seen_last() {
        let value = eventually("rain", Duration::from_millis(60), || async { Ok(Seen::<()>::NotYet("a cloud".to_owned())) });
        assert_eq!(value.await.unwrap_err().to_string(), "waited 60ms in vain for rain; seen last: a cloud");
    }

    #[tokio::test]
    async fn look_that_hangs_is_ended_by_the_deadline() {
        let value = eventually::<(), _>("godot", Duration::from_millis(10), std::future::pending);
        assert_eq!(value.await.unwrap_err().to_string(), "waited 10ms in vain for godot; seen last: nothing: no look came back");
    }

    #[tokio::test]
    async fn error_ends_the_wait_at_once() {
        let value = eventually::<(), _>("a port", DEADLINE, || async { bail!("permission denied") });
        assert_eq!(format!("{:#}", value.await.unwrap_err()), "while waiting for a port: permission denied");
    }
}
