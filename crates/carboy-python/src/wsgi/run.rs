//! Calls a WSGI application on a worker's thread and passes its answer on: the place where
//! a `def` view's bytes leave Python.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyMemoryView, PyTuple};

use super::InputStream;
use super::reply::{Head, Responder};
use super::start_response::StartResponse;
use crate::names;
use crate::worker::current_input;

/// Serves one request with a WSGI application, to the last `close()`.
///
/// The request's context must be the current one. Every failure is answered and logged.
pub(crate) fn serve_wsgi(
    py: Python<'_>,
    application: &Bound<'_, PyAny>,
    environ: &Bound<'_, PyDict>,
    responder: Responder,
) {
    serve_by(py, environ, responder, |start_response| {
        application.call1((environ, start_response))
    });
}

/// As `serve_wsgi`, with what `respond` returns in the place of an application's iterable.
pub(crate) fn serve_by<'py>(
    py: Python<'py>,
    environ: &Bound<'py, PyDict>,
    responder: Responder,
    respond: impl FnOnce(&Bound<'py, StartResponse>) -> PyResult<Bound<'py, PyAny>>,
) {
    let start_response = match Bound::new(py, StartResponse::new(responder)) {
        Ok(start_response) => start_response,
        Err(error) => return report(py, environ, error),
    };
    let outcome = respond(&start_response).and_then(|iterable| {
        let delivered = deliver_iterable(&iterable, &start_response);
        // PEP 3333: close() is called once, whatever happened.
        let closed = close(&iterable);
        delivered.and(closed)
    });
    if let Err(error) = outcome {
        let (_, mut responder) = start_response.get().take();
        fail(py, environ, error, &mut responder);
    }
}

/// Calls `close()` of a body, if it has one.
pub(crate) fn close(iterable: &Bound<'_, PyAny>) -> PyResult<()> {
    match iterable.getattr_opt(pyo3::intern!(iterable.py(), "close"))? {
        Some(close) => close.call0().map(drop),
        None => Ok(()),
    }
}

/// Passes the body on. A client that has gone ends it early and is not an error.
///
/// # Errors
///
/// What the iterable raises, and a missing `start_response`.
fn deliver_iterable(
    iterable: &Bound<'_, PyAny>,
    start_response: &Bound<'_, StartResponse>,
) -> PyResult<()> {
    let py = iterable.py();
    // One that has a length and holds one chunk says how long the body is (PEP 3333).
    let holds_one = if let Ok(list) = iterable.cast::<PyList>() {
        list.len() == 1
    } else if let Ok(tuple) = iterable.cast::<PyTuple>() {
        tuple.len() == 1
    } else {
        false
    };
    for chunk in iterable.try_iter()? {
        let chunk = chunk?;
        let content = chunk_content(&chunk)?;
        if content.is_empty() {
            continue;
        }
        let (head, mut responder) = start_response.get().take();
        let sent = match head {
            Some(mut head) => {
                let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
                if holds_one && head.content_length().is_none() {
                    head.headers
                        .insert(CONTENT_LENGTH, HeaderValue::from(length));
                }
                if head.content_length() == Some(length) {
                    responder.send_whole(head, content);
                    Ok(())
                } else {
                    responder
                        .begin(head)
                        .and_then(|()| responder.send_chunk(py, content))
                }
            }
            None if responder.is_begun() => responder.send_chunk(py, content),
            None => {
                give_back(start_response, responder);
                return Err(missing_head());
            }
        };
        give_back(start_response, responder);
        if sent.is_err() {
            return Ok(());
        }
    }
    let (head, mut responder) = start_response.get().take();
    match head {
        Some(head) => responder.send_without_content(head),
        None if responder.is_begun() => responder.finish(),
        None => {
            give_back(start_response, responder);
            return Err(missing_head());
        }
    }
    Ok(())
}

/// Passes on a body that is complete, in one piece: on the loop's thread nothing may wait
/// for the client.
///
/// # Errors
///
/// As [`deliver_iterable`].
pub(crate) fn deliver_complete(
    iterable: &Bound<'_, PyAny>,
    start_response: &Bound<'_, StartResponse>,
) -> PyResult<()> {
    let mut content = Vec::new();
    for chunk in iterable.try_iter()? {
        content.extend_from_slice(&chunk_content(&chunk?)?);
    }
    let (head, mut responder) = start_response.get().take();
    let head = head.ok_or_else(missing_head)?;
    if content.is_empty() {
        responder.send_without_content(head);
    } else {
        responder.send_whole(head, Bytes::from(content));
    }
    Ok(())
}

/// The bytes of a chunk. Flask passes a view's `bytearray` on as it is.
fn chunk_content(chunk: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(content) = chunk.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(content.as_bytes()));
    }
    if chunk.is_instance_of::<PyByteArray>() || chunk.is_instance_of::<PyMemoryView>() {
        let content = chunk.py().get_type::<PyBytes>().call1((chunk,))?;
        return Ok(Bytes::copy_from_slice(
            content.cast::<PyBytes>()?.as_bytes(),
        ));
    }
    Err(PyTypeError::new_err(format!(
        "a WSGI application must yield bytes, not {}",
        chunk.get_type()
    )))
}

fn missing_head() -> PyErr {
    PyAssertionError::new_err("the WSGI application did not call start_response")
}

fn give_back(start_response: &Bound<'_, StartResponse>, responder: Responder) {
    start_response.get().give_back(responder);
}

/// Answers a request whose application failed, and logs the failure.
pub(crate) fn fail(
    py: Python<'_>,
    environ: &Bound<'_, PyDict>,
    error: PyErr,
    responder: &mut Responder,
) {
    if responder.is_begun() {
        responder.abort();
    } else {
        responder.send_whole(internal_server_error(), Bytes::from_static(MESSAGE));
    }
    report(py, environ, error);
}

const MESSAGE: &[u8] = b"Internal Server Error\n";

fn internal_server_error() -> Head {
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CONTENT_LENGTH, HeaderValue::from(MESSAGE.len()));
    Head::new(StatusCode::INTERNAL_SERVER_ERROR, headers)
}

fn report(py: Python<'_>, environ: &Bound<'_, PyDict>, error: PyErr) {
    let has_gone = has_client_gone(py, environ);
    let logged =
        names::log_failure(py).and_then(|log| log.call1((environ, error.value(py), has_gone)));
    if let Err(failure) = logged {
        failure.write_unraisable(py, None);
    }
}

/// Whether the client of the request itself is known to have gone. A promise that requests
/// share may have ended because another one's client went.
fn has_client_gone(py: Python<'_>, environ: &Bound<'_, PyDict>) -> bool {
    let of_environ = environ.get_item(intern!(py, "wsgi.input")).ok().flatten();
    let of_environ = of_environ.and_then(|input| input.cast_into::<InputStream>().ok());
    let input = of_environ.map(Bound::unbind).or_else(|| current_input(py));
    let request = input.and_then(|input| input.get().request().map(Arc::clone));
    request.is_some_and(|request| request.life.is_client_gone())
}
