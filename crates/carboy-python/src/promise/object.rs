//! `carboy.Promise`, as Python sees it.

use std::time::Duration;

use carboy_promise::Outcome;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::awaitable::{is_awaitable, resolve};
use super::awaiter::PromiseAwaiter;
use super::handler::as_object;
use super::host::{self, Core, Failure, Value, cancelled_error, into_result};
use super::origin::Origin;
use super::owner::{self, Owner};
use super::resolver::{PromiseResolver, checked_error};
use super::search::Counted;
use super::waiter;
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
}

/// An object in few words, also if it has none for itself.
fn short<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    names::short_representation(object.py())?.call1((object,))
}

/// A century: what is to take longer has no bound.
pub(crate) const LONGEST_TIMEOUT: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A time to wait, from seconds; none if it is longer than anything lasts, as infinity is.
///
/// # Errors
///
/// `ValueError` for what is negative or not a number.
pub(crate) fn checked_timeout(seconds: f64) -> PyResult<Option<Duration>> {
    if seconds >= LONGEST_TIMEOUT.as_secs_f64() {
        return Ok(None);
    }
    Duration::try_from_secs_f64(seconds).map(Some).map_err(|_| {
        // With an exponent, where there are hundreds of digits.
        let given = format!("{seconds:?}");
        let given = given.trim_end_matches(".0");
        PyValueError::new_err(format!("{given} is not a time to wait, in seconds"))
    })
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
        let timeout = timeout.map(checked_timeout).transpose()?.flatten();
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
        let timeout = timeout.map(checked_timeout).transpose()?.flatten();
        waiter::wait(py, &self.core, timeout)?;
        match self.core.outcome() {
            Some(Outcome::Rejected(failure)) => {
                Ok(Some(failure.into_error(py).into_value(py).into_any()))
            }
            _ => Ok(None),
        }
    }

    /// Return the outcome as it is now, without waiting: ``Fulfilled(value)``,
    /// ``Rejected(error)``, or ``None`` if it is pending.
    fn peek(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        owner::pass_here(py);
        let Some(outcome) = self.core.outcome() else {
            return Ok(None);
        };
        self.core.mark_handled();
        as_object(py, outcome).map(Some)
    }

    /// Whether it is settled: fulfilled, rejected or cancelled.
    fn done(&self, py: Python<'_>) -> bool {
        owner::pass_here(py);
        self.core.is_settled()
    }

    /// Whether it was cancelled.
    fn cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        owner::pass_here(py);
        match self.core.outcome() {
            Some(Outcome::Rejected(failure)) => {
                failure.error(py).is_instance(names::cancelled_error(py)?)
            }
            _ => Ok(false),
        }
    }

    /// Give up: who waits gets an ``asyncio.CancelledError``, and the work for it ends, unless
    /// somebody else waits for that. Return whether there was something to give up.
    ///
    /// What ``finally_`` was given runs: on the event loop in its turn, in sync code before
    /// this returns.
    #[pyo3(signature = (message = None))]
    fn cancel(&self, py: Python<'_>, message: Option<&str>) -> PyResult<bool> {
        self.core.mark_handled();
        let failure = Failure::new(py, cancelled_error(py, message));
        let is_cancelled = self.core.cancel(failure);
        owner::clean_up_here(py)?;
        Ok(is_cancelled)
    }

    fn __await__(&self) -> PromiseAwaiter {
        PromiseAwaiter::new(self.core.clone())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let state = match self.core.outcome() {
            None => "pending".to_owned(),
            Some(Outcome::Fulfilled(Value(value))) => format!("value={}", short(value.bind(py))?),
            Some(Outcome::Rejected(failure)) => format!("error={}", short(failure.error(py))?),
        };
        Ok(format!(
            "<Promise {state}, {}>",
            self.core.origin().describe(py)
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        host::traverse(&self.core, &visit)
    }
}
