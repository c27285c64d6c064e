//! How many requests are in progress, and whether one more may be.
//!
//! A request is in progress until both its response has been sent, or can't be, and the
//! application is done with it: a view goes on when its client has gone, and clients that
//! give up and try again must not pile up more of them than allowed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts requests in progress against a limit.
#[derive(Debug)]
pub(crate) struct RequestLimit {
    limit: Option<usize>,
    in_progress: Arc<AtomicUsize>,
}

impl RequestLimit {
    pub(crate) fn new(limit: Option<usize>) -> Self {
        Self {
            limit,
            in_progress: Arc::default(),
        }
    }

    /// Lets a request in, or says that there are as many as there may be.
    pub(crate) fn admit(&self) -> Option<Admission> {
        let Some(limit) = self.limit else {
            return Some(Admission(None));
        };
        // One thread lets in; any thread may let out.
        if self.in_progress.load(Ordering::Relaxed) >= limit {
            return None;
        }
        self.in_progress.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.in_progress));
        Some(Admission(Some(Arc::new(place))))
    }
}

/// A request's place among those in progress, which is free again when the last copy of
/// this is dropped. May be kept by any thread.
#[derive(Clone, Debug, Default)]
pub struct Admission(
    #[expect(dead_code, reason = "what counts is when it is dropped")] Option<Arc<Place>>,
);

#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_nobody_holds_it() {
        let limit = RequestLimit::new(Some(2));
        let first = limit.admit().unwrap();
        let second = limit.admit().unwrap();
        assert!(limit.admit().is_none());
        let copy = first.clone();
        drop(first);
        assert!(limit.admit().is_none(), "somebody still holds the first");
        std::thread::spawn(move || drop(copy)).join().unwrap();
        let third = limit.admit().unwrap();
        assert!(limit.admit().is_none());
        drop((second, third));
        assert!(limit.admit().is_some());
    }

    #[test]
    fn without_a_limit_nobody_counts() {
        let limit = RequestLimit::new(None);
        let all: Vec<_> = (0..1000).map(|_| limit.admit().unwrap()).collect();
        assert_eq!(limit.in_progress.load(Ordering::Relaxed), 0);
        drop(all);
    }
}
