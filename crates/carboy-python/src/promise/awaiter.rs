//! Awaiting a promise in a task, on any asyncio event loop.
//!
//! The awaiter is what the task sees: a future in asyncio's sense (`asyncio.isfuture`), made
//! for this one `await`. It waits for the promise on whichever thread that is settled, and
//! wakes the task on its own loop. Cancelling the task gives up its interest only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use carboy_promise::{Interest, Reaction, Waiting};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::host::{Core, PromiseHost, cancelled_error, into_result};
use super::owner::{call_soon, note_loop};
use crate::event_loop::running_loop;
use crate::names;

/// One `await` of a promise.
#[pyclass(frozen, weakref, module = "carboy._carboy")]
pub(crate) struct PromiseAwaiter {
    promise: Core,
    /// The loop of the task, once the promise was found pending.
    event_loop: Mutex<Option<Py<PyAny>>>,
    is_blocking: AtomicBool,
    /// Whether the task was cancelled.
    is_cancelled: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Callbacks with the contexts to run them in.
    callbacks: Vec<(Py<PyAny>, Option<Py<PyAny>>)>,
    interest: Option<Interest<PromiseHost>>,
    /// With which message the task was cancelled.
    cancel_message: Option<Py<PyAny>>,
}

impl PromiseAwaiter {
    pub(super) fn new(promise: Core) -> Self {
        promise.mark_handled();
        Self {
            promise,
            event_loop: Mutex::new(None),
            is_blocking: AtomicBool::new(false),
            is_cancelled: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event_loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let event_loop = self.event_loop.lock();
        let event_loop = event_loop.unwrap_or_else(PoisonError::into_inner);
        event_loop.as_ref().map(|known| known.clone_ref(py))
    }

    /// Begins to wait on the loop that runs now.
    fn begin(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.event_loop(py).is_some() {
            return Ok(());
        }
        let Some(running) = running_loop(py)? else {
            return Err(PyRuntimeError::new_err(
                "a promise is awaited where no event loop runs: use result() in sync code",
            ));
        };
        note_loop(&running)?;
        let before = {
            let event_loop = this.event_loop.lock();
            event_loop
                .unwrap_or_else(PoisonError::into_inner)
                .replace(running.unbind())
        };
        drop(before);
        this.state().interest = Some(this.promise.interest());
        let waking = Waking(slf.clone().unbind());
        this.promise.react(Reaction::Waiter(Box::new(waking)));
        Ok(())
    }

    /// Schedules the callbacks on the loop.
    fn wake(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        let (callbacks, interest) = {
            let mut state = this.state();
            (std::mem::take(&mut state.callbacks), state.interest.take())
        };
        drop(interest);
        let Some(event_loop) = this.event_loop(py) else {
            return;
        };
        for (callback, context) in callbacks {
            // A loop that is closed wakes nobody any more.
            Self::schedule(slf, event_loop.bind(py), callback, context).ok();
        }
    }

    fn schedule(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, PyAny>,
        callback: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let arguments = PyTuple::new(py, [slf])?;
        let context = context.map(|context| context.into_bound(py));
        call_soon(event_loop, callback.into_bound(py), arguments, context)
    }

    fn cancellation(&self, py: Python<'_>) -> Option<PyErr> {
        if !self.cancelled() {
            return None;
        }
        let message = {
            let state = self.state();
            let message = state.cancel_message.as_ref();
            message.map(|message| message.clone_ref(py))
        };
        let error = match message {
            Some(message) => names::cancelled_error(py).and_then(|class| class.call1((message,))),
            None => return Some(cancelled_error(py, None)),
        };
        Some(error.map_or_else(|error| error, PyErr::from_value))
    }
}

/// An error as it may be raised in a coroutine, where `StopIteration` would be taken for the
/// end of the wait, with a value. As with asyncio's futures, it is a cause then.
fn raisable(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyStopIteration>(py) {
        return error;
    }
    let message = "a promise has failed with StopIteration, which can't be raised by 'await'";
    let raised = PyRuntimeError::new_err(message);
    raised.set_cause(py, Some(error));
    raised
}

/// What wakes a task when its promise is settled, if it waits still.
struct Waking(Py<PromiseAwaiter>);

impl Waiting for Waking {
    fn notify(self: Box<Self>) {
        Python::attach(|py| PromiseAwaiter::wake(self.0.bind(py)));
    }

