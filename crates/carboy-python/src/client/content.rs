//! The content of a response that is read piece by piece.
//!
//! It stays on the thread of its connection, in a task that reads a piece whenever one is asked
//! for; so nothing is read ahead, and the server is slowed by who reads. When the request that
//! has begun the call ends or is given up, so is the reading.

use bytes::Bytes;
use carboy_client::{Error, ResponseBody, for_display};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::sync::{mpsc, oneshot};

use super::call::CallRequest;
use super::rest::all_pieces;
use crate::promise::{PendingPromise, Promise};

enum Command {
    Next(PendingPromise),
    All(PendingPromise),
    Close,
}

/// Reads a response's content.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct ContentStream {
    commands: mpsc::UnboundedSender<Command>,
}

/// All content that was left, on its way to the thread that waits for it: putting it together is
/// that one's work, and not the loop's.
#[pyclass(frozen, module = "carboy._carboy")]
pub(super) struct Everything {
    pub(super) pieces: Vec<Bytes>,
    /// Why nothing follows it.
    pub(super) failure: Option<Py<PyAny>>,
}

/// The intention to read content. It belongs to the scope of whoever has begun the call.
pub(super) struct Reading {
    /// Settled when the reading has ended.
    pending: PendingPromise,
    cancelled: oneshot::Receiver<()>,
}

impl Reading {
    pub(super) fn new(py: Python<'_>, url: &str) -> PyResult<Self> {
        let (promise, pending) =
            PendingPromise::new(py, &format!("the content of {}", for_display(url)))?;
        // Nobody waits for it: that it ends is nothing to report.
        promise.bind(py).get().ignore();
        let (cancel, cancelled) = oneshot::channel();
        pending.on_cancel(move || {
            cancel.send(()).ok();
        });
        Ok(Self { pending, cancelled })
    }

    /// Waits until the reading is given up.
    async fn given_up(reading: &mut Option<Self>) {
        if let Some(known) = reading {
            if (&mut known.cancelled).await.is_ok() {
                return;
            }
            *reading = None;
        }
        std::future::pending::<()>().await;
    }

    fn end(reading: Option<Self>) {
        if let Some(reading) = reading {
            Python::attach(|py| reading.pending.fulfil(py, py.None()));
        }
    }
}

impl ContentStream {
    /// The stream for Python, and the task that reads, which belongs to this thread.
    pub(super) fn new(
        body: Box<ResponseBody>,
        request: CallRequest,
        reading: Option<Reading>,
    ) -> (Self, impl Future<Output = ()> + 'static) {
        let (commands, receiver) = mpsc::unbounded_channel();
        (Self { commands }, read(body, request, reading, receiver))
    }
}

/// Reads as long as pieces are asked for.
async fn read(
    mut body: Box<ResponseBody>,
    request: CallRequest,
    mut reading: Option<Reading>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    loop {
        let command = tokio::select! {
            biased;
            () = Reading::given_up(&mut reading) => return body.abandon().await,
            command = commands.recv() => command,
        };
        match command {
            Some(Command::Next(pending)) => {
                let piece = tokio::select! {
                    biased;
                    () = Reading::given_up(&mut reading) => return body.abandon().await,
                    piece = body.chunk() => piece,
                };
                Python::attach(|py| settle(py, pending, piece, &request));
            }
            Some(Command::All(pending)) => {
                let (pieces, failure) = tokio::select! {
                    biased;
                    () = Reading::given_up(&mut reading) => return body.abandon().await,
                    everything = all_pieces(&mut body) => everything,
                };
                Python::attach(|py| {
                    let failure = failure.map(|error| request.exception(py, &error).into_value(py));
                    let failure = failure.map(Py::into_any);
                    match Py::new(py, Everything { pieces, failure }) {
                        Ok(everything) => pending.fulfil(py, everything.into_any()),
                        Err(error) => pending.reject(py, error),
                    }
                });
            }
            Some(Command::Close) => {
                body.discard().await;
                return Reading::end(reading);
            }
            // Nobody has closed it: dropping the content closes the connection.
            None => return Reading::end(reading),
        }
    }
}

fn settle(
    py: Python<'_>,
    pending: PendingPromise,
    piece: Result<Option<Bytes>, Error>,
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

impl ContentStream {
    /// The promise of `Everything`.
    pub(super) fn all(&self, py: Python<'_>) -> PyResult<Py<Promise>> {
        let (promise, pending) = PendingPromise::new(py, "the rest of a response")?;
        // As in next().
        self.commands.send(Command::All(pending)).ok();
        Ok(promise)
    }
}
