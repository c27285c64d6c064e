//! How threads share the queues: one at a time.

use std::sync::{Mutex, PoisonError};

/// Lets one thread at a time use a value.
///
/// The crate itself takes a lock. An owner whose threads exclude each other anyway, as those
/// of an interpreter do, brings a guard of its own, and saves the lock.
pub trait Guard<T> {
    /// What shows that the caller may be let in. A lock asks for nothing: `()`.
    type Key<'key>: Copy;

    /// Guards a value.
    fn new(value: T) -> Self;

    /// Runs `operation` alone with the value. It must not come back to the guard: the
    /// operations of this crate run no code of the owner but [`crate::Callback`]'s.
    fn with<R>(&self, key: Self::Key<'_>, operation: impl FnOnce(&mut T) -> R) -> R;
}

impl<T> Guard<T> for Mutex<T> {
    type Key<'key> = ();

    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, (): (), operation: impl FnOnce(&mut T) -> R) -> R {
        // No operation leaves the value half changed, so a poisoned one is still whole.
        operation(&mut self.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
