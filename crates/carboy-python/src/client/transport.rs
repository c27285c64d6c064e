//! The pool below other HTTP libraries: `carboy.compat` calls this where they call theirs.
//!
//! A request goes out to the letter, and of the response nothing is undone or followed: the
//! library above does that. Its blocking half waits for the response, its asynchronous half
//! gets a promise.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use carboy_client::{
    Client, Error, ErrorKind, Proxy, Request, ResponseBody, ResponseHead, Timeouts, Timings, Way,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use tokio::sync::oneshot;
use url::{Position, Url};

use super::arguments::{content, duration};
use super::blocking_call::{Begun, BlockingCall};
use super::blocking_thread;
use super::call::CallRequest;
use super::content::ContentStream;
use super::error::exception;
use super::home::{self, Household};
use super::native_client::HttpClient;
use super::plain_response::{PlainResponse, Rest};
use super::rest::BlockingRest;
use crate::ffi::{pending_error, thread_state};
use crate::names;
use crate::promise::{PendingPromise, Promise, native_loop, remaining, wait_in_any_code};
use crate::runtime;
use crate::worker::{current_worker, post_to_loop};

/// Content up to this size that is there with the head is read with it.
const READY_BYTES: usize = 256 * 1024;

/// Connect, read, write and pool, in seconds.
type TimeoutTuple = (Option<f64>, Option<f64>, Option<f64>, Option<f64>);

/// Sends the requests of another library.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct Transport {
    household: Arc<Household>,
    is_closed: AtomicBool,
    /// Whether there may be connections of blocking calls.
    was_used_by_thread: AtomicBool,
}

impl Drop for Transport {
    fn drop(&mut self) {
        // Its connections would be kept until they have been idle for long enough.
        if !self.is_closed.load(Ordering::Acquire) {
            Python::try_attach(|py| pending_error::preserved(py, || self.close(py).ok()));
        }
    }
}

#[pymethods]
impl Transport {
    /// Args:
    ///     client: Whose settings and connections are used.
    #[new]
    fn new(client: &HttpClient) -> Self {
        Self {
            household: Arc::clone(client.household()),
            is_closed: AtomicBool::new(false),
            was_used_by_thread: AtomicBool::new(false),
        }
    }

    /// Send a request, and return the response when its head has come.
    ///
    /// Args:
    ///     method: The method.
    ///     origin: Scheme, host and port: ``http://example.org:8080``.
    ///     target: Path and query to the letter.
    ///     headers: All headers, pairs of text (Latin-1) or bytes.
    ///     body: The content.
    ///     timeouts: For connecting, reading, writing and the wait for a connection, in seconds.
    ///     way: A proxy's URL, ``unix:`` and a path, or nothing to go straight.
    ///
    /// Raises:
    ///     ``ValueError``: If it can't be sent like this; nothing was.
    ///     ``HTTPError``: As ``carboy.http`` raises them.
    ///     ``BlockingCallInAsyncView``: On the thread of the loop.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call from Python; positions cost less than an object would"
    )]
    fn send(
        &self,
        py: Python<'_>,
        method: &str,
        origin: &str,
        target: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        body: Option<&Bound<'_, PyAny>>,
        timeouts: TimeoutTuple,
        way: &str,
    ) -> PyResult<Py<PyAny>> {
        if thread_state::is_driving() {
            return Err(blocking_call(py, method, origin));
        }
        let call = prepare(method, origin, target, headers, body, timeouts, way)?;
        if current_worker().is_none() && remaining(py)?.is_none() {
            return self.send_by_thread(py, call);
        }
        let promise = self.begin_on_loop(py, call, format!("{method} {origin}"))?;
        wait_in_any_code(py, &promise)
    }

    /// As ``send``, as a promise.
    #[expect(clippy::too_many_arguments, reason = "as send()")]
    fn send_soon(
        &self,
        py: Python<'_>,
        method: &str,
        origin: &str,
        target: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        body: Option<&Bound<'_, PyAny>>,
        timeouts: TimeoutTuple,
        way: &str,
    ) -> PyResult<Py<Promise>> {
        let call = prepare(method, origin, target, headers, body, timeouts, way)?;
        self.begin_on_loop(py, call, format!("{method} {origin}"))
    }

    /// As ``send``, without waiting yet: for content that the caller puts in meanwhile.
    #[expect(clippy::too_many_arguments, reason = "as send()")]
    fn begin(
        &self,
        py: Python<'_>,
        method: &str,
        origin: &str,
        target: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        body: Option<&Bound<'_, PyAny>>,
        timeouts: TimeoutTuple,
        way: &str,
    ) -> PyResult<BlockingCall> {
        if thread_state::is_driving() {
            return Err(blocking_call(py, method, origin));
        }
        let call = prepare(method, origin, target, headers, body, timeouts, way)?;
        let begun = if current_worker().is_none() && remaining(py)?.is_none() {
            Begun::OnThread(self.begin_on_thread(py, call)?)
        } else {
            Begun::OnLoop(self.begin_on_loop(py, call, format!("{method} {origin}"))?)
        };
        Ok(BlockingCall::new(begun))
    }

    /// Close what is idle, on whichever loop. Later requests fail.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        if self.was_used_by_thread.load(Ordering::Acquire) {
            let household = Arc::clone(&self.household);
            blocking_thread::post(py, move || home::close_here(&household))?;
        }
        self.household.close(py)
    }
}

