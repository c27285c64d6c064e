//! The event loop that native work belongs to, and timers on it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::ending::check_not_ending;
use crate::event_loop::{Deferred, NativeEventLoop, running_loop, turns_here};
use crate::ffi::pending_error;
use crate::names;
use crate::worker::{home_loop, post_to_loop};

/// The event loop for native work that is begun now: the one that runs on this thread, if it
/// is carboy's; that of the server; or else one that runs in the background on a thread of
/// its own, which is started by the first call.
///
/// # Errors
///
/// `RuntimeError` when the interpreter ends, and there is none any more.
pub(crate) fn native_loop(py: Python<'_>) -> PyResult<Bound<'_, NativeEventLoop>> {
    if let Some(running) = running_loop(py)?
        && let Ok(event_loop) = running.cast_into::<NativeEventLoop>()
    {
        return Ok(event_loop);
    }
    check_not_ending()?;
    if let Some(event_loop) = home_loop(py)
        && event_loop.get().is_turning()
    {
        return Ok(event_loop);
    }
    let background = names::background_loop(py)?.call0()?;
    background
        .getattr(intern!(py, "loop"))?
        .cast_into::<NativeEventLoop>()
        .map_err(|_| PyRuntimeError::new_err("the background loop is not carboy's"))
}

/// A timer, cancelled when dropped.
pub(super) struct Timer(Arc<Mutex<Countdown>>);

enum Countdown {
    /// Not begun: the loop has not come to it yet.
    New(Deferred),
    /// The handle of the loop's timer, and the action.
    Begun(Py<PyAny>, Option<Deferred>),
    Over,
}

impl Drop for Timer {
    fn drop(&mut self) {
        let before = {
            let mut countdown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *countdown, Countdown::Over)
        };
        if let Countdown::Begun(handle, _) = before {
            Python::try_attach(|py| {
                pending_error::preserved(py, || {
                    handle.call_method0(py, intern!(py, "cancel")).ok();
                });
            });
        }
    }
}

/// Does something on the loop's thread after a while.
pub(super) fn call_later(py: Python<'_>, delay: Duration, action: Deferred) -> PyResult<Timer> {
    let event_loop = native_loop(py)?;
    let countdown = Arc::new(Mutex::new(Countdown::New(action)));
    let timer = Timer(Arc::clone(&countdown));
    let home = event_loop.clone().unbind();
    let begin = move |py: Python<'_>| {
        if let Err(error) = begin_countdown(home.bind(py), delay, &countdown) {
            error.write_unraisable(py, None);
        }
    };
    if turns_here(&event_loop) {
        begin(py);
    } else {
        post_to_loop(&event_loop, Box::new(begin))?;
    }
    Ok(timer)
}

fn begin_countdown(
    event_loop: &Bound<'_, NativeEventLoop>,
    delay: Duration,
    countdown: &Arc<Mutex<Countdown>>,
) -> PyResult<()> {
    let py = event_loop.py();
    if matches!(
        *countdown.lock().unwrap_or_else(PoisonError::into_inner),
        Countdown::Over
    ) {
        return Ok(());
    }
    let end = Bound::new(py, CountdownEnd(Arc::clone(countdown)))?;
    let handle = event_loop
        .call_method1(intern!(py, "call_later"), (delay.as_secs_f64(), end))?
        .unbind();
    let unneeded = {
        let mut countdown = countdown.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *countdown, Countdown::Over) {
            Countdown::New(action) => {
                *countdown = Countdown::Begun(handle, Some(action));
                None
            }
            Countdown::Begun(..) | Countdown::Over => Some(handle),
        }
    };
    if let Some(handle) = unneeded {
        handle.call_method0(py, intern!(py, "cancel"))?;
    }
    Ok(())
}

/// The loop's callback at the end of a timer.
#[pyclass(frozen)]
struct CountdownEnd(Arc<Mutex<Countdown>>);

#[pymethods]
impl CountdownEnd {
    fn __call__(&self, py: Python<'_>) {
        let before = {
            let mut countdown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *countdown, Countdown::Over)
        };
        if let Countdown::Begun(_, Some(action)) = before {
            action(py);
        }
    }
}
