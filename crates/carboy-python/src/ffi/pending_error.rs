//! Python code in a destructor, while an exception may be on its way.

use pyo3::ffi;
use pyo3::prelude::*;

/// Runs `operation` as if no exception was set, and sets the one that was again.
///
/// The functions' successors are there from CPython 3.12 on only, and PyO3's own would let a panic
/// that is on its way begin here.
#[allow(deprecated, reason = "CPython 3.11 has no others")]
pub(crate) fn preserved<T>(_py: Python<'_>, operation: impl FnOnce() -> T) -> T {
    let (mut kind, mut value, mut traceback) = (
        std::ptr::null_mut(),
        std::ptr::null_mut(),
        std::ptr::null_mut(),
    );
    // SAFETY: The interpreter is attached; the three are ours until they are given back.
    unsafe {
        ffi::PyErr_Fetch(&raw mut kind, &raw mut value, &raw mut traceback);
    }
    let result = operation();
    // SAFETY: They came from PyErr_Fetch, and this takes them back.
    unsafe {
        ffi::PyErr_Restore(kind, value, traceback);
    }
    result
}
