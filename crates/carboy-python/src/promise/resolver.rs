//! The right to settle a promise, for Python code.

use carboy_promise::Resolver;
use pyo3::exceptions::{PyBaseException, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::awaitable;
use super::host::{self, PromiseHost};
use crate::ffi::attached_cell::AttachedCell;

/// Settles one promise, once. What comes later has no effect.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct PromiseResolver {
    /// None when it was used. The frames in which a promise was rejected are in the traceback
    /// of its error, and hold the resolver: if that held the promise, none of them would end.
    resolver: AttachedCell<Option<Resolver<PromiseHost>>>,
}

impl PromiseResolver {
    pub(super) fn new(resolver: Resolver<PromiseHost>) -> Self {
        Self {
            resolver: AttachedCell::new(Some(resolver)),
        }
    }

    /// The right to settle the promise, for its one use.
    fn take(&self, py: Python<'_>) -> Option<Resolver<PromiseHost>> {
        self.resolver.with(py, Option::take)
    }
}

#[pymethods]
impl PromiseResolver {
    /// Fulfils the promise with a value; with a promise or another awaitable, its outcome is
    /// taken over.
    #[pyo3(signature = (value = None))]
    fn resolve(&self, py: Python<'_>, value: Option<Bound<'_, PyAny>>) {
        let value = value.unwrap_or_else(|| py.None().into_bound(py));
        match self.take(py) {
            Some(resolver) => awaitable::resolve(py, &resolver, &value, None),
            None => awaitable::refuse(&value),
        }
    }

    /// Says that the outcome is made of HTTP calls.
    fn add_calls(&self, py: Python<'_>, calls: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        let promise = self.resolver.with(py, |resolver| {
            resolver.as_ref().map(|resolver| resolver.promise().clone())
        });
        promise.map_or(Ok(()), |promise| promise.origin().causes.add_calls(calls))
    }

    /// Rejects the promise with an exception.
    fn reject(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let error = checked_error(&error)?;
        if let Some(resolver) = self.take(py) {
            host::reject(py, &resolver, PyErr::from_value(error));
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        self.resolver.visit(&visit, |resolver| {
            if let Some(resolver) = resolver {
                result = host::traverse(resolver.promise(), &visit);
            }
        });
        result
    }

    fn __clear__(&self, py: Python<'_>) {
        drop(self.take(py));
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
