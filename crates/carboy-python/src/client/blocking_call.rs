//! A blocking call of another library's that has begun, while its content is put in.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::blocking_thread;
use super::transport::{Answer, answered};
use crate::promise::{Promise, wait_in_any_code};

/// Where the call is made.
pub(super) enum Begun {
    /// By the thread for blocking calls.
    OnThread(blocking_thread::Begun<Answer>),
    /// By an event loop.
    OnLoop(Py<Promise>),
}

/// A call that has begun. It is waited for or cancelled once.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct BlockingCall {
    begun: Mutex<Option<Begun>>,
}

impl BlockingCall {
    pub(super) fn new(begun: Begun) -> Self {
        Self {
            begun: Mutex::new(Some(begun)),
        }
    }

    fn take(&self) -> Option<Begun> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.take()
    }
}

#[pymethods]
impl BlockingCall {
    /// Wait for the response and return it.
    ///
    /// Raises:
    ///     ``HTTPError``: As ``carboy.http`` raises them.
    ///     ``RuntimeError``: If it was waited for before, or cancelled.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.take() {
            Some(Begun::OnThread(begun)) => answered(py, begun),
            Some(Begun::OnLoop(promise)) => wait_in_any_code(py, &promise),
            None => Err(PyRuntimeError::new_err(
                "a blocking call is waited for once, and not after it was cancelled",
            )),
        }
    }

    /// Give the call up.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(Begun::OnLoop(promise)) = self.take() {
            promise.call_method0(py, intern!(py, "cancel"))?;
        }
        Ok(())
    }
}
