//! Warnings about what is thrown away without its due end.

use pyo3::exceptions::PyResourceWarning;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;
use pyo3::types::PyDict;

use crate::ffi::pending_error;
use crate::names;

/// Warns that a transport is thrown away open, and closes it. For a finalizer: an error goes
/// to `sys.unraisablehook`.
pub(crate) fn warn(transport: &Bound<'_, PyAny>, close: impl FnOnce() -> PyResult<()>) {
    // No interpreter is left to warn anybody when it is shutting down.
    if Python::try_attach(|_| ()).is_none() {
        return;
    }
    for result in [warn_of(transport), close()] {
        if let Err(error) = result {
            error.write_unraisable(transport.py(), Some(transport));
        }
    }
}

fn warn_of(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let message = format!("unclosed transport {}", transport.repr()?);
    let keywords = PyDict::new(py);
    keywords.set_item("source", transport)?;
    let arguments = (message, py.get_type::<PyResourceWarning>());
    names::warn(py)?.call(arguments, Some(&keywords))?;
    Ok(())
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
