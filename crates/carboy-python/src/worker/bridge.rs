//! The bridge from sync code to the loop: `Flask.async_to_sync` ends here.
//!
//! The coroutine becomes a task of the one persistent loop and runs in the request's own
//! `contextvars.Context`. A context can be entered on one thread at a time only, so the
//! caller leaves it for that while.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyTuple};

use super::slot::{Slot, SlotGuard};
use super::thread::{current_input, current_worker, current_worker_loop, wait_at_bridge};
use crate::attach::detached;
use crate::cancellation::explain_end;
use crate::event_loop::{Deferred, NativeEventLoop, start_task};
use crate::ffi::{context, thread_state};
use crate::names;
use crate::promise::prepare_scope_for_async_code;

/// The loops that serve requests in this process, for threads that the application itself
/// has started; the last one is theirs. A worker's loop is that of its server.
static HOME_LOOPS: Mutex<Vec<Py<NativeEventLoop>>> = Mutex::new(Vec::new());

/// How long another task's step in a request's context is waited for.
const LONGEST_STEP_MS: u32 = 5_000;
const ONE_MS: Duration = Duration::from_millis(1);

/// How many awaitables have crossed the bridge.
static AWAITS: AtomicU64 = AtomicU64::new(0);

fn home_loops() -> MutexGuard<'static, Vec<Py<NativeEventLoop>>> {
    HOME_LOOPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a loop on which awaitables of sync code may run.
#[pyfunction]
pub(crate) fn add_home_loop(event_loop: Py<NativeEventLoop>) {
    home_loops().push(event_loop);
}

/// Removes a loop that was added.
#[pyfunction]
pub(crate) fn remove_home_loop(event_loop: &Bound<'_, NativeEventLoop>) {
    let removed = {
        let mut loops = home_loops();
        let position = loops.iter().rposition(|known| known.is(event_loop));
        position.map(|position| loops.remove(position))
    };
    drop(removed);
}

/// The loop that serves this thread's requests, or else the process.
pub(crate) fn home_loop(py: Python<'_>) -> Option<Bound<'_, NativeEventLoop>> {
    if let Some(event_loop) = current_worker_loop(py) {
        return Some(event_loop.into_bound(py));
    }
    home_loops()
        .last()
        .map(|event_loop| event_loop.bind(py).clone())
}

/// How many awaitables have crossed the bridge since the process began.
#[pyfunction]
pub(crate) fn awaits() -> u64 {
    AWAITS.load(Ordering::Relaxed)
}

/// The current context of this stack itself, not a copy.
///
/// greenlet is the one public way to it. A thread that never used a context variable has
/// none yet; copying makes CPython create it.
fn current_context(py: Python<'_>) -> PyResult<Bound<'_, PyContext>> {
    let greenlet = names::current_greenlet(py)?.call0()?;
    let mut current = greenlet.getattr(intern!(py, "gr_context"))?;
    if current.is_none() {
        context::copy_current(py)?;
        current = greenlet.getattr(intern!(py, "gr_context"))?;
    }
    Ok(current.cast_into::<PyContext>()?)
}

/// Runs `awaitable` on the loop, in the caller's context, and returns its result.
///
/// # Errors
///
/// What the awaitable raises; `RuntimeError` on the loop's own thread, which must not
/// wait for itself, and where no loop serves.
#[pyfunction]
pub(crate) fn await_on_loop(py: Python<'_>, awaitable: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    if thread_state::is_driving() {
        awaitable.call_method0("close").ok();
        return Err(PyRuntimeError::new_err(
            "async code was called in the sync way on the event loop's own thread, which can't \
             wait for itself: await it instead",
        ));
    }
    let Some(event_loop) = home_loop(py) else {
        awaitable.call_method0("close").ok();
        return Err(PyRuntimeError::new_err(
            "no carboy server is running in this process",
        ));
    };
    if !event_loop.get().is_turning() {
        awaitable.call_method0("close").ok();
        return Err(PyRuntimeError::new_err("the event loop was stopped"));
    }
    AWAITS.fetch_add(1, Ordering::Relaxed);
    let mut request = None;
    if let Some(input) = current_input(py) {
        // Async code must not wait for the body on the loop's thread: it is there before.
        input.get().collect(py)?;
        request = input.get().request().map(Arc::clone);
    }
    if let Some(head) = &request {
        prepare_scope_for_async_code(py, head)?;
    }
    let of_task = request.clone();
    let home = event_loop.clone().unbind();
    let awaitable = awaitable.unbind();
    let result = wait_for_loop(py, move |slot, context| {
        let guard = SlotGuard::new(slot.clone().unbind());
        let context = context.clone().unbind();
        let action = Box::new(move |py: Python<'_>| {
            if let Some(slot) = guard.release() {
                let task = start_on_loop(
                    home.bind(py),
                    awaitable.bind(py),
                    slot.bind(py),
                    context.bind(py),
                );
                // What is not done yet may be cancelled, until the caller has its result.
                if let (Some(head), Some(task)) = (of_task, task)
                    && let Ok(is_done) = task.call_method0(intern!(py, "done"))
                    && !is_done.is_truthy().unwrap_or(true)
                {
                    head.life.set_task(Some(task.unbind()));
                }
            }
        });
        post_to_loop(&event_loop, action)
    });
    let Some(head) = request else {
        return result;
    };
    head.life.set_task(None);
    result.map_err(|error| explain_end(py, Some(&head.life), error))
}

