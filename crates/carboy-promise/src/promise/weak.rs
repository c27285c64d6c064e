//! References that do not keep a promise alive.

use std::sync::{Arc, Weak};

use super::{Promise, Shared};
use crate::Host;

/// A promise that others keep alive.
pub struct WeakPromise<H: Host>(Weak<Shared<H>>);

impl<H: Host> Clone for WeakPromise<H> {
    fn clone(&self) -> Self {
        Self(Weak::clone(&self.0))
    }
}

impl<H: Host> WeakPromise<H> {
    pub(super) fn new(promise: &Promise<H>) -> Self {
        Self(Arc::downgrade(&promise.0))
    }

    /// The promise, if it still exists.
    pub fn upgrade(&self) -> Option<Promise<H>> {
        self.0.upgrade().map(Promise)
    }

    /// Whether it still exists. Takes no reference to it, not even for a moment.
    pub fn exists(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Whether it still exists and is not settled.
    pub fn is_pending(&self) -> bool {
        self.upgrade().is_some_and(|promise| !promise.is_settled())
    }

    /// Whether it is this one.
    pub fn is(&self, promise: &Promise<H>) -> bool {
        self.0.as_ptr() == Arc::as_ptr(&promise.0)
    }
}