    fn is_waiting(&self) -> bool {
        !self.0.get().is_cancelled.load(Ordering::Relaxed)
    }
}

impl Drop for PromiseAwaiter {
    /// A coroutine that is closed or lost while it waits gives nothing up, as with asyncio's
    /// futures: only a cancelled task does. Here cancelling would run code in the midst of a
    /// garbage collection.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(interest) = state.interest.take() {
            interest.end();
        }
    }
}

#[pymethods]
impl PromiseAwaiter {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<Self>>> {
        let this = slf.get();
        if let Some(outcome) = this.promise.outcome() {
            this.promise.origin().causes.become_known(slf.py());
            let value =
                into_result(slf.py(), outcome).map_err(|error| raisable(slf.py(), error))?;
            return Err(PyStopIteration::new_err((value,)));
        }
        Self::begin(slf)?;
        this.is_blocking.store(true, Ordering::Relaxed);
        Ok(Some(slf.clone().unbind()))
    }

    /// Whether it was yielded by an `await`: how `asyncio.Task` knows futures.
    #[getter(_asyncio_future_blocking)]
    fn is_blocking(&self) -> bool {
        self.is_blocking.load(Ordering::Relaxed)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, is_blocking: bool) {
        self.is_blocking.store(is_blocking, Ordering::Relaxed);
    }

    /// The loop of the task that waits.
    fn get_loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.event_loop(py) {
            Some(event_loop) => Ok(event_loop),
            None => Ok(names::get_running_loop(py)?.call0()?.unbind()),
        }
    }

    /// Whether there is nothing left to wait for.
    fn done(&self) -> bool {
        self.cancelled() || self.promise.is_settled()
    }

    /// Whether the task that waits was cancelled.
    fn cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// The outcome.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(error) = self.cancellation(py) {
            return Err(error);
        }
        match self.promise.outcome() {
            Some(outcome) => into_result(py, outcome).map_err(|error| raisable(py, error)),
            None => Err(PyRuntimeError::new_err("Result is not set.")),
        }
    }

    /// The exception, if the outcome is one.
    fn exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if let Some(error) = self.cancellation(py) {
            return Err(error);
        }
        match self.promise.outcome() {
            Some(carboy_promise::Outcome::Fulfilled(_)) => Ok(None),
            Some(carboy_promise::Outcome::Rejected(failure)) => {
                Ok(Some(failure.into_error(py).into_value(py).into_any()))
            }
            None => Err(PyRuntimeError::new_err("Exception is not set.")),
        }
    }

    /// Adds a callback for when the wait ends.
    #[pyo3(signature = (r#fn, /, *, context = None))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        r#fn: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let this = slf.get();
        if !this.done() {
            Self::begin(slf)?;
            this.state().callbacks.push((r#fn, context));
            if !this.done() {
                return Ok(());
            }
            // It was settled on another thread meanwhile, which may have seen no callback.
            Self::wake(slf);
            return Ok(());
        }
        let event_loop = this.get_loop(slf.py())?;
        Self::schedule(slf, event_loop.bind(slf.py()), r#fn, context)
    }

    /// Removes a callback and says how many there were.
    fn remove_done_callback(&self, py: Python<'_>, r#fn: &Bound<'_, PyAny>) -> PyResult<usize> {
        let callbacks = std::mem::take(&mut self.state().callbacks);
        let before = callbacks.len();
        let mut kept = Vec::with_capacity(before);
        for (callback, context) in callbacks {
            if !callback.bind(py).eq(r#fn)? {
                kept.push((callback, context));
            }
        }
        let removed = before - kept.len();
        self.state().callbacks.extend(kept);
        Ok(removed)
    }

    /// Ends the wait: the task was cancelled. The promise is, if nobody else waits for it.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> bool {
        let this = slf.get();
        if this.done() {
            return false;
        }
        let before = std::mem::replace(&mut this.state().cancel_message, msg);
        drop(before);
        this.is_cancelled.store(true, Ordering::Release);
        // Also gives up the interest.
        Self::wake(slf);
        true
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(state) = self.state.try_lock() {
            for (callback, context) in &state.callbacks {
                visit.call(callback)?;
                if let Some(context) = context {
                    visit.call(context)?;
                }
            }
        }
        Ok(())
    }
}
