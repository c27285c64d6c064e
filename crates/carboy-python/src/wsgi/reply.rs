//! The answer on its way from Python to the connection.

use bytes::Bytes;
use carboy_server::{Admission, Disconnected, ReasonPhrase, Response, ResponseBody, StreamSender};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use tokio::sync::oneshot;

use crate::attach::detached;

/// The status and the headers of a response.
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// The reason phrase, where it is not the usual one.
    reason: Option<ReasonPhrase>,
    pub(crate) headers: HeaderMap,
}

impl Head {
    /// From what an application passes to `start_response` (PEP 3333).
    ///
    /// # Errors
    ///
    /// `TypeError` and `ValueError` that name the bad part.
    pub(crate) fn parse(status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<Self> {
        let text = status.cast::<PyString>().map_err(|_| {
            PyTypeError::new_err(format!(
                "the status must be a str, not {}",
                type_name(status)
            ))
        })?;
        let (status, reason) = parse_status(text.to_str()?)?;
        let mut map = HeaderMap::with_capacity(headers.len().unwrap_or_default() + 1);
        for header in headers.try_iter()? {
            let header = header?;
            let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) =
                header.extract().map_err(|_| {
                    PyTypeError::new_err("each header must be a tuple of a name and a value")
                })?;
            let name = parse_name(&name)?;
            // The framing is the server's.
            if name == TRANSFER_ENCODING {
                continue;
            }
            let value = parse_value(&name, &value)?;
            map.append(name, value);
        }
        Ok(Self {
            status,
            reason,
            headers: map,
        })
    }

    /// A head with one of the usual reasons.
    pub(crate) fn new(status: StatusCode, headers: HeaderMap) -> Self {
        Self {
            status,
            reason: None,
            headers,
        }
    }

    /// The length that the application has stated for the body.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.headers
            .get(CONTENT_LENGTH)?
            .to_str()
            .ok()?
            .parse()
            .ok()
    }

    fn into_response(self, body: ResponseBody) -> Response {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if let Some(reason) = self.reason {
            response.extensions_mut().insert(reason);
        }
        response
    }
}

fn type_name(object: &Bound<'_, PyAny>) -> String {
    object
        .get_type()
        .name()
        .map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

fn parse_status(text: &str) -> PyResult<(StatusCode, Option<ReasonPhrase>)> {
    let (code, reason) = text.split_once(' ').unwrap_or((text, ""));
    let status = code
        .parse::<StatusCode>()
        .map_err(|_| PyValueError::new_err(format!("{text:?} is not an HTTP status")))?;
    let usual = status.canonical_reason().unwrap_or_default();
    if reason == usual {
        return Ok((status, None));
    }
    let reason = ReasonPhrase::try_from(encode_latin1("reason phrase", reason)?)
        .map_err(|_| PyValueError::new_err(format!("{text:?} is not an HTTP status")))?;
    Ok((status, Some(reason)))
}

/// One byte per character, as PEP 3333 has its strings.
fn encode_latin1(what: &str, text: &str) -> PyResult<Vec<u8>> {
    text.chars()
        .map(|character| {
            u8::try_from(u32::from(character)).map_err(|_| {
                PyValueError::new_err(format!(
                    "the {what} holds {character:?}, which latin-1 does not have"
                ))
            })
        })
        .collect()
}

fn parse_name(name: &Bound<'_, PyAny>) -> PyResult<HeaderName> {
    let text = name.cast::<PyString>().map_err(|_| {
        PyTypeError::new_err(format!(
            "a header's name must be a str, not {}",
            type_name(name)
        ))
    })?;
    let text = text.to_str()?;
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| PyValueError::new_err(format!("{text:?} is not a header's name")))
}

fn parse_value(name: &HeaderName, value: &Bound<'_, PyAny>) -> PyResult<HeaderValue> {
    let text = value.cast::<PyString>().map_err(|_| {
        PyTypeError::new_err(format!(
            "the value of header {name} must be a str, not {}",
            type_name(value)
        ))
    })?;
    let text = text.to_str()?;
    let invalid = || {
        PyValueError::new_err(format!(
            "the value of header {name} holds a control character"
        ))
    };
    if text.is_ascii() {
        return HeaderValue::from_str(text).map_err(|_| invalid());
    }
    HeaderValue::from_bytes(&encode_latin1("value of a header", text)?).map_err(|_| invalid())
}

/// Where the answer to one request goes.
///
/// States: nothing sent; head sent with a stream behind it; complete.
pub(crate) struct Responder {
    /// Whether the request is a HEAD request: its response has no body to tell a length from.
    answers_head: bool,
    head: Option<oneshot::Sender<Response>>,
    stream: Option<StreamSender>,
    /// The request's place among those in progress, as long as somebody works on the answer.
    _admission: Admission,
}

impl Responder {
    /// A responder and the end at which its connection waits.
    pub(crate) fn new(
        method: &Method,
        admission: Admission,
    ) -> (Self, oneshot::Receiver<Response>) {
        let (sender, receiver) = oneshot::channel();
        let answers_head = method == Method::HEAD;
        (
            Self {
                answers_head,
                head: Some(sender),
                stream: None,
                _admission: admission,
            },
            receiver,
        )
    }

    /// One that stands in a place whose responder is in use.
    pub(crate) fn closed() -> Self {
        Self {
            answers_head: false,
            head: None,
            stream: None,
            _admission: Admission::default(),
        }
    }

    /// Whether the head is on its way.
    pub(crate) fn is_begun(&self) -> bool {
        self.head.is_none()
    }

    /// Sends a whole response at once. A client that has gone is not an error.
    pub(crate) fn send_whole(&mut self, head: Head, content: Bytes) {
        if let Some(sender) = self.head.take() {
            sender
                .send(head.into_response(ResponseBody::full(content)))
                .ok();
        }
    }

    /// Sends a response whose body turned out to be empty.
    pub(crate) fn send_without_content(&mut self, head: Head) {
        if self.answers_head && head.content_length().is_none() {
            // The length of what GET would give is not known (RFC 9110 section 8.6).
            if self.begin(head).is_ok() {
                self.finish();
            }
        } else {
            self.send_whole(head, Bytes::new());
        }
    }

    /// Sends the head; the body follows in chunks.
    ///
    /// # Errors
    ///
    /// When the client has gone.
    pub(crate) fn begin(&mut self, head: Head) -> Result<(), Disconnected> {
        let (stream, body) = ResponseBody::stream();
        let sender = self.head.take().ok_or(Disconnected)?;
        sender
            .send(head.into_response(body))
            .map_err(|_| Disconnected)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Sends a chunk and waits, with the GIL given back, while the client is behind.
    ///
    /// # Errors
    ///
    /// When the client has gone.
    pub(crate) fn send_chunk(&mut self, py: Python<'_>, chunk: Bytes) -> Result<(), Disconnected> {
        let stream = self.stream.as_mut().ok_or(Disconnected)?;
        detached(py, || stream.send_blocking(chunk))
    }

    /// Ends a streamed body.
    pub(crate) fn finish(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.finish();
        }
    }

    /// Breaks the response off: the client learns that it is not whole.
    pub(crate) fn abort(&mut self) {
        self.head.take();
        self.stream.take();
    }
}
