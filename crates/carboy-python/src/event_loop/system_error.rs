//! What a system call has answered, as Python says it.

use std::io;

use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PySystemExit};
use pyo3::prelude::*;

use crate::names;

/// The `OSError` of a failed call, with its number: Python picks the subclass by that.
pub(crate) fn os_error(py: Python<'_>, error: &io::Error) -> PyErr {
    let Some(number) = error.raw_os_error() else {
        return PyOSError::new_err(error.to_string());
    };
    let made = names::os_strerror(py)
        .and_then(|strerror| strerror.call1((number,)))
        .map(|message| PyOSError::new_err((number, message.unbind())));
    made.unwrap_or_else(|failure| failure)
}

/// Whether a call should be made again when the descriptor is ready.
pub(crate) fn is_try_again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Whether an exception ends the loop, and with it the program, instead of being reported.
pub(crate) fn ends_the_loop(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py)
}