/// Lets `post` begin something on the loop, leaving the caller's context to it, and waits
/// until it settles the slot.
pub(crate) fn wait_for_loop(
    py: Python<'_>,
    post: impl FnOnce(&Bound<'_, Slot>, &Bound<'_, PyContext>) -> PyResult<()>,
) -> PyResult<Py<PyAny>> {
    let worker = current_worker();
    let slot = Bound::new(py, Slot::new(worker.clone()))?;
    let context = current_context(py)?;
    // A thread's first context is nobody's to leave; the loop may enter that one as it is.
    let was_entered = context::exit(&context).is_ok();
    let waited = post(&slot, &context).and_then(|()| match &worker {
        Some((pool, id)) => {
            // Another request on this thread would see a loop that this one is running.
            let may_share = names::get_running_loop(py)?.call0()?.is_none();
            wait_at_bridge(py, pool, *id, slot.get().id, may_share)
        }
        None => slot.get().wait_foreign(py),
    });
    if was_entered {
        enter_again(&context)?;
    }
    waited?;
    slot.get().take()
}

/// Enters a context that the loop has left. A task that the application itself has put into
/// the same context may be in it for the length of a step.
///
/// # Errors
///
/// `RuntimeError` when that takes longer than a step may.
pub(crate) fn enter_again(context: &Bound<'_, PyContext>) -> PyResult<()> {
    for _ in 0..LONGEST_STEP_MS {
        match context::enter(context) {
            Ok(()) => return Ok(()),
            Err(_) => detached(context.py(), || std::thread::park_timeout(ONE_MS)),
        }
    }
    context::enter(context)
}

/// Runs a native action on the loop's thread, outside of any task and context but an empty
/// one of its own.
pub(crate) fn post_to_loop(
    event_loop: &Bound<'_, NativeEventLoop>,
    action: Deferred,
) -> PyResult<()> {
    let py = event_loop.py();
    let posted = Bound::new(
        py,
        PostedAction {
            action: Mutex::new(Some(action)),
        },
    )?;
    let empty = context::new_empty(py)?.into_bound(py);
    NativeEventLoop::schedule(
        event_loop,
        posted.into_any(),
        PyTuple::empty(py),
        Some(empty),
    )?;
    Ok(())
}

/// A native action in the loop's queue.
#[pyclass(frozen)]
struct PostedAction {
    action: Mutex<Option<Deferred>>,
}

#[pymethods]
impl PostedAction {
    fn __call__(&self, py: Python<'_>) {
        let action = self
            .action
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(action) = action {
            action(py);
        }
    }
}

/// The loop's side of the bridge: makes the task and takes its first step at once.
fn start_on_loop<'py>(
    event_loop: &Bound<'py, NativeEventLoop>,
    awaitable: &Bound<'py, PyAny>,
    slot: &Bound<'py, Slot>,
    context: &Bound<'py, PyContext>,
) -> Option<Bound<'py, PyAny>> {
    let started = names::deliver(event_loop.py())
        .and_then(|deliver| deliver.call1((event_loop, awaitable, slot)))
        .and_then(|coroutine| start_task(event_loop, &coroutine, context, None));
    match started {
        Ok(task) => Some(task),
        Err(error) => {
            slot.get().settle(Err(error));
            None
        }
    }
}
