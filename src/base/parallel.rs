//! The same thing done to many, several at a time. Knows nothing of what is done.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many requests of a store are waited for at a time: enough to hide that each takes a while.
pub const REQUESTS: usize = 8;

/// What `act` makes of each item, in the items' order, by up to `threads` threads. One item takes none.
pub fn map<T: Sync, R: Send>(items: &[T], threads: usize, act: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if threads <= 1 || items.len() <= 1 {
        return items.iter().map(act).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(place) else { break };
                    let result = act(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((place, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Both results, of which the second comes from another thread, if there can be one.
pub fn both<A, B: Send>(first: impl FnOnce() -> A, second: impl FnOnce() -> B + Send) -> (A, B) {
    let waiting = Mutex::new(Some(second));
    let take = || waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
    std::thread::scope(|scope| {
        let other = std::thread::Builder::new().spawn_scoped(scope, || take().map(|second| second()));
        let first = first();
        let second = match other.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(Some(second))) => second,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Ok(Ok(None)) | Err(_) => take().expect("nobody else took it")(),
        };
        (first, second)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn results_are_in_the_order_of_items() {
        let items: Vec<u64> = (0..1000).collect();
        for threads in [0, 1, 7] {
            let doubled = map(&items, threads, |item| item * 2);
            assert!(doubled.iter().zip(&items).all(|(doubled, item)| *doubled == item * 2) && doubled.len() == 1000);
        }
        assert!(map(&[0; 0], 4, |item: &i32| *item).is_empty());
    }

    #[test]
    fn two_are_at_work_at_a_time() {
        let all = Barrier::new(2);
        // Would wait forever one after the other.
        assert_eq!(both(|| (all.wait(), 1).1, || (all.wait(), "b").1), (1, "b"));
    }

    #[test]
    fn several_are_at_work_at_a_time() {
        let all = Barrier::new(4);
        // Would wait forever in fewer threads.
        map(&[0; 8], 4, |_| all.wait());
    }
}
