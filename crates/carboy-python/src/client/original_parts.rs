//! Whether parts of other libraries are what they were: asked for each of their requests.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

/// Attributes of classes and modules, and what they were.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct OriginalParts {
    parts: Vec<(Py<PyAny>, Py<PyString>, Py<PyAny>)>,
}

#[pymethods]
impl OriginalParts {
    /// Args:
    ///     parts: Owners, names of their attributes, and the values that these are to have.
    #[new]
    fn new(parts: Vec<(Py<PyAny>, Py<PyString>, Py<PyAny>)>) -> Self {
        Self { parts }
    }

    /// Whether each attribute has the value that it is to have.
    fn are_in_place(&self, py: Python<'_>) -> bool {
        self.parts.iter().all(|(owner, name, original)| {
            owner
                .bind(py)
                .getattr(name.bind(py))
                .is_ok_and(|value| value.is(original))
        })
    }
}

/// Whether an environment has a variable whose name ends with ``_proxy``, in whichever case.
///
/// Args:
///     environment: Names and values as ``os.environ`` keeps them.
#[pyfunction]
pub(crate) fn names_a_proxy(environment: &Bound<'_, PyDict>) -> bool {
    const END: &[u8] = b"_proxy";
    environment.iter().any(|(name, _)| {
        let Ok(name) = name.cast::<PyBytes>() else {
            return true;
        };
        let name = name.as_bytes();
        name.len() >= END.len() && name[name.len() - END.len()..].eq_ignore_ascii_case(END)
    })
}
