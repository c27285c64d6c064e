//! What a promise belongs to: the request that it was made in, or a `deadline` block.
//!
//! # States
//!
//! * **open**: promises join it;
//! * **ended**: what was unfinished was cancelled, and what joins now is cancelled at once.
//!
//! Only promises of work join a scope: those of native code, and of awaitables. What was
//! made from them by `then` follows them.
//!
//! A scope is found by a context variable, or at Flask's context of the request
//! (`src/carboy/scope.py`). It is made with the first promise of a request. A request without
//! one pays for a look at a counter.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::host::{Core, Failure, PromiseHost, cancelled_error};
use super::native_loop::{Timer, call_later};
use crate::ffi::{context, instance};
use crate::flask::request_context;
use crate::names;

type WeakCore = carboy_promise::WeakPromise<PromiseHost>;

/// Scopes that have not ended.
static OPEN_SCOPES: AtomicUsize = AtomicUsize::new(0);

/// Below this many promises those that are settled are not looked for.
const PROMISES_BEFORE_CLEANUP: usize = 32;

/// Promises that are cancelled together.
#[pyclass(frozen, weakref, module = "carboy._carboy")]
pub(crate) struct PromiseScope {
    state: Mutex<State>,
    /// The scope that this one is a part of.
    parent: Option<Py<PromiseScope>>,
}

struct State {
    promises: Vec<WeakCore>,
    cleanup_at: usize,
    /// Why it has ended.
    ended: Option<Failure>,
    is_open: bool,
    /// Ends the scope when its time is up.
    timer: Option<Timer>,
}

impl PromiseScope {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, py: Python<'_>, promise: &Core) {
        let refused = {
            let mut state = self.state();
            if state.is_open {
                if state.promises.len() >= state.cleanup_at {
                    state.promises.retain(WeakCore::is_pending);
                    state.cleanup_at = PROMISES_BEFORE_CLEANUP.max(2 * state.promises.len());
                }
                state.promises.push(promise.downgrade());
                None
            } else {
                Some(state.ended.clone())
            }
        };
        if let Some(reason) = refused {
            promise.cancel(reason.unwrap_or_else(|| ended(py)));
        } else if let Some(parent) = &self.parent {
            parent.get().join(py, promise);
        }
    }

    fn close(&self, reason: Option<Failure>) -> (Vec<WeakCore>, Option<Timer>) {
        let mut state = self.state();
        if !state.is_open {
            return (Vec::new(), None);
        }
        state.is_open = false;
        state.ended = reason;
        OPEN_SCOPES.fetch_sub(1, Ordering::Relaxed);
        (std::mem::take(&mut state.promises), state.timer.take())
    }

    fn finish(&self, py: Python<'_>, reason: Option<Failure>) {
        let (promises, timer) = self.close(reason.clone());
        drop(timer);
        for promise in promises {
            if let Some(promise) = promise.upgrade()
                && !promise.is_settled()
            {
                promise.mark_handled();
                promise.cancel(reason.clone().unwrap_or_else(|| ended(py)));
            }
        }
    }
}

impl Drop for PromiseScope {
    fn drop(&mut self) {
        Python::attach(|py| self.finish(py, None));
    }
}

fn ended(py: Python<'_>) -> Failure {
    Failure::new(
        py,
        cancelled_error(
            py,
            Some("the request that the promise belongs to has ended"),
        ),
    )
}

#[pymethods]
impl PromiseScope {
    #[new]
    #[pyo3(signature = (parent = None))]
    fn new(parent: Option<Py<PromiseScope>>) -> Self {
        OPEN_SCOPES.fetch_add(1, Ordering::Relaxed);
        Self {
            state: Mutex::new(State {
                promises: Vec::new(),
                cleanup_at: PROMISES_BEFORE_CLEANUP,
                ended: None,
                is_open: true,
                timer: None,
            }),
            parent,
        }
    }

    /// Ends the scope: what is unfinished is rejected with the exception, or cancelled.
    #[pyo3(signature = (error = None))]
    fn end(&self, py: Python<'_>, error: Option<Bound<'_, PyAny>>) {
        self.finish(py, error.map(|error| Failure::of(&error)));
    }

    /// Ends the scope with this exception after some seconds.
    fn end_after(slf: &Bound<'_, Self>, seconds: f64, error: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let delay = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let (scope, failure) = (slf.clone().unbind(), Failure::of(&error));
        let action = move |py: Python<'_>| scope.get().finish(py, Some(failure));
        let timer = call_later(py, delay, Box::new(action))?;
        let before = {
            let mut state = slf.get().state();
            if state.is_open {
                state.timer.replace(timer)
            } else {
                Some(timer)
            }
        };
        drop(before);
        Ok(())
    }

    /// How many promises in it are unfinished.
    fn unfinished(&self) -> usize {
        let state = self.state();
        state.promises.iter().filter(|p| p.is_pending()).count()
    }

    /// Whether it has not ended.
    fn is_open(&self) -> bool {
        self.state().is_open
    }
}

/// Lets a promise belong to the scope of whoever runs now.
pub(super) fn join_current(py: Python<'_>, promise: &Core) -> PyResult<()> {
    if let Some(scope) = current(py)? {
        scope.get().join(py, promise);
    }
    Ok(())
}

/// The scope of whoever runs now.
fn current(py: Python<'_>) -> PyResult<Option<Bound<'_, PromiseScope>>> {
    let scope = match context::get_variable(names::deadline_scope(py)?)? {
        Some(scope) if !scope.is_none() => scope,
        _ => {
            // Most code outside of requests has no scope.
            let Some(request) = request_context(py)? else {
                return Ok(None);
            };
            let known = instance::attributes_of(&request)?;
            match known.get_item(names::request_scope_attribute(py)?)? {
                Some(scope) => scope,
                None => names::find_request_scope(py)?.call0()?,
            }
        }
    };
    if scope.is_none() {
        return Ok(None);
    }
    let scope = scope.cast_into::<PromiseScope>();
    scope
        .map(Some)
        .map_err(|_| PyRuntimeError::new_err("the scope of promises is not one"))
}

/// Takes a promise out of all scopes: it may outlive its request.
pub(super) fn leave(py: Python<'_>, promise: &Core) -> PyResult<()> {
    let mut scope = current(py)?;
    while let Some(current) = scope {
        current
            .get()
            .state()
            .promises
            .retain(|known| !known.is(promise));
        scope = current
            .get()
            .parent
            .as_ref()
            .map(|parent| parent.bind(py).clone());
    }
    Ok(())
}

/// Ends the scope of the request whose context is entered, if it has one.
pub(crate) fn end_current(py: Python<'_>) {
    if OPEN_SCOPES.load(Ordering::Relaxed) == 0 {
        return;
    }
    let ended = names::scope_of_request(py)
        .and_then(|variable| variable.call_method0(intern!(py, "get")))
        .and_then(|reference| {
            if !reference.is_none()
                && let Ok(scope) = reference.call0()?.cast_into::<PromiseScope>()
            {
                scope.get().finish(py, None);
            }
            Ok(())
        });
    if let Err(error) = ended {
        error.write_unraisable(py, None);
    }
}
