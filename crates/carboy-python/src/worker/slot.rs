//! The place where a waiting thread finds the result of what runs on the loop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::pool::{Pool, SlotId, WorkerId};
use crate::attach::detached;
use crate::event_loop::NativeEventLoop;

/// How often a thread that waits looks whether a signal has arrived.
const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// A name for one more wait.
pub(crate) fn new_slot_id() -> SlotId {
    static NEXT_ID: AtomicU64 = AtomicU64::new(0);
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// A result that a thread waits for. The loop's side resolves it exactly once.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct Slot {
    pub(crate) id: SlotId,
    /// The worker to wake; none for a thread that is not of a pool.
    worker: Option<(Arc<Pool>, WorkerId)>,
    outcome: Mutex<Option<PyResult<Py<PyAny>>>>,
    foreign: Condvar,
}

impl Slot {
    pub(crate) fn new(worker: Option<(Arc<Pool>, WorkerId)>) -> Self {
        Self {
            id: new_slot_id(),
            worker,
            outcome: Mutex::new(None),
            foreign: Condvar::new(),
        }
    }

    /// Stores the outcome and wakes the thread that waits.
    pub(crate) fn settle(&self, outcome: PyResult<Py<PyAny>>) {
        {
            let mut place = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
            *place = Some(outcome);
            self.foreign.notify_all();
        }
        if let Some((pool, worker)) = &self.worker {
            pool.resolve(*worker, self.id);
        }
    }

    /// Waits on a thread that is not of a pool.
    ///
    /// # Errors
    ///
    /// What a signal's handler raises meanwhile: Ctrl-C ends the wait.
    pub(crate) fn wait_foreign(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            let is_settled = detached(py, || {
                let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
                let (outcome, _) = self
                    .foreign
                    .wait_timeout_while(outcome, SIGNAL_CHECK_INTERVAL, |outcome| outcome.is_none())
                    .unwrap_or_else(PoisonError::into_inner);
                outcome.is_some()
            });
            if is_settled {
                return Ok(());
            }
            py.check_signals()?;
        }
    }

    /// Takes the outcome, after the wait.
    pub(crate) fn take(&self) -> PyResult<Py<PyAny>> {
        let outcome = self
            .outcome
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        outcome.unwrap_or_else(|| Err(PyRuntimeError::new_err("woken without a result")))
    }
}

/// Settles once the step that runs now has left its context. A loop that has stopped takes
/// no more steps: then nobody is in the context.
fn settle_after_step(
    slot: Py<Slot>,
    event_loop: &Bound<'_, NativeEventLoop>,
    outcome: PyResult<Py<PyAny>>,
) {
    if event_loop.get().is_turning() {
        event_loop
            .get()
            .defer(Box::new(move |_| slot.get().settle(outcome)));
    } else {
        slot.get().settle(outcome);
    }
}

/// Settles a slot with an error if what was to settle it is dropped before it could run.
pub(crate) struct SlotGuard(Option<Py<Slot>>);

impl SlotGuard {
    pub(crate) fn new(slot: Py<Slot>) -> Self {
        Self(Some(slot))
    }

    /// Gives the slot on, to whom will settle it.
    pub(crate) fn release(mut self) -> Option<Py<Slot>> {
        self.0.take()
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            let error = PyRuntimeError::new_err("the event loop was stopped");
            slot.get().settle(Err(error));
        }
    }
}

#[pymethods]
impl Slot {
    /// Settles with a result. Called in a task's step: the thread that waits is woken
    /// when the step has left the context.
    fn resolve(slf: Py<Self>, event_loop: Bound<'_, NativeEventLoop>, result: Py<PyAny>) {
        settle_after_step(slf, &event_loop, Ok(result));
    }

    /// Settles with an exception, as `resolve`.
    fn reject(slf: Py<Self>, event_loop: Bound<'_, NativeEventLoop>, error: Bound<'_, PyAny>) {
        settle_after_step(slf, &event_loop, Err(PyErr::from_value(error)));
    }
}
