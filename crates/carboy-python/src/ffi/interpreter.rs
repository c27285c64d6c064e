//! Which of the process's interpreters runs now.

use pyo3::ffi;
use pyo3::prelude::*;

/// Whether this is the main interpreter, and no sub-interpreter.
pub(crate) fn is_main(_py: Python<'_>) -> bool {
    // SAFETY: The thread is attached, so there is a present interpreter; the addresses of both
    // are only compared.
    unsafe { ffi::PyInterpreterState_Get() == ffi::PyInterpreterState_Main() }
}
