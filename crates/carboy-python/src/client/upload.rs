//! Content that is uploaded while Python makes it.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use carboy_client::{RequestBody, UploadSender};
use pyo3::prelude::*;

use crate::attach::detached;
use crate::event_loop::{NativeEventLoop, running_loop};
use crate::ffi::thread_state;
use crate::promise::{PendingPromise, Promise, native_loop};
use crate::runtime;
use crate::worker::post_to_loop;

/// Takes the pieces of a request's content. Whoever puts them in waits while the server is
/// behind.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct Upload {
    sender: UploadSender,
    body: Mutex<Option<RequestBody>>,
}

impl Upload {
    /// The content for the request; there is one.
    pub(super) fn take_body(&self) -> Option<RequestBody> {
        self.body
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn promise(
        py: Python<'_>,
        label: &str,
        work: impl Future<Output = bool> + Send + 'static,
    ) -> PyResult<Py<Promise>> {
        let (promise, pending) = PendingPromise::new(py, label)?;
        let event_loop = native_loop(py)?;
        begin(&event_loop, async move {
            let is_wanted = work.await;
            Python::attach(|py| {
                let value = pyo3::types::PyBool::new(py, is_wanted).to_owned();
                pending.fulfil(py, value.into_any().unbind());
            });
        })?;
        Ok(promise)
    }
}

/// Begins native work on the thread of a loop.
pub(super) fn begin(
    event_loop: &Bound<'_, NativeEventLoop>,
    work: impl Future<Output = ()> + Send + 'static,
) -> PyResult<()> {
    let running = running_loop(event_loop.py())?;
    if thread_state::is_driving() && running.is_some_and(|running| running.is(event_loop)) {
        runtime::spawn(work);
        return Ok(());
    }
    post_to_loop(event_loop, Box::new(move |_| runtime::spawn(work)))
}

#[pymethods]
impl Upload {
    /// Args:
    ///     length: The content's size in bytes, if it is known.
    #[new]
    #[pyo3(signature = (length = None))]
    fn new(length: Option<u64>) -> Self {
        let (sender, body) = RequestBody::stream(length);
        Self {
            sender,
            body: Mutex::new(Some(body)),
        }
    }

    /// Put a piece in, waiting for room; ``False`` when the request has ended.
    fn send(&self, py: Python<'_>, piece: &[u8]) -> bool {
        let piece = Bytes::copy_from_slice(piece);
        detached(py, || self.sender.blocking_send(piece)).is_ok()
    }

    /// Say that nothing more comes; ``False`` when the request has ended.
    fn finish(&self, py: Python<'_>) -> bool {
        detached(py, || self.sender.blocking_finish()).is_ok()
    }

    /// Break the request off, for a reason; ``False`` when it has ended.
    fn fail(&self, py: Python<'_>, reason: String) -> bool {
        detached(py, || self.sender.blocking_fail(reason)).is_ok()
    }

    /// As ``send``, as a promise.
    fn send_soon(&self, py: Python<'_>, piece: &[u8]) -> PyResult<Py<Promise>> {
        let (sender, piece) = (self.sender.clone(), Bytes::copy_from_slice(piece));
        let work = async move { sender.send(piece).await.is_ok() };
        Self::promise(py, "a piece of an upload", work)
    }

    /// As ``finish``, as a promise.
    fn finish_soon(&self, py: Python<'_>) -> PyResult<Py<Promise>> {
        let sender = self.sender.clone();
        let work = async move { sender.finish().await.is_ok() };
        Self::promise(py, "the end of an upload", work)
    }

    /// As ``fail``, as a promise.
    fn fail_soon(&self, py: Python<'_>, reason: String) -> PyResult<Py<Promise>> {
        let sender = self.sender.clone();
        let work = async move { sender.fail(reason).await.is_ok() };
        Self::promise(py, "the end of an upload", work)
    }
}
