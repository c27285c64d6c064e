//! Tells of errors that nobody has looked at.
//!
//! A promise that is rejected while nobody looks has a Python object with a `__del__` method.
//! The garbage collector calls that before it takes apart what it has found, so that the
//! error can still be shown; a destructor in Rust would come after that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::host::{Core, Failure};
use super::scope::{Scope, report_unhandled};
use crate::names;

/// The error of a promise, as long as nobody looks at it.
pub(crate) struct Guard {
    /// `carboy.promise.Unseen`.
    unseen: Py<PyAny>,
    is_armed: Arc<AtomicBool>,
}

impl Guard {
    /// Errors only: cancellation, and what ends a program, needs nobody to look.
    pub(super) fn new(py: Python<'_>, promise: &Core, failure: &Failure) -> Option<Self> {
        if !failure.error(py).is_instance_of::<PyException>() {
            return None;
        }
        let origin = promise.origin();
        let is_armed = Arc::new(AtomicBool::new(true));
        let notice = UnseenNotice {
            is_armed: Arc::clone(&is_armed),
            description: origin.describe(py),
            scope: origin.scope().cloned(),
        };
        let unseen = Bound::new(py, notice)
            .and_then(|notice| names::unseen(py)?.call1((failure.error(py), notice)));
        match unseen {
            Ok(unseen) => Some(Self {
                unseen: unseen.unbind(),
                is_armed,
            }),
            Err(error) => {
                error.write_unraisable(py, None);
                None
            }
        }
    }

    pub(super) fn disarm(&self) {
        self.is_armed.store(false, Ordering::Release);
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.unseen)
    }
}

/// What is called with an error when its promise is gone.
#[pyclass(frozen)]
struct UnseenNotice {
    is_armed: Arc<AtomicBool>,
    description: String,
    scope: Option<Arc<Scope>>,
}

#[pymethods]
impl UnseenNotice {
    fn __call__(&self, error: &Bound<'_, PyAny>) {
        if !self.is_armed.swap(false, Ordering::AcqRel) {
            return;
        }
        let py = error.py();
        let (failure, description) = (Failure::of(error), self.description.clone());
        match &self.scope {
            Some(scope) => scope.add_unhandled(py, failure, description),
            None => report_unhandled(py, None, &failure, description),
        }
    }
}
