//! A value that attached threads share without a lock.
//!
//! CPython's GIL lets one thread in at a time; a lock of our own would only say so again.
//! In a free-threaded interpreter there is no GIL, and the cell is a lock.

#[cfg(not(Py_GIL_DISABLED))]
use std::cell::{Cell, UnsafeCell};
#[cfg(Py_GIL_DISABLED)]
use std::sync::{Mutex, PoisonError};

use carboy_event_loop::Guard;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

/// Lets one attached thread at a time use a value.
pub(crate) struct AttachedCell<T> {
    #[cfg(not(Py_GIL_DISABLED))]
    value: UnsafeCell<T>,
    #[cfg(not(Py_GIL_DISABLED))]
    in_use: Cell<bool>,
    #[cfg(Py_GIL_DISABLED)]
    value: Mutex<T>,
}

// SAFETY: Both fields are touched by threads that hold the GIL only, one at a time and each
// after the other: `with` asks for the token, and `visit` for that of a garbage collection.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl<T: Send> Sync for AttachedCell<T> {}

/// Ends the use of a cell, also if the operation panics.
#[cfg(not(Py_GIL_DISABLED))]
struct Use<'cell>(&'cell Cell<bool>);

#[cfg(not(Py_GIL_DISABLED))]
impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

#[cfg(not(Py_GIL_DISABLED))]
impl<T> AttachedCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            value: UnsafeCell::new(value),
            in_use: Cell::new(false),
        }
    }

    /// Runs `operation` alone with the value.
    ///
    /// # Panics
    ///
    /// When the operation comes back to the cell, which it must not: so it runs no Python
    /// code, and drops no object.
    #[inline]
    pub(crate) fn with<R>(&self, _py: Python<'_>, operation: impl FnOnce(&mut T) -> R) -> R {
        assert!(!self.in_use.replace(true), "the cell is in use");
        let _use = Use(&self.in_use);
        // SAFETY: This thread holds the GIL, and the flag, which is read and written under the
        // GIL, says that nobody else uses the value, not even if the GIL was given away by the
        // operation of another thread.
        operation(unsafe { &mut *self.value.get() })
    }

    /// Shows the value to a garbage collector, unless it is in use.
    pub(crate) fn visit(&self, _visit: &PyVisit<'_>, operation: impl FnOnce(&T)) {
        if self.in_use.get() {
            return;
        }
        // SAFETY: A collector visits on a thread that holds the GIL, and nobody else uses the
        // value: the flag says so. Visiting runs no code that could come back to the cell.
        operation(unsafe { &*self.value.get() });
    }
}

#[cfg(Py_GIL_DISABLED)]
impl<T> AttachedCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
        }
    }

    /// Runs `operation` alone with the value. It must not come back to the cell: so it runs
    /// no Python code, and drops no object.
    pub(crate) fn with<R>(&self, _py: Python<'_>, operation: impl FnOnce(&mut T) -> R) -> R {
        operation(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows the value to a garbage collector, unless it is in use.
    pub(crate) fn visit(&self, _visit: &PyVisit<'_>, operation: impl FnOnce(&T)) {
        if let Ok(value) = self.value.try_lock() {
            operation(&value);
        }
    }
}

impl<T> Guard<T> for AttachedCell<T> {
    type Key<'key> = Python<'key>;

    fn new(value: T) -> Self {
        Self::new(value)
    }

    #[inline]
    fn with<R>(&self, key: Python<'_>, operation: impl FnOnce(&mut T) -> R) -> R {
        self.with(key, operation)
    }
}
