//! Warnings about what is thrown away without its due end.

use pyo3::exceptions::PyResourceWarning;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;

use crate::ffi::pending_error;

/// Warns that a transport is thrown away open, and closes it. For a destructor.
pub(crate) fn warn(description: &str, close: impl FnOnce(Python<'_>) -> PyResult<()>) {
    warn_as::<PyResourceWarning>(&format!("unclosed transport {description}"), close);
}

/// Warns, and then does something. For a destructor: an error that is on its way stays, and
/// one that happens here goes to `sys.unraisablehook`.
pub(crate) fn warn_as<C: PyTypeInfo>(
    message: &str,
    afterwards: impl FnOnce(Python<'_>) -> PyResult<()>,
) {
    // No interpreter is left to warn anybody when it is shutting down.
    Python::try_attach(|py| {
        pending_error::preserved(py, || {
            let category = py.get_type::<C>();
            let warned = std::ffi::CString::new(message)
                .map_err(PyErr::from)
                .and_then(|message| PyErr::warn(py, &category, &message, 1));
            for result in [warned, afterwards(py)] {
                if let Err(error) = result {
                    error.write_unraisable(py, None);
                }
            }
        });
    });
}
