//! What a promise belongs to: the request that it was made in, a `deadline` block, or the
//! work of another promise.
//!
//! # States
//!
//! * **open**: promises join it;
//! * **ended**: what was unfinished was cancelled, and what joins now is cancelled at once. If
//!   that was for a reason (the time is up, the client has gone), whoever waits in sync code
//!   of the scope gets the reason raised.
//!
//! Only promises of work join a scope: those of native code, and of awaitables. What was
//! made from them by `then` follows them.
//!
//! Scopes are a tree. A request's is the root; a `deadline` block and the task that works for
//! a promise have one within it. When a scope ends, those within it end. A promise that is
//! detached is taken out of its scope, and so is the scope of its work.
//!
//! How a scope is found is said in `scope_object.rs`, and how a request ends early in
//! `request_scope.rs`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use carboy_promise::Outcome;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::host::{Core, Failure, PromiseHost, cancelled_error};
use super::native_loop::Timer;
use super::waiter::Waiter;
use crate::names;

type WeakCore = carboy_promise::WeakPromise<PromiseHost>;

/// Below this many members those that are done are not looked for.
const MEMBERS_BEFORE_CLEANUP: usize = 32;

/// Of so many promises at most it is told that they were unfinished.
const UNFINISHED_TOLD: usize = 3;

/// Promises that are cancelled together.
pub(crate) struct Scope {
    state: Mutex<State>,
    is_of_request: bool,
    /// A weak reference to the application whose request it is, which logs the errors that
    /// nobody has looked at.
    application: OnceLock<Py<PyWeakrefReference>>,
    is_debug: AtomicBool,
}

struct State {
    promises: Vec<WeakCore>,
    /// The scopes within this one.
    inner: Vec<Weak<Scope>>,
    cleanup_at: usize,
    /// What this scope is a part of. None for a request's, and for detached work.
    outer: Option<Arc<Scope>>,
    is_detached: bool,
    is_open: bool,
    /// Why it has ended.
    reason: Option<Reason>,
    /// Ends the scope when its time is up.
    timer: Option<Timer>,
    /// Threads that wait for promises in sync code of the scope.
    waiters: Vec<Arc<Waiter>>,
    /// The first promises that were unfinished when it ended for a reason.
    unfinished: Vec<WeakCore>,
    /// Whether errors that nobody has looked at are kept: the request is to fail with them.
    keeps_unhandled: bool,
    /// Errors that nobody has looked at until now, and what their promises were.
    unhandled: Vec<(Failure, String)>,
}

/// Why a scope has ended: an exception of which each promise gets a copy, so that those who
/// raise it don't share a traceback.
#[derive(Clone)]
pub(super) struct Reason(Arc<Py<PyAny>>);

impl Reason {
    pub(super) fn new(error: Py<PyAny>) -> Self {
        Self(Arc::new(error))
    }

    /// The error of one promise, which it names.
    pub(super) fn failure(&self, py: Python<'_>, promise: &Core) -> Failure {
        let description = promise.origin().describe(py);
        let named = names::named_after(py).and_then(|name| name.call1((&*self.0, description)));
        Failure::of(&named.unwrap_or_else(|_| self.0.bind(py).clone()))
    }
}

/// The error of a promise whose scope has ended.
fn ending(py: Python<'_>, promise: &Core, reason: Option<&Reason>) -> Failure {
    if let Some(reason) = reason {
        return reason.failure(py, promise);
    }
    let message = format!(
        "the request that the promise belongs to has ended; detach() lets a promise outlive its \
         request ({})",
        promise.origin().describe(py)
    );
    Failure::new(py, cancelled_error(py, Some(&message)))
}

impl Scope {
    /// The scope of a request.
    pub(super) fn of_request() -> Arc<Self> {
        Self::new(None, true, false)
    }

    fn new(outer: Option<Arc<Self>>, is_of_request: bool, is_debug: bool) -> Arc<Self> {
        let (is_open, reason) = match &outer {
            Some(outer) => {
                let outer = outer.state();
                (outer.is_open, outer.reason.clone())
            }
            None => (true, None),
        };
        let state = State {
            promises: Vec::new(),
            inner: Vec::new(),
            cleanup_at: MEMBERS_BEFORE_CLEANUP,
            outer: outer.clone(),
            is_detached: false,
            is_open,
            reason,
            timer: None,
            waiters: Vec::new(),
            unfinished: Vec::new(),
            keeps_unhandled: false,
            unhandled: Vec::new(),
        };
        let scope = Arc::new(Self {
            state: Mutex::new(state),
            is_of_request,
            application: OnceLock::new(),
            is_debug: AtomicBool::new(is_debug),
        });
        if let Some(outer) = outer {
            let mut outer = outer.state();
            outer.forget_what_is_done();
            outer.inner.push(Arc::downgrade(&scope));
        }
        scope
    }

