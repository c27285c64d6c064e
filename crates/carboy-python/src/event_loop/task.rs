//! Starts a real `asyncio.Task` and takes its first step at once.
//!
//! A view that does not wait then costs no turn of the loop, and `asyncio.current_task()`
//! is the same `asyncio.Task` from its first step to its last. CPython 3.12 has
//! `eager_start` for this. On 3.11 the loop catches the step that the task's constructor
//! schedules, and runs it.

use pyo3::prelude::*;
use pyo3::types::{PyContext, PyDict};

use super::NativeEventLoop;
use crate::ffi::context;
use crate::names;

/// Makes a task of `coroutine` that runs in `context`, and takes its first step. Without a
/// name it gets one of asyncio's.
///
/// Must be called on the loop's thread, outside of any task and of `context`.
///
/// # Errors
///
/// What the task's constructor raises; `KeyboardInterrupt` or `SystemExit` when the
/// coroutine lets one out.
pub(crate) fn start_task<'py>(
    event_loop: &Bound<'py, NativeEventLoop>,
    coroutine: &Bound<'py, PyAny>,
    context: &Bound<'py, PyContext>,
    name: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let keywords = PyDict::new(py);
    keywords.set_item(pyo3::intern!(py, "loop"), event_loop)?;
    keywords.set_item(pyo3::intern!(py, "context"), context)?;
    if let Some(name) = name {
        keywords.set_item(pyo3::intern!(py, "name"), name)?;
    }
    let task_class = names::task(py)?;
    if names::has_eager_start(py) {
        keywords.set_item(pyo3::intern!(py, "eager_start"), true)?;
        return task_class.call((coroutine,), Some(&keywords));
    }
    let native = event_loop.get();
    native.begin_capture(context);
    let task = task_class.call((coroutine,), Some(&keywords));
    let first_step = native.end_capture(py);
    let task = task?;
    if let Some(first_step) = first_step {
        context::enter(context)?;
        let stepped = first_step.call0(py);
        context::exit(context)?;
        stepped?;
    }
    Ok(task)
}
