//! What `finally_` was given: it runs once, after the source or when the promise is cancelled.

use carboy_promise::Resolver;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyContext;

use super::awaitable::{is_awaitable, resolve};
use super::handler::{fails_program, in_context};
use super::host::{Core, Failure, PromiseHost};
use super::origin::Origin;
use super::owner::Owner;
use super::scope::{Scope, report_unhandled};
use super::scope_object;

/// A function without arguments, and the context in which it runs.
pub(crate) struct Cleanup {
    function: Py<PyAny>,
    context: Py<PyContext>,
}

impl Cleanup {
    pub(super) fn new(function: Py<PyAny>, context: Py<PyContext>) -> Self {
        Self { function, context }
    }

    pub(super) fn context(&self) -> &Py<PyContext> {
        &self.context
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)?;
        visit.call(&self.context)
    }

    /// Calls the function. After the end of the request it can't be the request's any more,
    /// and what it begins is nobody's.
    pub(super) fn call<'py>(&self, py: Python<'py>, promise: &Core) -> PyResult<Bound<'py, PyAny>> {
        let here = Owner::current(py)?;
        here.begin_handler(promise.clone());
        let result = in_context(Some(self.context.bind(py)), || {
            let origin = promise.origin();
            let is_owned = origin.scope().is_none_or(|scope| scope.is_open());
            if origin.is_detached() || !is_owned {
                scope_object::set_current(py, Scope::detached(py))?;
            }
            self.function.bind(py).call0()
        });
        here.end_handler();
        result
    }

    /// Calls the function for a promise that was cancelled. What it returns is awaited, by
    /// itself: cleaning up is not cancelled again.
    pub(super) fn run_after_cancellation(self, py: Python<'_>, promise: &Core) {
        match self.call(py, promise) {
            Ok(result) => {
                if is_awaitable(&result).unwrap_or(false) {
                    let (_, resolver) = self.waiting(py, promise);
                    resolve(py, &resolver, &result, Some(&self.context));
                }
            }
            Err(error) => {
                fails_program(py, &error);
                let origin = promise.origin();
                origin.add_note(py, &error);
                let (failure, description) = (Failure::new(py, error), origin.describe(py));
                match origin.scope() {
                    Some(scope) => scope.add_unhandled(py, failure, description),
                    None => report_unhandled(py, None, &failure, description),
                }
            }
        }
    }

    /// The promise of what the function's awaitable gives. It is nobody's, so that the end
    /// of the request does not cancel what cleans up after it.
    pub(super) fn waiting(&self, py: Python<'_>, promise: &Core) -> (Core, Resolver<PromiseHost>) {
        let origin = Origin::after(
            py,
            promise.origin(),
            "cleanup",
            Some(self.function.bind(py)),
        );
        origin.set_detached();
        Core::pending(promise.home().clone(), origin)
    }
}
