//! Flask's contexts that are entered where something runs now.
//!
//! Who does not use Flask shall not have to import it: without it there are none.

use pyo3::intern;
use pyo3::prelude::*;

use crate::ffi::context;
use crate::names;

/// The context of the request that is served now, if there is one.
pub(crate) fn request_context(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    match names::request_context_variable(py)? {
        Some(variable) => context::get_variable(variable),
        None => Ok(None),
    }
}

/// Whether the app whose context is entered is in debug mode.
pub(crate) fn is_debugging(py: Python<'_>) -> PyResult<bool> {
    let Some(variable) = names::app_context_variable(py)? else {
        return Ok(false);
    };
    let Some(context) = context::get_variable(variable)? else {
        return Ok(false);
    };
    let app = context.getattr(intern!(py, "app"))?;
    app.getattr(intern!(py, "debug"))?.is_truthy()
}
