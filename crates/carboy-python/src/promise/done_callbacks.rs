//! `add_done_callback`, as asyncio's futures have it: what `asyncio.wait` asks of what it is given.
//!
//! Who adds a callback does not look at the outcome yet: an error that nobody looks at
//! afterwards is told as any other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use carboy_promise::Reaction;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyWeakrefMethods, PyWeakrefReference};

use super::object::Promise;
use super::owner::{call_soon, note_loop};
use crate::event_loop::running_loop;
use crate::ffi::context;

/// The callbacks of one promise.
#[derive(Default)]
pub(super) struct DoneCallbacks(Mutex<State>);

#[derive(Default)]
struct State {
    callbacks: Vec<DoneCallback>,
    /// Whether the promise tells when it is settled.
    is_registered: bool,
}

struct DoneCallback {
    function: Py<PyAny>,
    context: Py<PyAny>,
    /// The loop that ran when it was added, on which it is called.
    event_loop: Py<PyAny>,
    /// The promise that it is called with, as long as somebody has it. A reference to it would be
    /// one to itself.
    promise: Py<PyWeakrefReference>,
}

impl DoneCallbacks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(state) = self.0.try_lock() else {
            return Ok(());
        };
        state.callbacks.iter().try_for_each(|callback| {
            visit.call(&callback.function)?;
            visit.call(&callback.context)
        })
    }
}

impl DoneCallback {
    /// Schedules it. A loop that is closed calls nothing any more.
    fn schedule(self, py: Python<'_>, promise: &Bound<'_, PyAny>) -> PyResult<()> {
        call_soon(
            self.event_loop.bind(py),
            self.function.into_bound(py),
            PyTuple::new(py, [promise])?,
            Some(self.context.into_bound(py)),
        )
    }
}

impl Promise {
    /// Schedules the callbacks that there are: the promise is settled.
    fn tell_done(&self, py: Python<'_>) {
        let callbacks = std::mem::take(&mut self.core().origin().done_callbacks.state().callbacks);
        for callback in callbacks {
            let promise = callback.promise.bind(py).upgrade();
            let promise = match promise {
                Some(promise) => Ok(promise),
                None => Bound::new(py, Self::new(self.core().clone())).map(Bound::into_any),
            };
            promise
                .and_then(|promise| callback.schedule(py, &promise))
                .ok();
        }
    }
}

#[pymethods]
impl Promise {
    /// Call a function with this promise on the running event loop when it is settled, as
    /// ``asyncio.Future.add_done_callback`` does. The error is not looked at by that.
    ///
    /// Args:
    ///     fn: What to call.
    ///     context: The ``contextvars.Context`` to call it in; ``None`` is the current one.
    ///
    /// Raises:
    ///     ``RuntimeError``: Where no event loop runs.
    #[pyo3(signature = (r#fn, /, *, context = None))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        r#fn: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(event_loop) = running_loop(py)? else {
            return Err(PyRuntimeError::new_err(format!(
                "add_done_callback() calls a function on the running event loop, and none runs \
                 here: use settle() or finally_() in sync code (the promise: {})",
                this.core().origin().describe(py)
            )));
        };
        note_loop(&event_loop)?;
        let callback = DoneCallback {
            function: r#fn,
            context: match context {
                Some(context) => context,
                None => context::copy_current(py)?.into_any(),
            },
            event_loop: event_loop.unbind(),
            promise: PyWeakrefReference::new(slf)?.unbind(),
        };
        if this.core().is_settled() {
            return callback.schedule(py, slf.as_any());
        }
        let is_registered = {
            let mut state = this.core().origin().done_callbacks.state();
            state.callbacks.push(callback);
            std::mem::replace(&mut state.is_registered, true)
        };
        if !is_registered {
            let promise = this.core().downgrade();
            let tell = move || {
                if let Some(promise) = promise.upgrade() {
                    Python::attach(|py| Self::new(promise).tell_done(py));
                }
            };
            this.core().observe(Reaction::Waiter(Box::new(tell)));
        }
        if this.core().is_settled() {
            // Another thread has settled it meanwhile, and may have seen no callback.
            this.tell_done(py);
        }
        Ok(())
    }

    /// Remove a callback, and return how many there were.
    #[pyo3(signature = (r#fn, /))]
    fn remove_done_callback(&self, py: Python<'_>, r#fn: &Bound<'_, PyAny>) -> PyResult<usize> {
        let callbacks = std::mem::take(&mut self.core().origin().done_callbacks.state().callbacks);
        let mut removed = 0;
        let mut kept = Vec::with_capacity(callbacks.len());
        let mut failed = None;
        for callback in callbacks {
            match callback.function.bind(py).eq(r#fn) {
                Ok(true) => removed += 1,
                Ok(false) => kept.push(callback),
                Err(error) => {
                    failed = Some(error);
                    kept.push(callback);
                }
            }
        }
        {
            let mut state = self.core().origin().done_callbacks.state();
            kept.append(&mut state.callbacks);
            state.callbacks = kept;
        }
        if self.core().is_settled() {
            // Those that were looked at here were not seen by who has settled it.
            self.tell_done(py);
        }
        failed.map_or(Ok(removed), Err)
    }
}
