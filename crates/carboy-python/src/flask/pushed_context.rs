//! Flask's context of a request on the loop, whoever has pushed it.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::RequestContextBase;

/// Flask's context of a request.
pub(super) enum PushedContext {
    /// Pushed by its own method: the request context of Flask 3.1, the app context of 3.2.
    Own {
        context: Py<PyAny>,
        environ: Py<PyDict>,
    },
    /// Made and pushed natively.
    Native(Py<RequestContextBase>),
}

impl PushedContext {
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Own { context, environ } => {
                visit.call(context)?;
                visit.call(environ)
            }
            Self::Native(context) => visit.call(context),
        }
    }

    pub(super) fn object(&self, py: Python<'_>) -> Py<PyAny> {
        match self {
            Self::Own { context, .. } => context.clone_ref(py),
            Self::Native(context) => context.clone_ref(py).into_any(),
        }
    }

    pub(super) fn environ<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        match self {
            Self::Own { environ, .. } => Ok(environ.bind(py).clone()),
            Self::Native(context) => context.get().environ(py),
        }
    }

    /// Whether the view has asked for functions to be called after it.
    pub(super) fn has_after_request_functions(&self, py: Python<'_>) -> PyResult<bool> {
        match self {
            Self::Own { context, .. } => context
                .bind(py)
                .getattr(intern!(py, "_after_request_functions"))?
                .is_truthy(),
            Self::Native(context) => context.get().has_after_request_functions(py),
        }
    }
}
