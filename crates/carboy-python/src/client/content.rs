//! The content of a response that is read piece by piece.
//!
//! It stays on the thread of its connection, in a task that reads a piece whenever one is asked
//! for; so nothing is read ahead, and the server is slowed by who reads.

use carboy_client::{Error, ResponseBody};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::sync::mpsc;

use super::call::CallRequest;
use crate::promise::{PendingPromise, Promise};

enum Command {
    Next(PendingPromise),
    Close,
}

/// Reads a response's content.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct ContentStream {
    commands: mpsc::UnboundedSender<Command>,
}

impl ContentStream {
    /// The stream for Python, and the task that reads, which belongs to this thread.
    pub(super) fn new(
        mut body: Box<ResponseBody>,
        request: CallRequest,
    ) -> (Self, impl Future<Output = ()> + 'static) {
        let (commands, mut receiver) = mpsc::unbounded_channel();
        let reader = async move {
            while let Some(command) = receiver.recv().await {
                let Command::Next(pending) = command else {
                    return body.discard().await;
                };
                let piece = body.chunk().await;
                Python::attach(|py| settle(py, pending, piece, &request));
            }
            // Nobody has closed it: dropping the content closes the connection.
        };
        (Self { commands }, reader)
    }
}

fn settle(
    py: Python<'_>,
    pending: PendingPromise,
    piece: Result<Option<bytes::Bytes>, Error>,
    request: &CallRequest,
) {
    match piece {
        Ok(Some(piece)) => pending.fulfil(py, PyBytes::new(py, &piece).into_any().unbind()),
        Ok(None) => pending.fulfil(py, py.None()),
        Err(error) => pending.reject(py, request.exception(py, &error)),
    }
}

#[pymethods]
impl ContentStream {
    /// Return the promise of the next piece, or of ``None`` at the end.
    pub(super) fn next(&self, py: Python<'_>) -> PyResult<Py<Promise>> {
        let (promise, pending) = PendingPromise::new(py, "a piece of a response")?;
        // When the run of the loop has ended, what is pending is dropped, which rejects it.
        self.commands.send(Command::Next(pending)).ok();
        Ok(promise)
    }

    /// Give the connection back, or close it if there is much to read still.
    pub(super) fn close(&self) {
        self.commands.send(Command::Close).ok();
    }
}