impl Transport {
    fn send_by_thread(&self, py: Python<'_>, call: Request) -> PyResult<Py<PyAny>> {
        answered(py, self.begin_on_thread(py, call)?)
    }

    fn begin_on_thread(
        &self,
        py: Python<'_>,
        call: Request,
    ) -> PyResult<blocking_thread::Begun<Answer>> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(exception(py, &closed(), &py.None()));
        }
        self.was_used_by_thread.store(true, Ordering::Release);
        let household = Arc::clone(&self.household);
        blocking_thread::begin(py, move || async move {
            let Made {
                response,
                ready,
                error,
                timings,
            } = make(home::client_without_python(&household), call).await?;
            let rest = (!response.body.is_at_end() && error.is_none()).then(|| {
                let (rest, reader) = BlockingRest::new(*response.body);
                runtime::spawn(reader);
                Rest::Thread(rest)
            });
            Ok((*response.head, ready, error, rest, timings))
        })
    }

    fn begin_on_loop(&self, py: Python<'_>, call: Request, label: String) -> PyResult<Py<Promise>> {
        let (promise, pending) = PendingPromise::new(py, &label)?;
        if self.is_closed.load(Ordering::Acquire) {
            pending.reject(py, exception(py, &closed(), &py.None()));
            return Ok(promise);
        }
        let (cancel, cancelled) = oneshot::channel();
        pending.on_cancel(move || {
            // A call that has ended has nothing to cancel.
            cancel.send(()).ok();
        });
        let household = Arc::clone(&self.household);
        if thread_state::is_driving() {
            runtime::spawn(run(household, call, cancelled, pending));
        } else {
            let begin =
                move |_: Python<'_>| runtime::spawn(run(household, call, cancelled, pending));
            post_to_loop(&native_loop(py)?, Box::new(begin))?;
        }
        Ok(promise)
    }
}

/// What the thread for blocking calls has got.
pub(super) type Answer = Result<
    (
        ResponseHead,
        Vec<Bytes>,
        Option<Error>,
        Option<Rest>,
        Timings,
    ),
    Error,
>;

/// Waits for what the thread gets, and makes a response of it.
pub(super) fn answered(
    py: Python<'_>,
    begun: blocking_thread::Begun<Answer>,
) -> PyResult<Py<PyAny>> {
    let (head, ready, error, rest, timings) = begun
        .wait(py)?
        .map_err(|error| exception(py, &error, &py.None()))?;
    let failure = error.map(|error| exception(py, &error, &py.None()));
    let response = PlainResponse::new(head, ready, failure, rest, timings);
    Ok(Py::new(py, response)?.into_any())
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client was closed")
}

