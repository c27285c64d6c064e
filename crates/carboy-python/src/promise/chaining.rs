//! Promises of what comes after another one: `then` and its kin.

use carboy_promise::{Outcome, Reaction, Resolver};
use pyo3::exceptions::{PyBaseException, PyTimeoutError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::handler::{Action, Handler};
use super::host::{Core, Failure, PromiseHost, Value};
use super::native_loop::call_later;
use super::object::{Promise, checked_timeout};
use super::origin::Origin;
use super::owner::Owner;
use super::{detached, request_scope, scope_object};
use crate::names;

/// A function that a method was called with, made to run where it shall.
fn checked_function(
    function: Bound<'_, PyAny>,
    method: &str,
    on: Option<&str>,
) -> PyResult<Py<PyAny>> {
    if !function.is_callable() {
        let message = format!("{method}() needs a function, not {}", function.get_type());
        return Err(PyTypeError::new_err(message));
    }
    match on {
        None => Ok(function.unbind()),
        Some("thread") => {
            let py = function.py();
            names::in_thread(py)?.call1((function,)).map(Bound::unbind)
        }
        Some(other) => Err(PyValueError::new_err(format!(
            "on={other:?} is no place to run a function: it is \"thread\", or nothing"
        ))),
    }
}

fn is_exception_class(what: &Bound<'_, PyAny>) -> bool {
    if let Ok(classes) = what.cast::<PyTuple>() {
        return classes.iter().all(|class| is_exception_class(&class));
    }
    what.cast::<PyType>()
        .is_ok_and(|class| class.is_subclass_of::<PyBaseException>().unwrap_or(false))
}

/// What a promise has when it took too long.
enum TimeoutDefault {
    /// Nothing: it fails.
    Missing,
    Given(Py<PyAny>),
}

impl<'py> FromPyObject<'_, 'py> for TimeoutDefault {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self::Given(value.to_owned().unbind()))
    }
}

impl Promise {
    fn chain(&self, py: Python<'_>, action: Action, label: &str) -> PyResult<Self> {
        let (promise, handler) = Handler::new(py, self.core(), action, label)?;
        self.core().react(Reaction::Handler(handler));
        Ok(Self::new(promise))
    }

    /// A pending promise that is to follow this one.
    fn derive(&self, py: Python<'_>, method: &str) -> PyResult<(Core, Resolver<PromiseHost>)> {
        let origin = Origin::after(py, self.core().origin(), method, None);
        Ok(Core::pending(Owner::current(py)?, origin))
    }
}

#[pymethods]
impl Promise {
    /// Call a function with the value when it is there, or another one with the exception;
    /// return the promise of what that returns.
    ///
    /// The function may return a promise or another awaitable, or be a coroutine function:
    /// then the new promise is that of its result. Without a function for it, a value or an
    /// exception is passed on. Cancellation is passed on, too.
    ///
    /// Args:
    ///     `on_fulfilled`: What to call with the value.
    ///     `on_rejected`: What to call with an ``Exception``.
    ///     on: ``"thread"`` lets the functions run on a thread of the event loop's pool, for work that
    ///         keeps a processor busy or blocks. Otherwise they run where the promise's owner
    ///         does.
    #[pyo3(signature = (on_fulfilled = None, on_rejected = None, /, *, on = None))]
    fn then(
        &self,
        py: Python<'_>,
        on_fulfilled: Option<Bound<'_, PyAny>>,
        on_rejected: Option<Bound<'_, PyAny>>,
        on: Option<&str>,
    ) -> PyResult<Self> {
        let check = |function| checked_function(function, "then", on);
        let on_fulfilled = on_fulfilled.map(check).transpose()?;
        let on_rejected = on_rejected.map(check).transpose()?;
        self.chain(py, Action::Then(on_fulfilled, on_rejected), "then")
    }

    /// As ``then``, for a function that returns a promise or another awaitable.
    #[pyo3(signature = (function, /))]
    fn and_then(&self, py: Python<'_>, function: Bound<'_, PyAny>) -> PyResult<Self> {
        let function = checked_function(function, "and_then", None)?;
        self.chain(py, Action::AndThen(function), "and_then")
    }

    /// Call a function with the exception, if it is an instance of the class (or of one in a
    /// tuple); the promise that is returned has its result instead.
    ///
    /// ``catch(function)`` is for every ``Exception``.
    #[pyo3(signature = (what, function = None, /, *, on = None))]
    fn catch(
        &self,
        py: Python<'_>,
        what: Bound<'_, PyAny>,
        function: Option<Bound<'_, PyAny>>,
        on: Option<&str>,
    ) -> PyResult<Self> {
        let (class, function) = match function {
            Some(function) if is_exception_class(&what) => (what, function),
            Some(_) => {
                return Err(PyTypeError::new_err(format!(
                    "catch() needs a class of exceptions, or a tuple of some, not {}",
                    what.repr()?
                )));
            }
            None if is_exception_class(&what) => {
                return Err(PyTypeError::new_err(format!(
                    "catch() needs a function after {}",
                    what.repr()?
                )));
            }
            None => {
                let class = py.get_type::<pyo3::exceptions::PyException>();
                (class.into_any(), what)
            }
        };
        let function = checked_function(function, "catch", on)?;
        self.chain(py, Action::Catch(class.unbind(), function), "catch")
    }

