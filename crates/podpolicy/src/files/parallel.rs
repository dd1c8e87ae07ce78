//! Work on many files: all processors have a part in it.

use std::{
    num::NonZero,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::progress::Progress;

/// The results in the order of the items. A person at a terminal sees how far it has come; `what` is done, such as `reading`.
pub(super) fn in_parallel<T: Send, R: Send>(
    what: &'static str,
    items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator + Send>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let items = items.into_iter();
    let number = items.len();
    let (progress, done) = (Progress::new(what, number), AtomicUsize::new(0));
    let work = |item| {
        let result = work(item);
        progress.reached(done.fetch_add(1, Ordering::Relaxed) + 1);
        result
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get).min(number);
    if workers < 2 {
        return items.map(work).collect();
    }
    let items = Mutex::new(items.enumerate());
    let take = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let mut results: Vec<Option<R>> = std::iter::repeat_with(|| None).take(number).collect();
    thread::scope(|scope| {
        let run = || {
            let mut done = Vec::with_capacity(number / workers + 1);
            while let Some((at, item)) = take() {
                done.push((at, work(item)));
            }
            done
        };
        let started: Vec<_> = (1..workers).map(|_| scope.spawn(run)).collect();
        let mine = run();
        let others = started.into_iter().flat_map(|worker| worker.join().expect("work on a file does not panic"));
        for (at, result) in mine.into_iter().chain(others) {
            results[at] = Some(result);
        }
    });
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        for number in [0, 1, 2, 1000] {
            assert_eq!(in_parallel("doubling", 0..number, |item: i32| item * 2), (0..number).map(|item| item * 2).collect::<Vec<_>>());
        }
    }
}
