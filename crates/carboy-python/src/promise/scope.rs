//! What a promise belongs to: the request that it was made in, or a `deadline` block.
//!
//! # States
//!
//! * **open**: promises join it;
//! * **ended**: what was unfinished was cancelled, and what joins now is cancelled at once. If
//!   that was for a reason (the time is up, the client has gone), whoever waits for a promise
//!   in sync code of the request gets the reason raised;
//! * **over**, for a request's: its last code has run.
//!
//! Only promises of work join a scope: those of native code, and of awaitables. What was
//! made from them by `then` follows them.
//!
//! How a request's scope is found, and when it ends early, is in `request_scope.rs`. A request
//! without one pays for a look at a counter.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::host::{Core, Failure, PromiseHost, cancelled_error};
use super::native_loop::{Timer, call_later};
use super::waiter::Waiter;
use crate::cancellation::{GivenUp, Policy};
use crate::ffi::context::get_variable;
use crate::names;
use crate::wsgi::RequestHead;

type WeakCore = carboy_promise::WeakPromise<PromiseHost>;

/// Below this many promises those that are settled are not looked for.
const PROMISES_BEFORE_CLEANUP: usize = 32;

/// Promises that are cancelled together.
#[pyclass(frozen, weakref, module = "carboy._carboy")]
pub(crate) struct PromiseScope {
    state: Mutex<State>,
    /// The scope that this one is a part of.
    parent: Option<Py<PromiseScope>>,
    /// The request that it is the scope of, if that came by a connection.
    pub(super) request: Option<Arc<RequestHead>>,
    /// Whether it is a request's, and that is not over.
    pub(super) is_of_live_request: AtomicBool,
    /// Whether the server has made it before there was a context of Flask's to keep it at.
    pub(super) is_prepared: AtomicBool,
    /// Whether the request's client is watched.
    pub(super) is_watching: AtomicBool,
}

pub(super) struct State {
    promises: Vec<WeakCore>,
    cleanup_at: usize,
    /// Why it has ended.
    ended: Option<Failure>,
    is_open: bool,
    /// Ends the scope when its time is up.
    timer: Option<Timer>,
    /// Cancels what goes on after the end, once the grace period is over.
    pub(super) grace_timer: Option<Timer>,
    /// Threads that wait for promises in sync code of the request.
    waiters: Vec<Arc<Waiter>>,
    /// What stops when the client goes, though the request goes on.
    pub(super) cancellable: Vec<WeakCore>,
    /// The view's own policy for clients that go.
    pub(super) policy: Option<Policy>,
    pub(super) is_client_gone: bool,
}

impl PromiseScope {
    pub(super) fn with(
        parent: Option<Py<PromiseScope>>,
        request: Option<Arc<RequestHead>>,
    ) -> Self {
        Self {
            state: Mutex::new(State {
                promises: Vec::new(),
                cleanup_at: PROMISES_BEFORE_CLEANUP,
                ended: None,
                is_open: true,
                timer: None,
                grace_timer: None,
                waiters: Vec::new(),
                cancellable: Vec::new(),
                policy: None,
                is_client_gone: false,
            }),
            parent,
            request,
            is_of_live_request: AtomicBool::new(false),
            is_prepared: AtomicBool::new(false),
            is_watching: AtomicBool::new(false),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
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

    fn close(&self, reason: Option<Failure>) -> Option<Closed> {
        let mut state = self.state();
        if !state.is_open {
            return None;
        }
        state.is_open = false;
        state.ended = reason;
        Some(Closed {
            promises: std::mem::take(&mut state.promises),
            waiters: std::mem::take(&mut state.waiters),
            _timer: state.timer.take(),
        })
    }

    /// Ends the scope; says whether it had not ended.
    pub(super) fn finish(&self, py: Python<'_>, reason: Option<Failure>) -> bool {
        let Some(closed) = self.close(reason.clone()) else {
            return false;
        };
        for promise in &closed.promises {
            if let Some(promise) = promise.upgrade()
                && !promise.is_settled()
            {
                promise.mark_handled();
                promise.cancel(reason.clone().unwrap_or_else(|| ended(py)));
            }
        }
        for waiter in &closed.waiters {
            waiter.wake();
        }
        true
    }

    /// Why sync code of the request must not wait any longer.
    pub(super) fn interruption(&self) -> Option<Failure> {
        self.state().ended.clone()
    }

    /// Wakes a thread when the scope ends.
    pub(super) fn add_waiter(&self, waiter: &Arc<Waiter>) {
        self.state().waiters.push(Arc::clone(waiter));
    }

    pub(super) fn remove_waiter(&self, waiter: &Arc<Waiter>) {
        self.state()
            .waiters
            .retain(|known| !Arc::ptr_eq(known, waiter));
    }

    /// Forgets why it has ended: nobody of the request asks any more. The reason may hold,
    /// by its traceback, what holds the scope.
    pub(super) fn forget(&self) {
        let (ended, timer) = {
            let mut state = self.state();
            (state.ended.take(), state.grace_timer.take())
        };
        drop((ended, timer));
    }
}

/// What is to be seen to, and let go of, when a scope has ended.
struct Closed {
    promises: Vec<WeakCore>,
    waiters: Vec<Arc<Waiter>>,
    _timer: Option<Timer>,
}

impl Drop for PromiseScope {
    fn drop(&mut self) {
        self.end_of_request();
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
        Self::with(parent, None)
    }

    /// Ends the scope: what is unfinished is rejected with the exception, or cancelled.
    #[pyo3(signature = (error = None))]
    fn end(&self, py: Python<'_>, error: Option<Bound<'_, PyAny>>) {
        self.finish(py, error.map(|error| Failure::of(&error)));
    }

    /// Ends the scope with this exception after some seconds.
    pub(super) fn end_after(
        slf: &Bound<'_, Self>,
        seconds: f64,
        error: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let delay = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let (scope, failure) = (slf.clone().unbind(), Failure::of(&error));
        let action =
            move |py: Python<'_>| Self::give_up(scope.bind(py), GivenUp::TimeIsUp, failure);
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

    /// Ends a request's scope early if its client goes, by this policy instead of the app's.
    fn cancel_on_disconnect(slf: &Bound<'_, Self>, policy: &str) -> PyResult<()> {
        slf.get().state().policy = Some(Policy::from_name(policy)?);
        Self::watch(slf)
    }

    /// Has the server answer 504 if the request has not been answered a little later than so
    /// many seconds from now.
    fn answer_within(&self, seconds: f64) {
        if let (Some(request), Ok(time)) = (&self.request, Duration::try_from_secs_f64(seconds)) {
            request.life.answer_within(time);
        }
    }

    /// The header in which services are told how long they may take, if there is to be one.
    fn deadline_header(&self) -> Option<&str> {
        let settings = &self.request.as_ref()?.settings.cancellation;
        settings
            .deadline_header
            .as_ref()
            .map(http::HeaderName::as_str)
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

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.parent)?;
        match self.state.try_lock() {
            Ok(state) => state
                .ended
                .as_ref()
                .map_or(Ok(()), |reason| reason.traverse(&visit)),
            Err(_) => Ok(()),
        }
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
    match get_variable(names::deadline_scope(py)?)? {
        Some(scope) if !scope.is_none() => scope
            .cast_into::<PromiseScope>()
            .map(Some)
            .map_err(|_| PyRuntimeError::new_err("the scope of promises is not one")),
        _ => PromiseScope::of_request(py),
    }
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
