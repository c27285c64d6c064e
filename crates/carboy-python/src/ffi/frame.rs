//! The frames of the Python code that runs now.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCode;

/// A frame of this thread's Python code, the innermost first.
pub(crate) struct Frame<'py>(Bound<'py, PyAny>);

impl<'py> Frame<'py> {
    /// The innermost frame; none where no Python code runs.
    pub(crate) fn innermost(py: Python<'py>) -> Option<Self> {
        // SAFETY: The thread is attached, so it has a state; the function returns a new
        // reference, or null without an exception.
        let frame = unsafe {
            let frame = ffi::PyThreadState_GetFrame(ffi::PyThreadState_Get());
            Bound::from_owned_ptr_or_opt(py, frame.cast())
        };
        frame.map(Self)
    }

    /// The frame that has called this one.
    pub(crate) fn caller(&self) -> Option<Self> {
        // SAFETY: The object is a frame, as all that are made here; the function returns a new
        // reference, or null without an exception.
        let caller = unsafe {
            let caller = ffi::PyFrame_GetBack(self.0.as_ptr().cast());
            Bound::from_owned_ptr_or_opt(self.0.py(), caller.cast())
        };
        caller.map(Self)
    }

    /// Its code.
    pub(crate) fn code(&self) -> PyResult<Bound<'py, PyCode>> {
        // SAFETY: The object is a frame; the function returns a new reference and never null.
        let code = unsafe {
            let code = ffi::PyFrame_GetCode(self.0.as_ptr().cast());
            Bound::from_owned_ptr_or_err(self.0.py(), code.cast())
        }?;
        Ok(code.cast_into::<PyCode>()?)
    }

    /// The position of the instruction that runs, in bytes: `frame.f_lasti`.
    pub(crate) fn instruction(&self) -> i32 {
        // SAFETY: The object is a frame; the function only reads from it.
        unsafe { ffi::PyFrame_GetLasti(self.0.as_ptr().cast()) }
    }
}