fn blocking_call(py: Python<'_>, method: &str, origin: &str) -> PyErr {
    names::blocking_call_error(py)
        .and_then(|make| make.call1((format!("{method} {origin}"),)))
        .map_or_else(|error| error, PyErr::from_value)
}

fn prepare(
    method: &str,
    origin: &str,
    target: &Bound<'_, PyAny>,
    headers: &Bound<'_, PyAny>,
    body: Option<&Bound<'_, PyAny>>,
    (connect, read, write, pool): TimeoutTuple,
    way: &str,
) -> PyResult<Request> {
    let refuse = |what: &str, error: &dyn std::fmt::Display| {
        PyValueError::new_err(format!("{what} can't be used: {error}"))
    };
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|error| refuse("the method", &error))?;
    let url = Url::parse(origin).map_err(|error| refuse("the origin", &error))?;
    let target = with_latin1(target, |bytes| PathAndQuery::try_from(bytes))?;
    let target = target.map_err(|error| refuse("the target", &error))?;
    let way = match way.strip_prefix("unix:") {
        Some(path) => Way::Unix(path.into()),
        None if way.is_empty() => Way::Direct,
        None => {
            let proxy = Proxy::parse(way).map_err(|error| refuse("the proxy", &error))?;
            Way::Proxy(Arc::new(proxy))
        }
    };
    Ok(Request {
        target: Some(target),
        headers: Arc::new(header_map(headers, &url)?),
        body: content(body)?,
        timeouts: Timeouts {
            connect: connect.map(duration).transpose()?,
            read: read.map(duration).transpose()?,
            write: write.map(duration).transpose()?,
            pool: pool.map(duration).transpose()?,
            total: None,
        },
        redirects: None,
        way,
        is_plain: true,
        is_streamed: true,
        ..Request::new(method, url)
    })
}

/// The headers, with that of the host in front (RFC 9110 section 7.2) if there is none.
fn header_map(headers: &Bound<'_, PyAny>, url: &Url) -> PyResult<HeaderMap> {
    let mut map = HeaderMap::with_capacity(headers.len().unwrap_or_default() + 1);
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let host = HeaderValue::from_str(host)
        .map_err(|error| PyValueError::new_err(format!("the host can't be used: {error}")))?;
    map.insert(header::HOST, host);
    let mut has_own_host = false;
    for pair in headers.try_iter()? {
        let pair = pair?.cast_into::<PyTuple>()?;
        let (name, value) = (pair.get_borrowed_item(0)?, pair.get_borrowed_item(1)?);
        let parsed_name = with_latin1(&name, HeaderName::from_bytes)?;
        let parsed_value = with_latin1(&value, |bytes| {
            // Servers take such whitespace away, so libraries refuse it, or have reasons.
            let is_padded = [bytes.first(), bytes.last()]
                .into_iter()
                .flatten()
                .any(|byte| matches!(byte, b' ' | b'\t'));
            (!is_padded)
                .then(|| HeaderValue::from_bytes(bytes).ok())
                .flatten()
                .ok_or(())
        })?;
        match (parsed_name, parsed_value) {
            (Ok(header::HOST), Ok(value)) if !has_own_host => {
                has_own_host = true;
                map.insert(header::HOST, value);
            }
            (Ok(header::UPGRADE), _) => {
                // Who asks for another protocol wants the socket itself.
                let message = "another protocol is asked for: Upgrade";
                return Err(PyValueError::new_err(message));
            }
            (Ok(name), Ok(value)) => {
                map.append(name, value);
            }
            _ => {
                let message = format!("{name:?}: {value:?} can't be a header");
                return Err(PyValueError::new_err(message));
            }
        }
    }
    Ok(map)
}

