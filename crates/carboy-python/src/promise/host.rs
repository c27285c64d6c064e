//! The promises of `carboy-promise` with Python values and exceptions.

use std::sync::Arc;

use carboy_promise::{Host, Job, Outcome, Reaction, Resolver, View};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTraceback;

use super::cleanup::Cleanup;
use super::combinators::{Shape, assemble};
use super::guard::Guard;
use super::handler::Handler;
use super::origin::Origin;
use super::owner::Owner;
use crate::names;

/// A promise without its Python object.
pub(super) type Core = carboy_promise::Promise<PromiseHost>;

/// Promises of Python objects.
pub(crate) enum PromiseHost {}

/// What a promise is fulfilled with. Each promise has a reference of its own, so that the
/// garbage collector can count.
pub(crate) struct Value(pub(super) Py<PyAny>);

impl Clone for Value {
    fn clone(&self) -> Self {
        Python::attach(|py| Self(self.0.clone_ref(py)))
    }
}

/// What a promise is rejected with: an exception, and its traceback as it was then. Whoever
/// raises an exception makes its traceback longer; each gets the one of the failure.
pub(crate) struct Failure {
    error: Py<PyAny>,
    traceback: Option<Py<PyTraceback>>,
}

impl Clone for Failure {
    fn clone(&self) -> Self {
        Python::attach(|py| Self {
            error: self.error.clone_ref(py),
            traceback: self
                .traceback
                .as_ref()
                .map(|traceback| traceback.clone_ref(py)),
        })
    }
}

impl Failure {
    pub(super) fn new(py: Python<'_>, error: PyErr) -> Self {
        Self {
            traceback: error.traceback(py).map(Bound::unbind),
            error: error.into_value(py).into_any(),
        }
    }

    /// An exception's failure, from Python code that has caught it.
    pub(super) fn of(error: &Bound<'_, PyAny>) -> Self {
        Self::new(error.py(), PyErr::from_value(error.clone()))
    }

    pub(super) fn error<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.error.bind(py)
    }

    /// The exception to be raised for one of those who wait.
    pub(super) fn into_error(self, py: Python<'_>) -> PyErr {
        let error = PyErr::from_value(self.error.into_bound(py));
        error.set_traceback(py, self.traceback.map(|traceback| traceback.into_bound(py)));
        error
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.error)?;
        match &self.traceback {
            Some(traceback) => visit.call(traceback),
            None => Ok(()),
        }
    }
}

/// The outcome for who waits for it.
pub(super) fn into_result(py: Python<'_>, outcome: Outcome<PromiseHost>) -> PyResult<Py<PyAny>> {
    match outcome {
        Outcome::Fulfilled(Value(value)) => Ok(value),
        Outcome::Rejected(failure) => Err(failure.into_error(py)),
    }
}

/// Rejects a promise with an exception, which in debug mode says where the promise was made.
pub(super) fn reject(py: Python<'_>, resolver: &Resolver<PromiseHost>, error: PyErr) {
    resolver.promise().origin().add_note(py, &error);
    resolver.reject(Failure::new(py, error));
}

/// Shows a garbage collector what a promise holds, for one of its Python objects.
pub(super) fn traverse(promise: &Core, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    let mut result = Ok(());
    // What others hold too may be reached from elsewhere.
    if promise.is_unique() {
        promise.origin().done_callbacks.traverse(visit)?;
        promise.inspect(|view| {
            result = match view {
                View::Settled { outcome, guard } => {
                    let guarded = guard.map_or(Ok(()), |guard| guard.traverse(visit));
                    guarded.and_then(|()| match outcome {
                        Outcome::Fulfilled(Value(value)) => visit.call(value),
                        Outcome::Rejected(failure) => failure.traverse(visit),
                    })
                }
                View::Pending { reactions, cleanup } => {
                    let cleaned = cleanup.map_or(Ok(()), |cleanup| cleanup.traverse(visit));
                    let mut handlers = reactions.iter().filter_map(|reaction| match reaction {
                        Reaction::Handler(handler) => Some(handler),
                        _ => None,
                    });
                    cleaned.and_then(|()| handlers.try_for_each(|handler| handler.traverse(visit)))
                }
            };
        });
    }
    result
}

impl Host for PromiseHost {
    type Value = Value;
    type Error = Failure;
    type Handler = Handler;
    type Cleanup = Cleanup;
    type Guard = Guard;
    type Home = Arc<Owner>;
    type Shape = Shape;
    type Origin = Origin;

    fn enqueue(home: &Arc<Owner>, job: Job<Self>) {
        home.enqueue(job);
    }

    fn handle(handler: Handler, outcome: Outcome<Self>) {
        Python::attach(|py| handler.run(py, outcome));
    }

    fn result_of(handler: &Handler) -> &Core {
        handler.promise()
    }

    fn needs_home(handler: &Handler, outcome: &Outcome<Self>) -> bool {
        handler.needs_home(outcome)
    }

    fn clean_up(promise: &Core, cleanup: Cleanup) {
        Python::attach(|py| cleanup.run_after_cancellation(py, promise));
    }

    fn assemble(resolver: &Resolver<Self>, shape: Shape, outcomes: Vec<Outcome<Self>>) {
        assemble(resolver, shape, outcomes);
    }

    fn depends_anew(home: &Arc<Owner>) {
        home.wake_waiters();
    }

    fn guard(promise: &Core, error: Failure) -> Option<Guard> {
        Python::attach(|py| Guard::new(py, promise, &error))
    }

    fn disarm(guard: Guard) {
        guard.disarm();
    }

    fn cycle(promise: &Core, source: &Core) -> Failure {
        Python::attach(|py| {
            let own = promise.origin().describe(py);
            let message = if promise == source {
                format!("a promise can't be resolved with itself ({own})")
            } else {
                format!(
                    "a promise can't be resolved with one that waits for it: they would wait for \
                     each other for ever (the promise: {own}; the one that waits for it: {})",
                    source.origin().describe(py)
                )
            };
            Failure::new(py, PyTypeError::new_err(message))
        })
    }

    fn cancellation() -> Failure {
        Python::attach(|py| Failure::new(py, cancelled_error(py, None)))
    }
}

/// An `asyncio.CancelledError`.
pub(super) fn cancelled_error(py: Python<'_>, message: Option<&str>) -> PyErr {
    let error = names::cancelled_error(py).and_then(|class| match message {
        Some(message) => class.call1((message,)),
        None => class.call0(),
    });
    match error {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}