    /// A scope within another one, or in none.
    pub(super) fn within(py: Python<'_>, outer: Option<&Arc<Self>>) -> Arc<Self> {
        let is_debug = match outer {
            Some(outer) => outer.is_debug(),
            None => names::is_development_mode(py),
        };
        Self::new(outer.cloned(), false, is_debug)
    }

    /// A scope of work that may outlive its request.
    pub(super) fn detached(py: Python<'_>) -> Arc<Self> {
        let scope = Self::within(py, None);
        scope.state().is_detached = true;
        scope
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whose request it is of. In debug mode and in tests that fails with the first error
    /// that nobody has looked at.
    pub(super) fn set_application(&self, application: Py<PyWeakrefReference>, is_debug: bool) {
        self.application.set(application).ok();
        self.is_debug.store(is_debug, Ordering::Relaxed);
        self.state().keeps_unhandled = is_debug;
    }

    /// Whether errors tell where their promises were made.
    pub(super) fn is_debug(&self) -> bool {
        self.is_debug.load(Ordering::Relaxed)
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().is_open
    }

    fn outer(&self) -> Option<Arc<Self>> {
        self.state().outer.clone()
    }

    /// Whether it is a part of detached work.
    pub(super) fn is_detached(&self) -> bool {
        let (mut is_detached, mut next) = {
            let state = self.state();
            (state.is_detached, state.outer.clone())
        };
        while let Some(scope) = next {
            let state = scope.state();
            is_detached |= state.is_detached;
            let outer = state.outer.clone();
            drop(state);
            next = outer;
        }
        is_detached
    }

    /// Lets a promise belong to the scope.
    pub(super) fn join(&self, py: Python<'_>, promise: &Core) {
        let refused = {
            let mut state = self.state();
            if state.is_open {
                state.forget_what_is_done();
                state.promises.push(promise.downgrade());
                None
            } else {
                Some(state.reason.clone())
            }
        };
        if let Some(reason) = refused {
            promise.mark_handled();
            promise.cancel(ending(py, promise, reason.as_ref()));
        }
    }

    /// Takes a promise out of the scope.
    pub(super) fn leave(&self, promise: &Core) {
        self.state().promises.retain(|known| !known.is(promise));
    }

    /// Takes this scope, and with it those within it, out of the one around it.
    pub(super) fn cut_off(&self) {
        let outer = {
            let mut state = self.state();
            state.is_detached = true;
            state.outer.take()
        };
        if let Some(outer) = outer {
            let this = std::ptr::from_ref(self);
            outer.state().inner.retain(|inner| inner.as_ptr() != this);
        }
    }

    /// Ends the scope, and those within it; says whether it had not ended.
    pub(super) fn finish(&self, py: Python<'_>, reason: Option<&Reason>) -> bool {
        let ended = {
            let mut state = self.state();
            if !state.is_open {
                return false;
            }
            state.is_open = false;
            state.reason = reason.cloned();
            (
                std::mem::take(&mut state.promises),
                std::mem::take(&mut state.inner),
                std::mem::take(&mut state.waiters),
                state.timer.take(),
            )
        };
        let (promises, inner, waiters, timer) = ended;
        drop(timer);
        if reason.is_some() {
            let mut unfinished = promises.clone();
            unfinished.retain(WeakCore::is_pending);
            unfinished.truncate(UNFINISHED_TOLD);
            self.state().unfinished = unfinished;
        }
        for promise in promises {
            if let Some(promise) = promise.upgrade() {
                if promise.is_unhandled() {
                    promise.mark_handled();
                    if let Some(Outcome::Rejected(failure)) = promise.outcome() {
                        self.report(py, &failure, promise.origin().describe(py));
                    }
                } else if !promise.is_settled() {
                    promise.mark_handled();
                    promise.cancel(ending(py, &promise, reason));
                }
            }
        }
        for inner in inner {
            if let Some(inner) = inner.upgrade() {
                inner.finish(py, reason);
            }
        }
        for waiter in waiters {
            waiter.wake();
        }
        for (failure, description) in self.take_unhandled() {
            self.report(py, &failure, description);
        }
        true
    }

    /// Why sync code of the scope must not wait for a promise any longer.
    pub(super) fn interruption(&self, py: Python<'_>, promise: &Core) -> Option<PyErr> {
        let reason = self.state().reason.clone();
        reason.map(|reason| reason.failure(py, promise).into_error(py))
    }

    /// What was unfinished when the scope ended, or is given up just now.
    pub(super) fn unfinished(&self, py: Python<'_>) -> Vec<String> {
        let (known, has_ended) = {
            let state = self.state();
            if state.is_open {
                (state.promises.clone(), false)
            } else {
                (state.unfinished.clone(), true)
            }
        };
        let mut promises: Vec<_> = known.iter().filter_map(WeakCore::upgrade).collect();
        if !has_ended {
            promises.retain(|promise| match promise.outcome() {
                None => true,
                Some(Outcome::Fulfilled(_)) => false,
                Some(Outcome::Rejected(failure)) => names::cancelled_error(py)
                    .and_then(|class| failure.error(py).is_instance(class))
                    .unwrap_or(false),
            });
        }
        let promises = promises.iter().take(UNFINISHED_TOLD);
        promises.map(|it| it.origin().describe(py)).collect()
    }

    /// Wakes a thread when the scope ends.
    pub(super) fn add_waiter(&self, waiter: &Arc<Waiter>) {
        self.state().waiters.push(Arc::clone(waiter));
    }

    pub(super) fn remove_waiter(&self, waiter: &Arc<Waiter>) {
        let mut state = self.state();
        state.waiters.retain(|known| !Arc::ptr_eq(known, waiter));
    }

    /// Sets what ends the scope when its time is up.
    pub(super) fn set_timer(&self, timer: Timer) {
        let unneeded = {
            let mut state = self.state();
            if state.is_open {
                state.timer.replace(timer)
            } else {
                Some(timer)
            }
        };
        drop(unneeded);
    }

    /// The outermost scope, if it is not this one.
    fn root(&self) -> Option<Arc<Self>> {
        let mut root = self.outer()?;
        while let Some(outer) = root.outer() {
            root = outer;
        }
        Some(root)
    }

    /// Takes note of an error that nobody will look at: its promise is gone. It is told at once,
    /// unless the request is to fail with it.
    pub(super) fn add_unhandled(&self, py: Python<'_>, failure: Failure, description: String) {
        let root = self.root();
        let root = root.as_deref().unwrap_or(self);
        if root.is_of_request {
            let mut state = root.state();
            if state.is_open && state.keeps_unhandled {
                state.unhandled.push((failure, description));
                return;
            }
        }
        root.report(py, &failure, description);
    }

    /// Takes the errors that nobody has looked at until now. Later ones are told at once.
    pub(super) fn take_unhandled(&self) -> Vec<(Failure, String)> {
        let mut state = self.state();
        state.keeps_unhandled = false;
        std::mem::take(&mut state.unhandled)
    }

    fn report(&self, py: Python<'_>, failure: &Failure, description: String) {
        let root = self.root();
        let application = &root.as_deref().unwrap_or(self).application;
        let application = application.get().and_then(|it| it.bind(py).upgrade());
        report_unhandled(py, application, failure, description);
    }
}

impl State {
    /// Makes room: most members are done long before their scope ends.
    fn forget_what_is_done(&mut self) {
        if self.promises.len() + self.inner.len() < self.cleanup_at {
            return;
        }
        self.promises.retain(|promise| {
            let promise = promise.upgrade();
            promise.is_some_and(|promise| !promise.is_settled() || promise.is_unhandled())
        });
        self.inner.retain(|inner| inner.strong_count() > 0);
        self.cleanup_at = MEMBERS_BEFORE_CLEANUP.max(2 * (self.promises.len() + self.inner.len()));
    }
}

/// Tells an error that nobody has looked at, by the log of the application whose it is, or by
/// carboy's.
pub(super) fn report_unhandled(
    py: Python<'_>,
    application: Option<Bound<'_, PyAny>>,
    failure: &Failure,
    description: String,
) {
    let error = failure.clone().into_error(py).into_value(py);
    let reported = names::report_unhandled(py).and_then(|report| match application {
        Some(application) => {
            let logger = application.getattr(intern!(py, "logger"))?;
            report.call1((error, description, logger))
        }
        None => report.call1((error, description)),
    });
    if let Err(error) = reported {
        error.write_unraisable(py, None);
    }
}
