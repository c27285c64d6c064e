//! Scopes of promises, as Python sees them, and how the one of whoever runs now is found.
//!
//! It is in a context variable, or it is the request's (`request_scope.rs`).

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::host::Core;
use super::native_loop::call_later;
use super::owner;
use super::request_scope::RequestScope;
use super::scope::{Reason, Scope};
use crate::cancellation::Policy;
use crate::ffi::context;
use crate::names;

/// A scope, for Python.
#[pyclass(frozen, subclass, weakref, module = "carboy._carboy")]
pub(crate) struct PromiseScope {
    scope: Arc<Scope>,
    /// What it is of, if it is a request's.
    request: Option<Arc<RequestScope>>,
}

impl PromiseScope {
    fn new(scope: Arc<Scope>) -> Self {
        Self {
            scope,
            request: None,
        }
    }

    pub(super) fn of_request(request: Arc<RequestScope>) -> Self {
        Self {
            scope: Arc::clone(request.scope()),
            request: Some(request),
        }
    }

    /// What it is of, if it is a request's.
    pub(super) fn request(&self) -> Option<&Arc<RequestScope>> {
        self.request.as_ref()
    }
}

#[pymethods]
impl PromiseScope {
    /// Another object for the same scope: for a class that has more methods.
    #[new]
    fn again(scope: &Bound<'_, Self>) -> Self {
        let scope = scope.get();
        Self {
            scope: Arc::clone(&scope.scope),
            request: scope.request.clone(),
        }
    }

    /// A scope within another one, or in none.
    #[staticmethod]
    #[pyo3(signature = (outer = None))]
    fn within(py: Python<'_>, outer: Option<&Bound<'_, Self>>) -> Self {
        Self::new(Scope::within(py, outer.map(|outer| &outer.get().scope)))
    }

    /// Ends the scope: what is unfinished is rejected with the exception, or cancelled.
    #[pyo3(signature = (error = None))]
    pub(super) fn end(&self, py: Python<'_>, error: Option<Py<PyAny>>) {
        let reason = error.map(Reason::new);
        self.scope.finish(py, reason.as_ref());
        if let Some(request) = &self.request {
            request.note_end();
        }
        // In sync code nobody may wait any more; what finally_ was given runs nevertheless.
        owner::run_what_is_queued_here(py);
    }

    /// Ends the scope with this exception after some seconds.
    fn end_after(&self, py: Python<'_>, seconds: f64, error: Py<PyAny>) -> PyResult<()> {
        let Ok(delay) = Duration::try_from_secs_f64(seconds) else {
            // Longer than anything lasts.
            return Ok(());
        };
        let reason = Reason::new(error);
        // The timer keeps nothing alive: without promises and code in the scope it is moot.
        let scope = Arc::downgrade(&self.scope);
        let action = move |py: Python<'_>| {
            if let Some(scope) = scope.upgrade() {
                scope.finish(py, Some(&reason));
            }
        };
        let timer = call_later(py, delay, Box::new(action))?;
        self.scope.set_timer(timer);
        Ok(())
    }

    /// Takes the errors that nobody has looked at until now, with what their promises were.
    fn take_unhandled(&self, py: Python<'_>) -> Vec<(Py<PyAny>, String)> {
        owner::pass_here(py);
        let unhandled = self.scope.take_unhandled().into_iter();
        let with_error = unhandled.map(|(failure, description)| {
            let error = failure.into_error(py).into_value(py);
            (error.into_any(), description)
        });
        with_error.collect()
    }

    /// What was unfinished when it ended for a reason, or is given up just now.
    fn unfinished(&self, py: Python<'_>) -> Vec<String> {
        self.scope.unfinished(py)
    }

    /// Whether it has not ended.
    fn is_open(&self) -> bool {
        self.scope.is_open()
    }

    /// Whether it is a part of work that may outlive its request.
    fn is_detached(&self) -> bool {
        self.scope.is_detached()
    }

    /// Ends a request's scope early if its client goes, by this policy instead of the app's.
    fn cancel_on_disconnect(&self, py: Python<'_>, policy: &str) -> PyResult<()> {
        match &self.request {
            Some(request) => request.set_policy(py, Policy::from_name(policy)?),
            None => Ok(()),
        }
    }

    /// Has the server answer 504 if the request has not been answered a little later than so
    /// many seconds from now.
    fn answer_within(&self, seconds: f64) {
        let head = self.request.as_ref().and_then(|request| request.head());
        if let (Some(head), Ok(time)) = (head, Duration::try_from_secs_f64(seconds)) {
            head.life.answer_within(time);
        }
    }

    /// The header in which services are told how long they may take, if there is to be one.
    fn deadline_header(&self) -> Option<&str> {
        let settings = &self.request.as_ref()?.head()?.settings.cancellation;
        let header = settings.deadline_header.as_ref();
        header.map(http::HeaderName::as_str)
    }
}

/// The scope of whoever runs now.
pub(super) fn current(py: Python<'_>) -> PyResult<Option<Arc<Scope>>> {
    let scope = match context::get_variable(names::inner_scope(py)?)? {
        Some(scope) => scope
            .cast_into::<PromiseScope>()
            .map_err(|_| PyRuntimeError::new_err("the scope of promises is not one"))?,
        // Most code outside of requests has no scope.
        None => match RequestScope::current(py)? {
            Some(scope) => scope,
            None => return Ok(None),
        },
    };
    Ok(Some(Arc::clone(&scope.get().scope)))
}

/// Lets a promise of work belong to where it was made, unless it is detached.
pub(super) fn join(py: Python<'_>, promise: &Core) {
    let origin = promise.origin();
    if let Some(scope) = origin.scope()
        && !origin.is_detached()
    {
        scope.join(py, promise);
    }
}

/// Takes a promise, and what is done by the task that works for it, out of their scope: they
/// may outlive the request.
pub(super) fn leave(promise: &Core) {
    let origin = promise.origin();
    origin.set_detached();
    if let Some(scope) = origin.scope() {
        scope.leave(promise);
    }
    if let Some(work) = origin.work() {
        work.cut_off();
    }
}

/// Lets a scope be that of whoever runs in the context which is current now.
pub(super) fn set_current(py: Python<'_>, scope: Arc<Scope>) -> PyResult<()> {
    let scope = Bound::new(py, PromiseScope::new(scope))?;
    context::set_variable(names::inner_scope(py)?, scope.as_any()).map(drop)
}

/// Whether the deadline that the context knows is not for whoever runs now: it is for the
/// request, and detached work goes on without one.
pub(super) fn is_detached_here(py: Python<'_>) -> PyResult<bool> {
    let scope = context::get_variable(names::inner_scope(py)?)?;
    Ok(scope.is_some_and(|scope| {
        scope
            .cast::<PromiseScope>()
            .is_ok_and(|scope| scope.get().scope.is_detached())
    }))
}
