//! Waiting for promises in sync code.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use carboy_event_loop::monotonic_seconds;
use carboy_promise::{Reaction, Waiting};
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError};
use pyo3::intern;
use pyo3::prelude::*;

use super::host::{Core, Failure, cancelled_error, into_result};
use super::native_loop::call_later;
use super::object::Promise;
use super::owner::Owner;
use super::scope::Scope;
use super::scope_object;
use crate::attach::detached;
use crate::ending::{check_not_ending, hang_if_ended};
use crate::names;
use crate::worker::{Pool, SlotId, WorkerId, current_worker, new_slot_id, wait_at_bridge};

/// How often a thread that waits looks whether a signal has arrived.
const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// A thread, or a stack of a worker, that waits.
pub(super) struct Waiter {
    state: Mutex<State>,
    woken: Condvar,
    worker: Option<(Arc<Pool>, WorkerId)>,
}

#[derive(Default)]
struct State {
    is_woken: bool,
    /// What the pool is to be told, while a worker's stack waits at its bridge.
    slot: Option<SlotId>,
}

impl Waiter {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            woken: Condvar::new(),
            worker: current_worker(),
        })
    }

    /// Lets the thread go on.
    pub(super) fn wake(&self) {
        let slot = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.is_woken = true;
            self.woken.notify_one();
            state.slot.take()
        };
        if let (Some(slot), Some((pool, worker))) = (slot, &self.worker) {
            pool.resolve(*worker, slot);
        }
    }

    /// Waits until it is woken, or for a while; a worker's stack without bound. Other threads
    /// than workers may be needed by handlers, and say that they wait, or wait still.
    fn wait(&self, py: Python<'_>, at_most: Duration, has_waited: bool) -> PyResult<()> {
        let Some((pool, worker)) = &self.worker else {
            let end = names::begin_wait(py)?.call1((has_waited,))?;
            detached(py, || {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let (mut state, _) = self
                    .woken
                    .wait_timeout_while(state, at_most, |state| !state.is_woken)
                    .unwrap_or_else(PoisonError::into_inner);
                state.is_woken = false;
                drop(state);
                hang_if_ended();
            });
            if !end.is_none() {
                end.call0()?;
            }
            return py.check_signals();
        };
        let slot = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::take(&mut state.is_woken) {
                return Ok(());
            }
            *state.slot.insert(new_slot_id())
        };
        let waited = wait_at_bridge(py, pool, *worker, slot, true);
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_woken = false;
        waited
    }
}

/// What wakes a thread when its promise is settled, if it waits still.
struct Waking(Weak<Waiter>);

impl Waiting for Waking {
    fn notify(self: Box<Self>) {
        if let Some(waiter) = self.0.upgrade() {
            waiter.wake();
        }
    }

