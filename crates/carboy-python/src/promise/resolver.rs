//! The right to settle a promise, for Python code.

use carboy_promise::Resolver;
use pyo3::exceptions::{PyBaseException, PyTypeError};
use pyo3::prelude::*;

use super::awaitable;
use super::host::{self, PromiseHost};

/// Settles one promise, once. What comes later has no effect.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct PromiseResolver {
    resolver: Resolver<PromiseHost>,
}

impl PromiseResolver {
    pub(super) fn new(resolver: Resolver<PromiseHost>) -> Self {
        Self { resolver }
    }
}

#[pymethods]
impl PromiseResolver {
    /// Fulfils the promise with a value; with a promise or another awaitable, its outcome is
    /// taken over.
    #[pyo3(signature = (value = None))]
    fn resolve(&self, py: Python<'_>, value: Option<Bound<'_, PyAny>>) {
        let value = value.unwrap_or_else(|| py.None().into_bound(py));
        awaitable::resolve(py, &self.resolver, &value, None);
    }

    /// Says that the outcome is made of HTTP calls.
    fn add_calls(&self, calls: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        self.resolver.promise().origin().causes.add_calls(calls)
    }

    /// Rejects the promise with an exception.
    fn reject(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let error = checked_error(&error)?;
        host::reject(py, &self.resolver, PyErr::from_value(error));
        Ok(())
    }
}

/// An exception that a promise may be rejected with: an instance, or a class that needs no
/// arguments.
pub(super) fn checked_error<'py>(error: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if error.is_instance_of::<PyBaseException>() {
        return Ok(error.clone());
    }
    if let Ok(class) = error.cast::<pyo3::types::PyType>()
        && class.is_subclass_of::<PyBaseException>()?
    {
        return class.call0();
    }
    Err(PyTypeError::new_err(format!(
        "a promise is rejected with an exception, not with {}",
        error.get_type()
    )))
}
