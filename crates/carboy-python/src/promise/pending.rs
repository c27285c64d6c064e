//! A promise that native code settles. How to use it is said in `mod.rs`.

use carboy_promise::{Outcome, Reaction, Resolver};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::host::{Core, PromiseHost, Value, reject};
use super::object::Promise;
use super::origin::Origin;
use super::owner::Owner;
use super::scope_object;
use crate::ending::check_not_ending;
use crate::ffi::pending_error;

/// The right of native code to settle a promise. Dropping it unused rejects the promise.
pub(crate) struct PendingPromise {
    resolver: Resolver<PromiseHost>,
}

impl PendingPromise {
    /// A pending promise of whoever runs now. The label says what is promised, for errors and
    /// logs: `GET http://…`.
    ///
    /// # Errors
    ///
    /// What asyncio raises when it is asked for the running loop; `RuntimeError` when the
    /// interpreter ends.
    pub(crate) fn new(py: Python<'_>, label: &str) -> PyResult<(Py<Promise>, Self)> {
        check_not_ending()?;
        let (core, resolver) = Core::pending(Owner::current(py)?, Origin::here(py, Some(label)));
        scope_object::join(py, &core);
        let promise = Py::new(py, Promise::new(core))?;
        Ok((promise, Self { resolver }))
    }

    /// Sets what gives up the work when the promise is cancelled.
    pub(crate) fn on_cancel(&self, hook: impl FnOnce() + Send + 'static) {
        self.resolver.promise().on_cancel(Box::new(hook));
    }

    /// Whether it matters of which HTTP call the outcome is.
    pub(crate) fn notes_call(&self) -> bool {
        self.resolver.promise().origin().causes.are_kept()
    }

    /// Says of which HTTP call the outcome is, a `carboy.http.Call` or None. It is told when it has
    /// ended without a response: that it was given up nobody else knows.
    pub(crate) fn set_call(&self, call: &Bound<'_, PyAny>) -> PyResult<()> {
        let promise = self.resolver.promise();
        promise.origin().causes.set_call(call)?;
        if !call.is_none() {
            let (call, promise_of_call) = (call.clone().unbind(), promise.downgrade());
            promise.observe(Reaction::Waiter(Box::new(move || {
                let outcome = promise_of_call.upgrade().and_then(|it| it.outcome());
                if let Some(Outcome::Rejected(failure)) = outcome {
                    Python::attach(|py| end_call(call.bind(py), failure.error(py)));
                }
            })));
        }
        Ok(())
    }

    /// Fulfils the promise with a value as it is, awaitable or not. Without effect if the
    /// promise is settled, as by a cancellation.
    pub(crate) fn fulfil(self, _py: Python<'_>, value: Py<PyAny>) {
        self.resolver.fulfil(Value(value));
    }

    /// Rejects the promise with an exception.
    pub(crate) fn reject(self, py: Python<'_>, error: PyErr) {
        reject(py, &self.resolver, error);
    }

    /// Whether the outcome is no longer needed: the promise was cancelled.
    pub(crate) fn is_settled(&self) -> bool {
        self.resolver.promise().is_settled()
    }
}

fn end_call(call: &Bound<'_, PyAny>, error: &Bound<'_, PyAny>) {
    let py = call.py();
    let keywords = PyDict::new(py);
    let ended = keywords
        .set_item(intern!(py, "error"), error)
        .and_then(|()| call.call_method(intern!(py, "end"), (), Some(&keywords)));
    if let Err(error) = ended {
        error.write_unraisable(py, None);
    }
}

impl Drop for PendingPromise {
    fn drop(&mut self) {
        if self.is_settled() {
            return;
        }
        // Once the interpreter ends, nobody waits any more.
        Python::try_attach(|py| {
            pending_error::preserved(py, || {
                let error = PyRuntimeError::new_err(
                    "the work for this promise was given up: the event loop or the program has \
                     ended before it; wait for it by 'await' or result()",
                );
                reject(py, &self.resolver, error);
            });
        });
    }
}
