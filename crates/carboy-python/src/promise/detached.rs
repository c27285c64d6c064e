//! What was detached and goes on: a server that stops waits for it for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};

use carboy_promise::WeakPromise;
use pyo3::prelude::*;

use super::host::{Core, PromiseHost};
use super::object::Promise;

/// Below this many those that are gone are not looked for.
const PROMISES_BEFORE_CLEANUP: usize = 32;

/// The promises that were detached, with their names, and with how many it is time to look for
/// those that are gone.
static DETACHED: Mutex<Detached> = Mutex::new(Detached {
    promises: Vec::new(),
    cleanup_at: PROMISES_BEFORE_CLEANUP,
});

struct Detached {
    promises: Vec<(WeakPromise<PromiseHost>, String)>,
    cleanup_at: usize,
}

fn detached() -> MutexGuard<'static, Detached> {
    DETACHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that a promise goes on whatever becomes of its request.
pub(super) fn note(promise: &Core, name: &str) {
    if promise.is_settled() {
        return;
    }
    let mut detached = detached();
    if detached.promises.len() >= detached.cleanup_at {
        // Without a reference to any: dropping the last one would run code under the lock.
        detached.promises.retain(|(promise, _)| promise.exists());
        detached.cleanup_at = PROMISES_BEFORE_CLEANUP.max(2 * detached.promises.len());
    }
    detached
        .promises
        .push((promise.downgrade(), name.to_owned()));
}

/// The promises that were detached and are pending, with the names that they were given.
#[pyfunction]
pub(crate) fn detached_promises() -> Vec<(Promise, String)> {
    let known = detached().promises.clone();
    let promises = known
        .into_iter()
        .filter_map(|(promise, name)| Some((promise.upgrade()?, name)));
    promises
        .filter(|(promise, _)| !promise.is_settled())
        .map(|(promise, name)| (Promise::new(promise), name))
        .collect()
}
