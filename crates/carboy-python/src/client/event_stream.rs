//! Server-sent events, for Python.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

/// Finds the events in the pieces of a response.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct EventStream {
    stream: Mutex<carboy_client::EventStream>,
}

#[pymethods]
impl EventStream {
    #[new]
    fn new() -> Self {
        Self {
            stream: Mutex::default(),
        }
    }

    /// Take a piece, and return type, data, identifier and retry time (ms) of each event that is
    /// complete with it.
    fn feed(&self, piece: &[u8]) -> Vec<(String, String, String, Option<u64>)> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream
            .feed(piece)
            .into_iter()
            .map(|event| (event.event, event.data, event.id, event.retry_ms))
            .collect()
    }
}
