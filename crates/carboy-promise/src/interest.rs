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
pub struct Interest<H: Host>(WeakPromise<H>);

impl<H: Host> Interest<H> {
    pub(crate) fn new(promise: &Promise<H>) -> Self {
        Self(promise.downgrade())
    }

    /// The promise, if it still exists.
    pub fn promise(&self) -> Option<Promise<H>> {
        self.0.upgrade()
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
    /// What is still to be done, while something is being done.
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
        None => {
            *pending = Some(Vec::new());
            Some(action)
        }
    });
    let mut next = is_first;
    if next.is_none() {
        return;
    }
    let _end = EndOfTurn;
    while let Some(action) = next {
        action();
        next = PENDING.with_borrow_mut(|pending| pending.as_mut().and_then(Vec::pop));
    }
}

/// Ends the turn, however it ends.
struct EndOfTurn;

impl Drop for EndOfTurn {
    fn drop(&mut self) {
        let left = PENDING.take();
        drop(left);
    }
}
