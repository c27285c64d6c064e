//! Who waits for a promise, so that what nobody waits for can be given up.
//!
//! A promise that is cancelled loses its interest in its sources; a source that loses the
//! last one is cancelled too, and so on up to whatever does the work. A promise that never
//! had anybody interested is left alone: it was started, and runs.

use std::cell::RefCell;

use crate::{Host, Promise, WeakPromise};

/// The wish to know a promise's outcome. Dropping the last one cancels the promise.
///
/// It does not keep the promise alive: that is up to who will settle it.
pub struct Interest<H: Host>(Option<WeakPromise<H>>);

impl<H: Host> Interest<H> {
    pub(crate) fn new(promise: &Promise<H>) -> Self {
        Self(Some(promise.downgrade()))
    }

    /// The promise, if it still exists.
    pub fn promise(&self) -> Option<Promise<H>> {
        self.0.as_ref().and_then(WeakPromise::upgrade)
    }

    /// Whether it is in this promise.
    pub(crate) fn is_in(&self, promise: &Promise<H>) -> bool {
        self.0.as_ref().is_some_and(|known| known.is(promise))
    }

    /// Ends the interest and cancels nothing.
    pub fn end(mut self) {
        if let Some(promise) = self.0.take().and_then(|promise| promise.upgrade()) {
            promise.lose_interest();
        }
    }
}

impl<H: Host> Drop for Interest<H> {
    fn drop(&mut self) {
        if let Some(promise) = self.promise()
            && promise.lose_interest()
        {
            in_turn(Box::new(move || {
                promise.cancel(H::cancellation());
            }));
        }
    }
}

type Action = Box<dyn FnOnce()>;

thread_local! {
    /// What is still to be done, while something is being done. The last one is the next.
    static PENDING: RefCell<Option<Vec<Action>>> = const { RefCell::new(None) };
}

/// Does something now; from within something that is being done, after that. A chain of any
/// length then needs no deeper stack than one link.
pub(crate) fn in_turn(action: Action) {
    let is_first = PENDING.with_borrow_mut(|pending| match pending {
        Some(actions) => {
            actions.push(action);
            None
        }
        None => Some(action),
    });
    if let Some(action) = is_first {
        turn(action);
    }
}

/// Does something now, and after it what it has passed to [`in_turn`], the last of it first.
/// From within something that is being done, that is left to the end of the outermost.
pub(crate) fn turn<T>(work: impl FnOnce() -> T) -> T {
    let is_first = PENDING.with_borrow_mut(|pending| {
        let is_first = pending.is_none();
        pending.get_or_insert_default();
        is_first
    });
    if !is_first {
        return work();
    }
    let _end = EndOfTurn;
    let result = work();
    while let Some(action) = PENDING.with_borrow_mut(|pending| pending.as_mut().and_then(Vec::pop))
    {
        action();
    }
    result
}

/// Ends the turn, however it ends.
struct EndOfTurn;

impl Drop for EndOfTurn {
    fn drop(&mut self) {
        let left = PENDING.take();
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use crate::test_host::{Home, Returned, state};

    #[test]
    fn the_last_to_lose_interest_cancels() {
        let home = Home::default();
        let (source, _resolver) = home.pending();
        let one = home.then(&source, |_| Returned::Value(1));
        let other = home.then(&source, |_| Returned::Value(2));
        one.cancel("given up".to_owned());
        assert_eq!(state(&source), "pending");
        other.cancel("given up".to_owned());
        assert_eq!(state(&source), "!cancelled");
    }

    #[test]
    fn a_promise_that_never_had_anybody_interested_runs_on() {
        let home = Home::default();
        let (source, resolver) = home.pending();
        let copy = source.clone();
        drop(source);
        assert!(resolver.promise() == &copy);
        assert_eq!(state(&copy), "pending");
    }

    #[test]
    fn interest_may_end_without_a_cancellation() {
        let (promise, _resolver) = Home::default().pending();
        promise.interest().end();
        assert_eq!(state(&promise), "pending");
        drop(promise.interest());
        assert_eq!(state(&promise), "!cancelled");
    }

    #[test]
    fn interest_does_not_keep_a_promise_alive() {
        let (promise, resolver) = Home::default().pending();
        let interest = promise.interest();
        assert!(interest.promise().is_some());
        drop((promise, resolver));
        assert!(interest.promise().is_none());
    }

    #[test]
    fn a_settled_promise_has_lost_its_interest_in_its_sources() {
        let home = Home::default();
        let (source, _resolver) = home.pending();
        let (promise, resolver) = home.pending();
        promise.depend_on(&source);
        assert_eq!(promise.sources().len(), 1);
        resolver.reject("no".to_owned());
        assert!(promise.sources().is_empty());
        assert_eq!(state(&source), "!cancelled");
        let (late, _late_resolver) = home.pending();
        promise.depend_on(&late);
        assert_eq!(state(&late), "!cancelled");
        assert_eq!(home.began_to_depend(), 2);
    }

    #[test]
    fn what_a_promise_follows_is_given_up_with_it() {
        let home = Home::default();
        let (source, _resolver) = home.pending();
        let (promise, resolver) = home.pending();
        resolver.follow(&source);
        home.run();
        assert!(promise.sources().contains(&source));
        promise.cancel("given up".to_owned());
        assert_eq!(state(&source), "!cancelled");
    }
}
