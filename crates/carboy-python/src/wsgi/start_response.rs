//! `start_response` of PEP 3333, and the `write` callable that it returns.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use pyo3::exceptions::{PyAssertionError, PyConnectionError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::reply::{Head, Responder};

/// How far an answer is: no head yet; a head that waits for the first bytes of the body;
/// sent.
struct Progress {
    responder: Responder,
    head: Option<Head>,
}

/// Takes the head of a response from the application.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct StartResponse {
    progress: Mutex<Progress>,
}

impl StartResponse {
    pub(crate) fn new(responder: Responder) -> Self {
        Self {
            progress: Mutex::new(Progress {
                responder,
                head: None,
            }),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the head and the responder, to answer with them.
    pub(crate) fn take(&self) -> (Option<Head>, Responder) {
        let mut progress = self.progress();
        let responder = std::mem::replace(&mut progress.responder, Responder::closed());
        (progress.head.take(), responder)
    }

    /// Puts the responder back after a part of the answer was sent with it.
    pub(crate) fn give_back(&self, responder: Responder) {
        self.progress().responder = responder;
    }

    /// Whether bytes have gone out already, by `write`.
    pub(crate) fn is_begun(&self) -> bool {
        self.progress().responder.is_begun()
    }
}

#[pymethods]
impl StartResponse {
    /// Sets the status and the headers. With `exc_info`, replaces those set before, or
    /// raises it when they are sent already.
    #[pyo3(signature = (status, headers, exc_info = None))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        let has_head = {
            let progress = this.progress();
            progress.head.is_some() || progress.responder.is_begun()
        };
        match exc_info {
            Some(exc_info) if this.is_begun() => {
                return Err(PyErr::from_value(exc_info.get_item(1)?));
            }
            None if has_head => {
                return Err(PyAssertionError::new_err(
                    "start_response was called a second time, without exc_info",
                ));
            }
            _ => {}
        }
        let head = Head::parse(status, headers)?;
        this.progress().head = Some(head);
        slf.getattr("write")
    }

    /// Sends a part of the body at once; for applications that can't return an iterable.
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let chunk = Bytes::copy_from_slice(data.as_bytes());
        let (head, mut responder) = self.take();
        let result = match head {
            Some(head) => responder.begin(head),
            None if responder.is_begun() => Ok(()),
            None => {
                self.progress().responder = responder;
                return Err(PyAssertionError::new_err("write() before start_response()"));
            }
        };
        let result = result.and_then(|()| responder.send_chunk(py, chunk));
        self.progress().responder = responder;
        result.map_err(|error| PyConnectionError::new_err(error.to_string()))
    }
}
