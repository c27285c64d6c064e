//! Entering and leaving a `contextvars.Context` without a Python frame.
//!
//! `Context.run` needs a callable; the loop and the workers enter a context, do several
//! things in it, and leave it again.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyContext;

/// A new, empty context: what a thread starts with.
pub(crate) fn new_empty(py: Python<'_>) -> PyResult<Py<PyContext>> {
    // SAFETY: The interpreter is attached; the function returns a new reference or null
    // with an exception set, which is what from_owned_ptr_or_err expects.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New()) }?;
    Ok(context.cast_into::<PyContext>()?.unbind())
}

/// A copy of the context of this thread, as `contextvars.copy_context()`.
pub(crate) fn copy_current(py: Python<'_>) -> PyResult<Py<PyContext>> {
    // SAFETY: As in new_empty.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }?;
    Ok(context.cast_into::<PyContext>()?.unbind())
}

/// Makes `context` the current one of this thread. It must be left on the same thread.
///
/// # Errors
///
/// `RuntimeError` when it is entered already, here or on another thread.
pub(crate) fn enter(context: &Bound<'_, PyContext>) -> PyResult<()> {
    // SAFETY: The type of the argument says that it is a context, and it is borrowed for
    // the call; CPython takes its own reference.
    let status = unsafe { ffi::PyContext_Enter(context.as_ptr()) };
    if status == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(context.py()))
    }
}

/// Leaves `context`, which must be the current one of this thread.
///
/// # Errors
///
/// `RuntimeError` when it is not the current one or was never entered.
pub(crate) fn exit(context: &Bound<'_, PyContext>) -> PyResult<()> {
    // SAFETY: As in enter.
    let status = unsafe { ffi::PyContext_Exit(context.as_ptr()) };
    if status == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(context.py()))
    }
}
