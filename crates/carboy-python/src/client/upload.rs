//! Content that is uploaded while Python makes it.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bytes::Bytes;
use carboy_client::{ContentSource, RequestBody, UploadSender, UploadStream};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::blocking_thread::SIGNAL_CHECK_INTERVAL;
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

/// What makes an upload when there is a connection for it, and again for a further attempt.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct UploadSource {
    length: Option<u64>,
    begin: Py<PyAny>,
    is_repeatable: bool,
}

impl UploadSource {
    /// The content for a request.
    pub(super) fn body(&self, py: Python<'_>) -> RequestBody {
        RequestBody::source(Box::new(PythonSource {
            length: self.length,
            begin: self.begin.clone_ref(py),
            is_repeatable: self.is_repeatable,
        }))
    }
}

#[pymethods]
impl UploadSource {
    /// Args:
    ///     length: The content's size in bytes, if it is known.
    ///     begin: Called with an ``Upload`` when the content is to be put into that, on a thread
    ///         that must not wait. Returns what is called when no more of it is wanted, or
    ///         ``None``.
    ///     `is_repeatable`: Whether it may be called more than once.
    #[new]
    fn new(length: Option<u64>, begin: Py<PyAny>, is_repeatable: bool) -> Self {
        Self {
            length,
            begin,
            is_repeatable,
        }
    }
}

/// The same for the native client.
struct PythonSource {
    length: Option<u64>,
    begin: Py<PyAny>,
    is_repeatable: bool,
}

impl ContentSource for PythonSource {
    fn begin(&mut self) -> UploadStream {
        let (sender, mut stream) = UploadStream::new(self.length);
        let upload = Upload {
            sender: sender.clone(),
            body: Mutex::default(),
        };
        let begun = Python::try_attach(|py| {
            let end = self.begin.call1(py, (upload,))?;
            Ok::<_, PyErr>((!end.is_none(py)).then_some(end))
        });
        let begun = begun.unwrap_or_else(|| {
            let message = "the interpreter is ending";
            Err(PyRuntimeError::new_err(message))
        });
        match begun {
            Ok(Some(end)) => stream.when_dropped(move || {
                Python::try_attach(|py| {
                    if let Err(error) = end.call0(py) {
                        error.write_unraisable(py, None);
                    }
                });
            }),
            Ok(None) => {}
            Err(error) => {
                // There is room for it: nothing was put in.
                sender.fail_at_once(error.to_string()).ok();
            }
        }
        stream
    }

    fn is_repeatable(&self) -> bool {
        self.is_repeatable
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

/// Wakes a thread that waits for an upload.
struct WaitingThread(Thread);

impl Wake for WaitingThread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread, which is not the runtime's, and looks whether signals have arrived.
fn wait_here<T>(py: Python<'_>, work: impl Future<Output = T>) -> PyResult<T> {
    let waker = Waker::from(Arc::new(WaitingThread(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(outcome) = work.as_mut().poll(&mut context) {
            return Ok(outcome);
        }
        detached(py, || std::thread::park_timeout(SIGNAL_CHECK_INTERVAL));
        py.check_signals()?;
    }
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
    ///
    /// Raises:
    ///     ``BaseException``: What a signal's handler raises meanwhile.
    fn send(&self, py: Python<'_>, piece: &[u8]) -> PyResult<bool> {
        let piece = Bytes::copy_from_slice(piece);
        Ok(wait_here(py, self.sender.send(piece))?.is_ok())
    }

    /// Say that nothing more comes; ``False`` when the request has ended.
    ///
    /// Raises:
    ///     ``BaseException``: What a signal's handler raises meanwhile.
    fn finish(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(wait_here(py, self.sender.finish())?.is_ok())
    }

    /// Break the request off, for a reason; ``False`` when it has ended.
    ///
    /// Raises:
    ///     ``BaseException``: What a signal's handler raises meanwhile.
    fn fail(&self, py: Python<'_>, reason: String) -> PyResult<bool> {
        Ok(wait_here(py, self.sender.fail(reason))?.is_ok())
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
