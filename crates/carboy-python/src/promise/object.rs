//! `carboy.Promise`, as Python sees it.

use std::time::Duration;

use carboy_promise::{Outcome, Reaction, Resolver, Rule};
use pyo3::exceptions::{PyAttributeError, PyTimeoutError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::awaitable::{is_awaitable, resolve};
use super::awaiter::PromiseAwaiter;
use super::combinators::combine;
use super::handler::{Action, Handler};
use super::host::{Core, Failure, PromiseHost, Value, cancelled_error, into_result};
use super::native_loop::call_later;
use super::origin::Origin;
use super::owner::Owner;
use super::resolver::{PromiseResolver, checked_error};
use super::search::Counted;
use super::{request_scope, scope, waiter};
use crate::names;

/// A value that may not be there yet.
///
/// What it is the promise of has begun already. ``await promise`` gives the value in async
/// code, ``promise.result()`` in sync code; ``then`` and its kin say what is to be done with
/// it meanwhile.
///
/// Handlers run where the promise's owner runs: on the event loop, or in sync code on the
/// thread that waits in ``result()``. They run in a copy of the context in which they were
/// added, so ``flask.request`` and the like are those of the request.
///
/// Args:
///     awaitable: What is promised: a coroutine, a future, or anything else to be awaited.
#[pyclass(frozen, weakref, generic, module = "carboy")]
pub(crate) struct Promise {
    core: Core,
    _counted: Counted,
}

impl Promise {
    pub(super) fn new(core: Core) -> Self {
        Self {
            core,
            _counted: Counted::new(),
        }
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    /// Says that nobody will look at the outcome, and nobody needs to.
    pub(crate) fn ignore(&self) {
        self.core.mark_handled();
    }

    fn chain(&self, py: Python<'_>, action: Action, label: &str) -> PyResult<Self> {
        let (promise, handler) = Handler::new(py, &self.core, action, label)?;
        self.core.react(Reaction::Handler(handler));
        Ok(Self::new(promise))
    }

    /// A pending promise that is to follow this one.
    fn derive(&self, py: Python<'_>, label: &str) -> PyResult<(Core, Resolver<PromiseHost>)> {
        let origin = Origin::here(py, Some(label));
        origin.causes.add(&self.core.origin().causes);
        Ok(Core::pending(Owner::current(py)?, origin))
    }

    /// The error for who takes the promise for its value.
    fn misuse(&self, py: Python<'_>, what: &str) -> String {
        format!(
            "{what}: this is a promise, not its value; use 'await' in async code or .result() in \
             sync code first (the promise: {})",
            self.core.origin().describe(py)
        )
    }
}

fn checked_function(function: Bound<'_, PyAny>, method: &str) -> PyResult<Py<PyAny>> {
    if function.is_callable() {
        Ok(function.unbind())
    } else {
        Err(PyTypeError::new_err(format!(
            "{method}() needs a function, not {}",
            function.get_type()
        )))
    }
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

/// A time to wait, from seconds.
pub(super) fn checked_timeout(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{seconds} is not a time to wait, in seconds")))
}

#[pymethods]
impl Promise {
    #[new]
    fn from_awaitable(py: Python<'_>, awaitable: Bound<'_, PyAny>) -> PyResult<Self> {
        if !is_awaitable(&awaitable)? {
            return Err(PyTypeError::new_err(format!(
                "Promise() needs something to be awaited, not {}; Promise.resolve() makes a \
                 promise of a value, Promise.call() of a function's result",
                awaitable.get_type()
            )));
        }
        let origin = Origin::here(py, None);
        let (core, resolver) = Core::pending(Owner::current(py)?, origin);
        resolve(py, &resolver, &awaitable, None);
        Ok(Self::new(core))
    }

    /// Return a promise of a value: of another promise that one itself, of another awaitable
    /// its result.
    #[staticmethod]
    #[pyo3(name = "resolve", signature = (value = None))]
    fn resolved<'py>(
        py: Python<'py>,
        value: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let value = value.unwrap_or_else(|| py.None().into_bound(py));
        let value = match value.cast_into::<Self>() {
            Ok(promise) => return Ok(promise),
            Err(error) => error.into_inner(),
        };
        let (core, resolver) = Core::pending(Owner::current(py)?, Origin::here(py, None));
        resolve(py, &resolver, &value, None);
        Bound::new(py, Self::new(core))
    }

    /// Return a promise that is rejected with an exception.
    #[staticmethod]
    #[pyo3(name = "reject")]
    fn rejected(py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<Self> {
        let failure = Failure::of(&checked_error(&error)?);
        let origin = Origin::here(py, Some("reject"));
        let outcome = Outcome::Rejected(failure);
        Ok(Self::new(Core::settled(
            Owner::current(py)?,
            origin,
            outcome,
        )))
    }

    /// Return a pending promise, and the functions that resolve and reject it. They may be
    /// called from any thread.
    #[staticmethod]
    fn with_resolvers(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        let origin = Origin::here(py, Some("with_resolvers"));
        let (core, resolver) = Core::pending(Owner::current(py)?, origin);
        let resolver = Bound::new(py, PromiseResolver::new(resolver))?;
        let resolve = resolver.getattr(pyo3::intern!(py, "resolve"))?;
        let reject = resolver.getattr(pyo3::intern!(py, "reject"))?;
        (Self::new(core), resolve, reject).into_pyobject(py)
    }

    /// Call a function with the value when it is there, or another one with the exception;
    /// return the promise of what that returns.
    ///
    /// The function may return a promise or another awaitable, or be a coroutine function:
    /// then the new promise is that of its result. Without a function for it, a value or an
    /// exception is passed on. Cancellation is passed on, too.
    #[pyo3(signature = (on_fulfilled = None, on_rejected = None, /))]
    fn then(
        &self,
        py: Python<'_>,
        on_fulfilled: Option<Bound<'_, PyAny>>,
        on_rejected: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let check = |function| checked_function(function, "then");
        let on_fulfilled = on_fulfilled.map(check).transpose()?;
        let on_rejected = on_rejected.map(check).transpose()?;
        self.chain(py, Action::Then(on_fulfilled, on_rejected), "then")
    }

    /// As ``then``, for a function that returns a promise or another awaitable.
    #[pyo3(signature = (function, /))]
    fn and_then(&self, py: Python<'_>, function: Bound<'_, PyAny>) -> PyResult<Self> {
        let function = checked_function(function, "and_then")?;
        self.chain(py, Action::AndThen(function), "and_then")
    }

    /// Call a function with the exception, if it is an instance of the class (or of one in a
    /// tuple); the promise that is returned has its result instead.
    ///
    /// ``catch(function)`` is for every ``Exception``.
    #[pyo3(signature = (what, function = None, /))]
    fn catch(
        &self,
        py: Python<'_>,
        what: Bound<'_, PyAny>,
        function: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let (class, function) = match function {
            Some(function) => (what, function),
            None => {
                let class = py.get_type::<pyo3::exceptions::PyException>();
                (class.into_any(), what)
            }
        };
        let function = checked_function(function, "catch")?;
        self.chain(py, Action::Catch(class.unbind(), function), "catch")
    }

    /// Call a function without arguments when the promise is settled or cancelled. The outcome
    /// stays the same, unless the function raises.
    #[pyo3(signature = (function, /))]
    fn finally_(&self, py: Python<'_>, function: Bound<'_, PyAny>) -> PyResult<Self> {
        let function = checked_function(function, "finally_")?;
        self.chain(py, Action::Finally(function), "finally_")
    }

    /// Call a function with the value, which stays the same, unless the function raises.
    #[pyo3(signature = (function, /))]
    fn tap(&self, py: Python<'_>, function: Bound<'_, PyAny>) -> PyResult<Self> {
        let function = checked_function(function, "tap")?;
        self.chain(py, Action::Tap(function), "tap")
    }

    /// Take this value instead of an ``Exception``.
    #[pyo3(signature = (value, /))]
    fn or_else(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<Self> {
        self.chain(py, Action::OrElse(value), "or_else")
    }

    /// Wait for the value and return it, in sync code.
    ///
    /// Handlers that were added in sync code run meanwhile, on the thread that waits.
    ///
    /// Args:
    ///     timeout: How many seconds to wait at most; ``None`` waits without bound. When the
    ///         time is up, the promise goes on.
    ///
    /// Raises:
    ///     ``TimeoutError``: If the time is up.
    ///     ``RuntimeError``: On the thread of a running event loop, which can't wait for itself.
    #[pyo3(signature = (timeout = None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        self.core.mark_handled();
        let timeout = timeout.map(checked_timeout).transpose()?;
        waiter::wait(py, &self.core, timeout)?;
        self.core.origin().causes.become_known(py);
        match self.core.outcome() {
            Some(outcome) => into_result(py, outcome),
            None => Err(cancelled_error(py, None)),
        }
    }

    /// Wait as ``result`` does, and return the exception, or ``None`` if there is a value.
    #[pyo3(signature = (timeout = None))]
    fn exception(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        self.core.mark_handled();
        let timeout = timeout.map(checked_timeout).transpose()?;
        waiter::wait(py, &self.core, timeout)?;
        match self.core.outcome() {
            Some(Outcome::Rejected(failure)) => {
                Ok(Some(failure.into_error(py).into_value(py).into_any()))
            }
            _ => Ok(None),
        }
    }

    /// Return a promise that fails with ``TimeoutError`` if this one takes too long, or has a
    /// default value then. What nobody else waits for is cancelled.
    ///
    /// Args:
    ///     seconds: How long it may take from now.
    ///     default: The value instead of the failure.
    #[pyo3(signature = (seconds, default = TimeoutDefault::Missing))]
    fn timeout(&self, py: Python<'_>, seconds: f64, default: TimeoutDefault) -> PyResult<Self> {
        let delay = checked_timeout(seconds)?;
        let (core, resolver) = self.derive(py, "timeout")?;
        core.depend_on(&self.core);
        self.core.react(Reaction::Follow(resolver.clone()));
        let late = core.downgrade();
        let origin = self.core.origin().describe(py);
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
        let timer = call_later(py, delay, Box::new(action))?;
        // It is dropped, and with it the timer ends, when the promise is settled.
        core.on_cancel(Box::new(move || drop(timer)));
        Ok(Self::new(core))
    }

    /// Return a promise with the same outcome, which may be cancelled without this one.
    fn shield(&self, py: Python<'_>) -> PyResult<Self> {
        let (core, resolver) = self.derive(py, "shield")?;
        // The interest of somebody who never loses it.
        std::mem::forget(self.core.interest());
        self.core.react(Reaction::Follow(resolver));
        Ok(Self::new(core))
    }

    /// Let it stop when the client goes, also in a request that goes on then, as one that
    /// changes something does. Who waits gets ``ClientDisconnected``.
    fn cancellable(slf: &Bound<'_, Self>) -> PyResult<Py<Self>> {
        request_scope::mark_cancellable(slf.py(), &slf.get().core)?;
        Ok(slf.clone().unbind())
    }

    /// Let the work go on after the request that it was begun in, and log if it fails.
    ///
    /// Args:
    ///     name: What to call it in the log.
    fn detach(slf: &Bound<'_, Self>, name: String) -> PyResult<Py<Self>> {
        let py = slf.py();
        let core = &slf.get().core;
        let mut open = vec![core.clone()];
        while let Some(promise) = open.pop() {
            scope::leave(py, &promise)?;
            open.extend(promise.sources());
        }
        let (watched, origin) = (core.downgrade(), core.origin().describe(py));
        std::mem::forget(core.interest());
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
        Ok(slf.clone().unbind())
    }

    /// Return a promise of all values, which fails with the first error.
    ///
    /// ``all(a, b)`` gives a tuple, ``all([a, b])`` a list, ``all({"a": a})`` a dict. When it
    /// fails or is cancelled, what nobody else waits for is cancelled.
    #[staticmethod]
    #[pyo3(signature = (*promises))]
    fn all(py: Python<'_>, promises: &Bound<'_, PyTuple>) -> PyResult<Self> {
        combine(py, Rule::All, promises, "all").map(Self::new)
    }

    /// Return a promise of all outcomes, as ``Fulfilled(value)`` and ``Rejected(error)`` of
    /// ``carboy.promise``. Arguments as for ``all``.
    #[staticmethod]
    #[pyo3(signature = (*promises))]
    fn all_settled(py: Python<'_>, promises: &Bound<'_, PyTuple>) -> PyResult<Self> {
        combine(py, Rule::AllSettled, promises, "all_settled").map(Self::new)
    }

    /// Return a promise of the first value; if all fail, of an ``ExceptionGroup``. The others
    /// are cancelled. Arguments as for ``all``.
    #[staticmethod]
    #[pyo3(signature = (*promises))]
    fn any(py: Python<'_>, promises: &Bound<'_, PyTuple>) -> PyResult<Self> {
        combine(py, Rule::Any, promises, "any").map(Self::new)
    }

    /// Return a promise of the first outcome, value or error. The others are cancelled.
    /// Arguments as for ``all``.
    #[staticmethod]
    #[pyo3(signature = (*promises))]
    fn race(py: Python<'_>, promises: &Bound<'_, PyTuple>) -> PyResult<Self> {
        combine(py, Rule::Race, promises, "race").map(Self::new)
    }

    /// Call a function for each item and return the promise of the list of results.
    ///
    /// Args:
    ///     items: The items.
    ///     function: Returns a value, a promise or another awaitable.
    ///     concurrency: How many results may be waited for at a time; ``None`` for all.
    #[staticmethod]
    #[pyo3(signature = (items, function, concurrency = None))]
    fn map<'py>(
        py: Python<'py>,
        items: Bound<'py, PyAny>,
        function: Bound<'py, PyAny>,
        concurrency: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        names::map_items(py)?.call1((items, function, concurrency))
    }

    /// Call a function and return the promise of its result. Promises among the arguments are
    /// waited for before, and the function gets their values.
    #[staticmethod]
    #[pyo3(signature = (function, /, *arguments, **keywords))]
    fn call<'py>(
        function: Bound<'py, PyAny>,
        arguments: Bound<'py, PyTuple>,
        keywords: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = function.py();
        let keywords = keywords.unwrap_or_else(|| PyDict::new(py));
        names::call_with_values(py)?.call1((function, arguments, keywords))
    }

    fn __getitem__(&self, py: Python<'_>, key: Bound<'_, PyAny>) -> PyResult<Self> {
        let getter = names::item_getter(py)?.call1((key,))?.unbind();
        self.chain(py, Action::Then(Some(getter), None), "[]")
    }

    /// Whether it is settled: fulfilled, rejected or cancelled.
    fn done(&self) -> bool {
        self.core.is_settled()
    }

    /// Whether it was cancelled.
    fn cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        match self.core.outcome() {
            Some(Outcome::Rejected(failure)) => {
                failure.error(py).is_instance(names::cancelled_error(py)?)
            }
            _ => Ok(false),
        }
    }

    /// Give up: who waits gets an ``asyncio.CancelledError``, and the work for it ends, unless
    /// somebody else waits for that. Return whether there was something to give up.
    #[pyo3(signature = (message = None))]
    fn cancel(&self, py: Python<'_>, message: Option<&str>) -> bool {
        self.core.mark_handled();
        let failure = Failure::new(py, cancelled_error(py, message));
        self.core.cancel(failure)
    }

    fn __await__(&self) -> PromiseAwaiter {
        PromiseAwaiter::new(self.core.clone())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let state = match self.core.outcome() {
            None => "pending".to_owned(),
            Some(Outcome::Fulfilled(Value(value))) => format!("value={}", value.bind(py).repr()?),
            Some(Outcome::Rejected(failure)) => format!("error={}", failure.error(py).repr()?),
        };
        Ok(format!(
            "<Promise {state}, {}>",
            self.core.origin().describe(py)
        ))
    }

    fn __str__(&self, py: Python<'_>) -> PyResult<String> {
        Err(PyTypeError::new_err(
            self.misuse(py, "no text can be made of it"),
        ))
    }

    fn __format__(&self, py: Python<'_>, _specification: &str) -> PyResult<String> {
        Err(PyTypeError::new_err(
            self.misuse(py, "it can't be formatted"),
        ))
    }

    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        Err(PyTypeError::new_err(
            self.misuse(py, "it is neither true nor false"),
        ))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Err(PyTypeError::new_err(self.misuse(py, "it has no length")))
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Err(PyTypeError::new_err(
            self.misuse(py, "it can't be iterated"),
        ))
    }

    fn __contains__(&self, py: Python<'_>, _item: &Bound<'_, PyAny>) -> PyResult<bool> {
        Err(PyTypeError::new_err(self.misuse(py, "it contains nothing")))
    }

    fn __getattr__(&self, py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
        if name == "__html__" {
            // Templates and Flask's JSON ask for it before they take anything as text.
            return Err(PyTypeError::new_err(
                self.misuse(py, "it can't become a part of a page or of JSON"),
            ));
        }
        if name.starts_with("__") {
            return Err(PyAttributeError::new_err(name.to_owned()));
        }
        let what = format!("it has no attribute {name:?}");
        Err(PyAttributeError::new_err(self.misuse(py, &what)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        // What others hold too may be reached from elsewhere.
        if self.core.is_unique() {
            self.core.inspect(|outcome, reactions| {
                result = match outcome {
                    Some(Outcome::Fulfilled(Value(value))) => visit.call(value),
                    Some(Outcome::Rejected(failure)) => failure.traverse(&visit),
                    None => reactions.iter().try_for_each(|reaction| match reaction {
                        Reaction::Handler(handler) => handler.traverse(&visit),
                        _ => Ok(()),
                    }),
                };
            });
        }
        result
    }
}