/// Text as Latin-1, as `http.client` does, or bytes as they are.
fn with_latin1<T>(part: &Bound<'_, PyAny>, function: impl FnOnce(&[u8]) -> T) -> PyResult<T> {
    let py = part.py();
    let Ok(text) = part.cast::<PyString>() else {
        return Ok(function(part.cast::<PyBytes>()?.as_bytes()));
    };
    match text.to_str() {
        Ok(ascii) if ascii.is_ascii() => Ok(function(ascii.as_bytes())),
        _ => {
            let encoded = text.call_method1(intern!(py, "encode"), (intern!(py, "latin-1"),))?;
            Ok(function(encoded.cast::<PyBytes>()?.as_bytes()))
        }
    }
}

/// Makes a call, unless it is cancelled, and settles its promise.
async fn run(
    household: Arc<Household>,
    request: Request,
    cancelled: oneshot::Receiver<()>,
    pending: PendingPromise,
) {
    let client = home::client_here(&household);
    tokio::select! {
        biased;
        Ok(()) = cancelled => {}
        outcome = make(client, request) => {
            Python::attach(|py| match settle(py, outcome) {
                Ok(response) => pending.fulfil(py, response),
                Err(error) => pending.reject(py, error),
            });
        }
    }
}

/// A response with as much content as came with its head.
struct Made {
    response: carboy_client::Response,
    ready: Vec<Bytes>,
    /// Why nothing follows that.
    error: Option<Error>,
    timings: Timings,
}

async fn make(client: Client, request: Request) -> Result<Made, Error> {
    let mut response = client.send(request).await?;
    // Of content that is larger anyway, nothing is taken before somebody wants it: who keeps a
    // piece keeps the memory that the connection reads into.
    let is_large = response.body.least_left_bytes() > READY_BYTES as u64;
    let (ready, error) = if is_large {
        (Vec::new(), None)
    } else {
        read_ready(&mut response.body).await
    };
    let mut timings = response.body.timings();
    if !response.body.is_at_end() {
        timings.content = None;
    }
    Ok(Made {
        response,
        ready,
        error,
        timings,
    })
}

/// Reads content for which nobody has to wait, in pieces.
pub(super) async fn read_ready(body: &mut ResponseBody) -> (Vec<Bytes>, Option<Error>) {
    let mut ready = Vec::new();
    let mut size = 0;
    let mut has_yielded = false;
    while !body.is_at_end() && size < READY_BYTES {
        let piece = {
            let mut next = pin!(body.chunk());
            poll_fn(|context| {
                Poll::Ready(match next.as_mut().poll(context) {
                    Poll::Ready(piece) => Some(piece),
                    Poll::Pending => None,
                })
            })
            .await
        };
        match piece {
            Some(Ok(Some(piece))) => {
                size += piece.len();
                ready.push(piece);
            }
            Some(Err(failure)) => return (ready, Some(failure)),
            // The connection's task may have more of what was read with the head.
            None if !has_yielded => {
                has_yielded = true;
                tokio::task::yield_now().await;
            }
            None | Some(Ok(None)) => break,
        }
    }
    (ready, None)
}

fn settle(py: Python<'_>, outcome: Result<Made, Error>) -> PyResult<Py<PyAny>> {
    let Made {
        response,
        ready,
        error,
        timings,
    } = outcome.map_err(|error| exception(py, &error, &py.None()))?;
    let failure = error.map(|error| exception(py, &error, &py.None()));
    let rest = if response.body.is_at_end() || failure.is_some() {
        None
    } else {
        let (stream, reader) =
            ContentStream::new(response.body, CallRequest::Made(py.None()), None);
        runtime::spawn(reader);
        Some(Rest::Loop(stream))
    };
    let response = PlainResponse::new(*response.head, ready, failure, rest, timings);
    Ok(Py::new(py, response)?.into_any())
}