    fn is_waiting(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// The stacks of sync code that have a part in a promise's outcome.
fn stacks_behind(promise: &Core, here: &Owner) -> PyResult<Vec<Arc<Owner>>> {
    let mut stacks: Vec<Arc<Owner>> = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![promise.clone()];
    while let Some(promise) = open.pop() {
        if !seen.insert(promise.id()) {
            continue;
        }
        if here.is_running(&promise) {
            return Err(PyRuntimeError::new_err(
                "result() would wait for itself: the promise depends on the handler that calls \
                 result(); return the promise from the handler instead",
            ));
        }
        let home = promise.home();
        if home.is_stack() && !stacks.iter().any(|known| Arc::ptr_eq(known, home)) {
            stacks.push(Arc::clone(home));
        }
        open.extend(promise.sources());
    }
    Ok(stacks)
}

/// Waits until a promise is settled, running the jobs of sync code that it depends on.
///
/// # Errors
///
/// `RuntimeError` on the thread of a running event loop, and for a promise that depends on
/// the caller itself; `TimeoutError` when `timeout` has passed; what a signal's handler
/// raises; the reason for which the request is given up meanwhile; `RuntimeError` when the
/// interpreter ends.
pub(super) fn wait(py: Python<'_>, promise: &Core, timeout: Option<Duration>) -> PyResult<()> {
    if promise.is_settled() {
        return Ok(());
    }
    if !names::get_running_loop(py)?.call0()?.is_none() {
        return Err(PyRuntimeError::new_err(format!(
            "result() was called on the thread of a running event loop, which would wait for \
             itself: use 'await' instead (the promise: {})",
            promise.origin().describe(py)
        )));
    }
    wait_here(py, promise, timeout)
}

/// Waits for the outcome of a promise that is settled on another thread, and takes it. Unlike
/// `wait`, a loop that runs on this thread is made to wait too: as it would be by the library
/// whose blocking call this is. A wait that ends early cancels the promise.
///
/// # Errors
///
/// The promise's own error; `DeadlineExceeded`; what a signal's handler raises.
pub(crate) fn wait_in_any_code(py: Python<'_>, promise: &Py<Promise>) -> PyResult<Py<PyAny>> {
    let core = promise.get().core();
    core.mark_handled();
    if !core.is_settled()
        && let Err(error) = wait_here(py, core, None)
    {
        core.cancel(Failure::new(py, cancelled_error(py, None)));
        return Err(error);
    }
    match core.outcome() {
        Some(outcome) => into_result(py, outcome),
        None => Err(cancelled_error(py, None)),
    }
}

fn wait_here(py: Python<'_>, promise: &Core, timeout: Option<Duration>) -> PyResult<()> {
    let scope = scope_object::current(py)?;
    let waiter = Waiter::new();
    let limit = Limit::new(py, timeout)?;
    let _timer = match (limit.left, &waiter.worker) {
        (Some(timeout), Some(_)) => {
            let waiter = Arc::clone(&waiter);
            Some(call_later(py, timeout, Box::new(move |_| waiter.wake()))?)
        }
        _ => None,
    };
    promise.react(Reaction::Waiter(Box::new(Waking(Arc::downgrade(&waiter)))));
    if let Some(scope) = &scope {
        scope.add_waiter(&waiter);
    }
    let waited = wait_until_settled(py, promise, &waiter, &limit, scope.as_deref());
    if let Some(scope) = &scope {
        scope.remove_waiter(&waiter);
    }
    waited
}

fn wait_until_settled(
    py: Python<'_>,
    promise: &Core,
    waiter: &Arc<Waiter>,
    limit: &Limit,
    scope: Option<&Scope>,
) -> PyResult<()> {
    let here = Owner::of_stack(py)?;
    let mut has_waited = false;
    while !promise.is_settled() {
        let stacks = stacks_behind(promise, &here)?;
        for stack in &stacks {
            stack.add_waiter(waiter);
        }
        let mut result = run_jobs(promise, &stacks);
        if matches!(result, Ok(false))
            && !promise.is_settled()
            && let Some(reason) = scope.and_then(|scope| scope.interruption(py, promise))
        {
            result = Err(reason);
        }
        if matches!(result, Ok(false)) && !promise.is_settled() {
            result = check_not_ending().map(|()| false);
        }
        if matches!(result, Ok(false)) {
            let left = limit
                .at
                .map(|deadline| deadline.saturating_duration_since(Instant::now()));
            result = match left {
                Some(Duration::ZERO) => Err(limit.error(py, promise)),
                Some(left) => waiter.wait(py, left.min(SIGNAL_CHECK_INTERVAL), has_waited),
                None => waiter.wait(py, SIGNAL_CHECK_INTERVAL, has_waited),
            }
            .map(|()| false);
            has_waited = true;
        }
        for stack in &stacks {
            stack.remove_waiter(waiter);
        }
        if result.is_err() || promise.is_settled() {
            for stack in &stacks {
                stack.pass_jobs_on();
            }
        }
        result?;
    }
    Ok(())
}

/// Runs jobs of these stacks until there is none or the promise is settled; says whether
/// there were any.
fn run_jobs(promise: &Core, stacks: &[Arc<Owner>]) -> PyResult<bool> {
    let mut has_run = false;
    for stack in stacks {
        while !promise.is_settled() && stack.run_next()? {
            has_run = true;
        }
    }
    Ok(has_run)
}

/// How long a wait may take: by its own timeout or by the deadline around it.
struct Limit {
    left: Option<Duration>,
    at: Option<Instant>,
    is_deadline: bool,
}

impl Limit {
    fn new(py: Python<'_>, timeout: Option<Duration>) -> PyResult<Self> {
        let deadline = remaining(py)?;
        let is_deadline = deadline.is_some_and(|left| timeout.is_none_or(|timeout| left < timeout));
        let left = if is_deadline { deadline } else { timeout };
        Ok(Self {
            left,
            at: left.and_then(|left| Instant::now().checked_add(left)),
            is_deadline,
        })
    }

    fn error(&self, py: Python<'_>, promise: &Core) -> PyErr {
        let description = promise.origin().describe(py);
        if !self.is_deadline {
            let seconds = self.left.unwrap_or_default().as_secs_f64();
            let message = format!("no result after {seconds} seconds ({description})");
            return PyTimeoutError::new_err(message);
        }
        names::no_result_in_time(py)
            .and_then(|make| make.call1((description,)))
            .map_or_else(|error| error, PyErr::from_value)
    }
}

/// How long it is to the deadline around the caller, if there is one.
pub(crate) fn remaining(py: Python<'_>) -> PyResult<Option<Duration>> {
    let at = names::deadline_at(py)?.call_method0(intern!(py, "get"))?;
    if at.is_none() || scope_object::is_detached_here(py)? {
        return Ok(None);
    }
    let left = at.extract::<f64>()? - monotonic_seconds();
    // What is too long for a duration is as good as no bound.
    match Duration::try_from_secs_f64(left.max(0.0)) {
        Ok(left) => Ok(Some(left)),
        Err(_) => Ok(None),
    }
}