    /// Call a function with the outcome, ``Fulfilled(value)`` or ``Rejected(error)`` of
    /// ``carboy.promise``; return the promise of what that returns. Cancellation is passed on.
    #[pyo3(signature = (function, /, *, on = None))]
    fn settle(
        &self,
        py: Python<'_>,
        function: Bound<'_, PyAny>,
        on: Option<&str>,
    ) -> PyResult<Self> {
        let function = checked_function(function, "settle", on)?;
        self.chain(py, Action::Settle(function), "settle")
    }

    /// Call a function without arguments when the promise is settled or cancelled. The outcome
    /// stays the same, unless the function raises.
    ///
    /// It runs once, also when the promise that is returned is cancelled first. After the end
    /// of the request it cleans up on its own: what it begins is not cancelled any more.
    #[pyo3(signature = (function, /))]
    fn finally_(&self, py: Python<'_>, function: Bound<'_, PyAny>) -> PyResult<Self> {
        let function = checked_function(function, "finally_", None)?;
        let (promise, handler) = Handler::with_cleanup(py, self.core(), function.into_bound(py))?;
        self.core().react(Reaction::Handler(handler));
        Ok(Self::new(promise))
    }

    /// Call a function with the value, which stays the same, unless the function raises.
    #[pyo3(signature = (function, /, *, on = None))]
    fn tap(&self, py: Python<'_>, function: Bound<'_, PyAny>, on: Option<&str>) -> PyResult<Self> {
        let function = checked_function(function, "tap", on)?;
        self.chain(py, Action::Tap(function), "tap")
    }

    /// Take this value instead of an ``Exception``.
    #[pyo3(signature = (value, /))]
    fn or_else(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<Self> {
        self.chain(py, Action::OrElse(value), "or_else")
    }

    /// Return a promise that fails with ``TimeoutError`` if this one takes too long, or has a
    /// default value then. What nobody else waits for is cancelled.
    ///
    /// Args:
    ///     seconds: How long it may take from now; infinity is no bound.
    ///     default: The value instead of the failure.
    #[pyo3(signature = (seconds, default = TimeoutDefault::Missing))]
    fn timeout(&self, py: Python<'_>, seconds: f64, default: TimeoutDefault) -> PyResult<Self> {
        let delay = checked_timeout(seconds)?;
        let (core, resolver) = self.derive(py, "timeout")?;
        core.depend_on(self.core());
        self.core().react(Reaction::Follow(resolver.clone()));
        let late = core.downgrade();
        let origin = self.core().origin().describe(py);
        let action = move |py: Python<'_>| {
            if late.is_pending() {
                resolver.settle(match default {
                    TimeoutDefault::Given(value) => Outcome::Fulfilled(Value(value)),
                    TimeoutDefault::Missing => {
                        let message = format!("no result after {seconds} seconds ({origin})");
                        let error = PyTimeoutError::new_err(message);
                        Outcome::Rejected(Failure::new(py, error))
                    }
                });
            }
        };
        if let Some(delay) = delay {
            let timer = call_later(py, delay, Box::new(action))?;
            // It is dropped, and with it the timer ends, when the promise is settled.
            core.on_cancel(Box::new(move || drop(timer)));
        }
        Ok(Self::new(core))
    }

    /// Return a promise with the same outcome, which may be cancelled without this one.
    fn shield(&self, py: Python<'_>) -> PyResult<Self> {
        let (core, resolver) = self.derive(py, "shield")?;
        // Interest that is never lost, so that it is not given up with this one.
        self.core().keep();
        core.depend_on(self.core());
        self.core().react(Reaction::Follow(resolver));
        Ok(Self::new(core))
    }

    /// Let it stop when the client goes, also in a request that goes on then, as one that
    /// changes something does. Who waits gets ``ClientDisconnected``.
    fn cancellable(slf: &Bound<'_, Self>) -> PyResult<Py<Self>> {
        request_scope::mark_cancellable(slf.py(), slf.get().core())?;
        Ok(slf.clone().unbind())
    }

    /// Let the work go on after the request that it was begun in, and log if it fails.
    ///
    /// The deadlines around it don't count any more, either. What the work begins from now on,
    /// and what it has begun, goes along. Returns the same promise.
    ///
    /// Args:
    ///     name: What to call it in the log.
    fn detach(slf: &Bound<'_, Self>, name: String) -> Py<Self> {
        let py = slf.py();
        let core = slf.get().core();
        let mut open = vec![core.clone()];
        while let Some(promise) = open.pop() {
            scope_object::leave(&promise);
            open.extend(promise.sources());
        }
        detached::note(core, &name);
        let (watched, origin) = (core.downgrade(), core.origin().describe(py));
        core.keep();
        core.react(Reaction::Waiter(Box::new(move || {
            if let Some(Outcome::Rejected(failure)) =
                watched.upgrade().and_then(|promise| promise.outcome())
            {
                Python::attach(|py| {
                    let reported = names::report_detached(py)
                        .and_then(|report| report.call1((name, failure.error(py), origin)));
                    if let Err(error) = reported {
                        error.write_unraisable(py, None);
                    }
                });
            }
        })));
        slf.clone().unbind()
    }

    fn __getitem__(&self, py: Python<'_>, key: Bound<'_, PyAny>) -> PyResult<Self> {
        let getter = names::item_getter(py)?.call1((key,))?.unbind();
        self.chain(py, Action::Then(Some(getter), None), "[]")
    }
}
