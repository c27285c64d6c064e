//! The stack of sync code that runs now, as an owner of promises.
//!
//! It is a worker's, which serves a request; a plain thread's; or that of a function which is
//! run on a thread of the executor.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;

use super::Owner;
use crate::event_loop::running_loop;
use crate::{names, worker};

thread_local! {
    /// The owner of this thread's sync code, if the thread is not a worker.
    static OF_THREAD: OnceLock<Arc<Owner>> = const { OnceLock::new() };
    /// The owner of the code that this thread runs for somebody else.
    static INSTEAD: RefCell<Option<Arc<Owner>>> = const { RefCell::new(None) };
}

/// The owner of this stack, which is made if need be.
pub(super) fn own_stack(py: Python<'_>) -> PyResult<Arc<Owner>> {
    if let Some(owner) = known_stack() {
        return Ok(owner);
    }
    if let Some(owner) = worker::current_promise_owner(|| Owner::new(None)) {
        return Ok(owner);
    }
    let owner = OF_THREAD.with(|owner| Arc::clone(owner.get_or_init(|| Owner::new(None))));
    let end = Bound::new(py, EndOfStack(Arc::clone(&owner)))?;
    let run_queued = end.getattr(intern!(py, "run_queued"))?;
    names::note_end_of_thread(py)?.call1((end, run_queued))?;
    Ok(owner)
}

/// The owner of this stack, if it has one already.
pub(super) fn known_stack() -> Option<Arc<Owner>> {
    INSTEAD
        .with_borrow(Clone::clone)
        .or_else(worker::known_promise_owner)
        .or_else(|| OF_THREAD.with(|owner| owner.get().cloned()))
}

/// The owner of this thread's sync code, if it may run handlers here and now: no event loop
/// runs, and no other handler.
fn idle_stack(py: Python<'_>) -> PyResult<Option<Arc<Owner>>> {
    if running_loop(py)?.is_some() {
        return Ok(None);
    }
    Ok(known_stack().filter(|here| !here.is_handling()))
}

/// Runs what `finally_` was given for promises that are cancelled now, and what is queued
/// before it: sync code may never wait for them.
///
/// # Errors
///
/// `KeyboardInterrupt` or `SystemExit`, when it was raised.
pub(in crate::promise) fn clean_up_here(py: Python<'_>) -> PyResult<()> {
    if let Some(here) = idle_stack(py)? {
        while here.cleanups.load(Ordering::Acquire) > 0 && here.run_next()? {}
    }
    Ok(())
}

/// Does what is queued for this stack of sync code and needs no code of the application's
/// own, before it is looked at what has become of a promise.
pub(in crate::promise) fn pass_here(py: Python<'_>) {
    if let Ok(Some(here)) = idle_stack(py) {
        here.pass();
    }
}

/// Notes that this thread runs an event loop on which a promise is awaited: if it is sync
/// code that runs the loop, its jobs can't wait for it to go on.
///
/// # Errors
///
/// `TypeError` if the loop can't be referred to weakly.
pub(in crate::promise) fn note_loop(event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(stack) = known_stack() else {
        return Ok(());
    };
    if !stack
        .loop_above(event_loop.py())
        .is_some_and(|known| known.is(event_loop))
    {
        let py = event_loop.py();
        let reference = names::weak_reference(py)?.call1((event_loop,))?.unbind();
        stack.is_scheduled.store(false, Ordering::Release);
        let before = {
            let above = stack.above.lock();
            let mut above = above.unwrap_or_else(PoisonError::into_inner);
            above.replace(reference)
        };
        drop(before);
    }
    if !stack.queue.is_empty() {
        stack.schedule_above();
    }
    Ok(())
}

/// Calls a function as sync code with a stack of its own, on a thread that is somebody
/// else's.
#[pyfunction]
pub(crate) fn call_on_own_stack(
    py: Python<'_>,
    function: &Bound<'_, PyAny>,
    argument: Bound<'_, PyAny>,
) -> PyResult<Py<PyAny>> {
    let owner = Owner::new(None);
    let result = instead(&owner, || {
        let result = function.call1((argument,));
        owner.end(py);
        result
    });
    result.map(Bound::unbind)
}

/// Runs something as the sync code of this owner.
pub(super) fn instead<T>(owner: &Arc<Owner>, action: impl FnOnce() -> T) -> T {
    let before = INSTEAD.replace(Some(Arc::clone(owner)));
    let result = action();
    let own = INSTEAD.replace(before);
    drop(own);
    result
}

/// Runs what is queued for this stack of sync code, at the end of its request.
pub(in crate::promise) fn run_what_is_queued_here(py: Python<'_>) {
    let run = || -> PyResult<()> {
        if let Some(here) = idle_stack(py)? {
            while here.run_next()? {}
        }
        Ok(())
    };
    if let Err(error) = run() {
        error.write_unraisable(py, None);
    }
}

/// Called at the end of a plain thread, on that thread.
#[pyclass(frozen)]
struct EndOfStack(Arc<Owner>);

#[pymethods]
impl EndOfStack {
    fn __call__(&self, py: Python<'_>) {
        let is_here = known_stack().is_some_and(|here| Arc::ptr_eq(&here, &self.0));
        if is_here && !self.0.has_ended.load(Ordering::Acquire) {
            self.0.end(py);
        }
    }

    /// Runs what is queued. What comes later is for whoever waits.
    fn run_queued(&self, py: Python<'_>) {
        if known_stack().is_some_and(|here| Arc::ptr_eq(&here, &self.0)) {
            run_what_is_queued_here(py);
        }
    }
}
