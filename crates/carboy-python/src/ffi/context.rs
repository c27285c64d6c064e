//! Entering and leaving a `contextvars.Context`, and its variables, without a Python frame.
//!
//! `Context.run` needs a callable; the loop and the workers enter a context, do several
//! things in it, and leave it again.

use std::ptr;

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

/// The value of a `contextvars.ContextVar` in the current context, without its default.
///
/// # Errors
///
/// `TypeError` when `variable` is no context variable.
pub(crate) fn get_variable<'py>(
    variable: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut value = ptr::null_mut();
    // SAFETY: CPython checks the type of the variable; with a default of null it stores a new
    // reference, or null where there is no value.
    let status =
        unsafe { ffi::PyContextVar_Get(variable.as_ptr(), ptr::null_mut(), &raw mut value) };
    if status != 0 {
        return Err(PyErr::fetch(variable.py()));
    }
    // SAFETY: As said above, the reference is new, or there is none.
    Ok(unsafe { Bound::from_owned_ptr_or_opt(variable.py(), value) })
}

/// Sets a `contextvars.ContextVar` in the current context and returns the token.
///
/// # Errors
///
/// `TypeError` when `variable` is no context variable.
pub(crate) fn set_variable<'py>(
    variable: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: Both are live objects, CPython checks the type of the variable, and it returns
    // a new reference, or null with an exception set.
    unsafe {
        let token = ffi::PyContextVar_Set(variable.as_ptr(), value.as_ptr());
        Bound::from_owned_ptr_or_err(variable.py(), token)
    }
}

/// Gives a `contextvars.ContextVar` the value that it had before `token` was made.
///
/// # Errors
///
/// `ValueError` when the token is from another context or variable, `RuntimeError` when it
/// was used already.
pub(crate) fn reset_variable(
    variable: &Bound<'_, PyAny>,
    token: &Bound<'_, PyAny>,
) -> PyResult<()> {
    // SAFETY: Both are live objects whose types CPython checks.
    let status = unsafe { ffi::PyContextVar_Reset(variable.as_ptr(), token.as_ptr()) };
    if status == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(variable.py()))
    }
}
