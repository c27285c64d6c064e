//! The content of a response that is read piece by piece.
//!
//! It stays on the thread of its connection, in a task that reads a piece whenever one is asked
//! for; so nothing is read ahead, and the server is slowed by who reads. When the request that
//! has begun the call ends or is given up, so is the reading.

use bytes::Bytes;
use carboy_client::{Content, Error, ResponseBody, for_display};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::sync::oneshot;

use super::call::CallRequest;
use super::reading_orders::{End, Order, OrderSender, Orders, closed_meanwhile, orders};
use super::rest::everything;
use super::whole_content::joined;
use crate::promise::{PendingPromise, Promise};

/// What is to be read, and who waits for it.
enum Wanted {
    Next(PendingPromise),
    /// Behind what is there already.
    All(Vec<Bytes>, PendingPromise),
}

/// Reads a response's content.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct ContentStream {
    orders: OrderSender<Wanted>,
    limit_bytes: u64,
}

/// All content, on its way to the thread that waits for it: making an object of Python's of it is
/// that one's work, and not the loop's.
#[pyclass(frozen, module = "carboy._carboy")]
pub(super) struct Everything {
    pub(super) content: Content,
    /// Why nothing follows it.
    pub(super) failure: Option<Py<PyAny>>,
}

impl Everything {
    /// The content and the failure as Python takes them.
    pub(super) fn for_python<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyBytes>, Option<Py<PyAny>>)> {
        let failure = self.failure.as_ref().map(|it| it.clone_ref(py));
        Ok((joined(py, self.content.pieces())?, failure))
    }
}

/// The intention to read content. It belongs to the scope of whoever has begun the call.
pub(super) struct Reading {
    /// Settled when the reading has ended.
    pending: PendingPromise,
    cancelled: oneshot::Receiver<()>,
    limit_bytes: u64,
}

impl Reading {
    /// Args: what is read, and how much of it may be kept in memory.
    pub(super) fn new(py: Python<'_>, url: &str, limit_bytes: u64) -> PyResult<Self> {
        let (promise, pending) =
            PendingPromise::new(py, &format!("the content of {}", for_display(url)))?;
        // Nobody waits for it: that it ends is nothing to report.
        promise.bind(py).get().ignore();
        let (cancel, cancelled) = oneshot::channel();
        pending.on_cancel(move || {
            cancel.send(()).ok();
        });
        Ok(Self {
            pending,
            cancelled,
            limit_bytes,
        })
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
        let (sender, orders) = orders();
        let stream = Self {
            orders: sender,
            limit_bytes: reading.as_ref().map_or(u64::MAX, |it| it.limit_bytes),
        };
        (stream, read(body, request, reading, orders))
    }
}

/// Reads as long as pieces are asked for.
async fn read(
    mut body: Box<ResponseBody>,
    request: CallRequest,
    mut reading: Option<Reading>,
    mut orders: Orders<Wanted>,
) {
    loop {
        let wanted = tokio::select! {
            biased;
            () = Reading::given_up(&mut reading) => return body.abandon().await,
            wanted = orders.next() => wanted,
        };
        let (pending, end) = match wanted {
            Ok(Wanted::Next(pending)) => tokio::select! {
                biased;
                () = Reading::given_up(&mut reading) => return body.abandon().await,
                piece = body.chunk() => {
                    Python::attach(|py| settle(py, pending, piece, &request));
                    continue;
                }
                end = orders.end() => (pending, end),
            },
            Ok(Wanted::All(ready, pending)) => tokio::select! {
                biased;
                () = Reading::given_up(&mut reading) => return body.abandon().await,
                everything = everything(ready, &mut body) => {
                    Python::attach(|py| settle_all(py, pending, everything, &request));
                    continue;
                }
                end = orders.end() => (pending, end),
            },
            Err(End::Closed) => {
                body.discard().await;
                return Reading::end(reading);
            }
            // Nobody has closed it: dropping the content closes the connection.
            Err(End::Dropped) => return Reading::end(reading),
        };
        Python::attach(|py| pending.reject(py, request.exception(py, &closed_meanwhile())));
        if matches!(end, End::Closed) {
            body.abandon().await;
        }
        return Reading::end(reading);
    }
}

fn settle_all(
    py: Python<'_>,
    pending: PendingPromise,
    (content, failure): (Content, Option<Error>),
    request: &CallRequest,
) {
    let failure = failure.map(|error| request.exception(py, &error).into_value(py));
    let failure = failure.map(Py::into_any);
    match Py::new(py, Everything { content, failure }) {
        Ok(everything) => pending.fulfil(py, everything.into_any()),
        Err(error) => pending.reject(py, error),
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
        self.orders.send(Order::Read(Wanted::Next(pending))).ok();
        Ok(promise)
    }

    /// Give the connection back, or close it if there is much to read still.
    pub(super) fn close(&self) {
        self.orders.send(Order::Close).ok();
    }

    /// How many bytes of content may be kept in memory.
    #[getter]
    fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }
}

impl ContentStream {
    /// The promise of `Everything`: the rest, behind what is there already.
    pub(super) fn all(&self, py: Python<'_>, ready: Vec<Bytes>) -> PyResult<Py<Promise>> {
        let (promise, pending) = PendingPromise::new(py, "the rest of a response")?;
        // As in next().
        self.orders
            .send(Order::Read(Wanted::All(ready, pending)))
            .ok();
        Ok(promise)
    }
}
