//! Server-sent events, for Python.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use super::error::exception;

/// Type, data, identifier and retry time in milliseconds.
type EventTuple = (String, String, String, Option<u64>);

/// Finds the events in the pieces of a response.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct EventStream {
    stream: Mutex<carboy_client::EventStream>,
    request: Py<PyAny>,
}

#[pymethods]
impl EventStream {
    /// Args:
    ///     `limit_bytes`: How much of an event that has no end yet is kept.
    ///     request: That of the response, for the error.
    #[new]
    fn new(limit_bytes: u64, request: Py<PyAny>) -> Self {
        Self {
            stream: Mutex::new(carboy_client::EventStream::new(limit_bytes)),
            request,
        }
    }

    /// Take a piece, and return type, data, identifier and retry time (ms) of each event that is
    /// complete with it.
    ///
    /// Raises:
    ///     ``ContentTooLarge``: If an event is larger than the limit.
    fn feed(&self, py: Python<'_>, piece: &[u8]) -> PyResult<Vec<EventTuple>> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let events = stream.feed(piece);
        drop(stream);
        Ok(events
            .map_err(|error| exception(py, &error, &self.request))?
            .into_iter()
            .map(|event| (event.event, event.data, event.id, event.retry_ms))
            .collect())
    }
}
