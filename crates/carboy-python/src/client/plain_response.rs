//! A response for another HTTP library: as it came.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use carboy_client::{ResponseHead, Timings};
use http::Version;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};

use super::content::{ContentStream, Everything};
use super::response::timings_by_name;
use super::rest::BlockingRest;
use super::whole_content::joined;
use crate::promise::{Promise, wait_in_any_code};

/// A response's head, the content that came with it, and where the rest comes from.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct PlainResponse {
    head: ResponseHead,
    /// Until it is taken: nobody is to keep the content twice.
    ready: Mutex<Vec<Bytes>>,
    /// What is raised instead of further content.
    failure: Mutex<Option<PyErr>>,
    rest: Option<Rest>,
    timings: Timings,
}

/// Where the rest of the content comes from.
pub(super) enum Rest {
    /// The loop that made the call.
    Loop(ContentStream),
    /// The thread for blocking calls.
    Thread(BlockingRest),
}

impl PlainResponse {
    pub(super) fn new(
        head: ResponseHead,
        ready: Vec<Bytes>,
        failure: Option<PyErr>,
        rest: Option<Rest>,
        timings: Timings,
    ) -> Self {
        Self {
            head,
            ready: Mutex::new(ready),
            failure: Mutex::new(failure),
            rest,
            timings,
        }
    }

    /// Names and values of the fields: as they came, or in lower case where HTTP says so.
    fn fields(&self) -> Vec<(&[u8], &[u8])> {
        match &self.head.raw {
            Some(raw) => raw.fields().collect(),
            None => self
                .head
                .headers
                .iter()
                .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
                .collect(),
        }
    }
}

fn read_by_blocking_calls() -> PyErr {
    PyTypeError::new_err("the response of a blocking call is read by blocking calls")
}

/// Bytes as text in Latin-1.
fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => PyString::new(py, text),
        _ => {
            let text: String = bytes.iter().copied().map(char::from).collect();
            PyString::new(py, &text)
        }
    }
}

#[pymethods]
impl PlainResponse {
    /// The status, a number.
    #[getter]
    fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// The reason phrase, or the usual one.
    #[getter]
    fn reason<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let usual = || self.head.status.canonical_reason().unwrap_or_default();
        match &self.head.reason {
            Some(reason) => PyBytes::new(py, reason),
            None if self.head.version == Version::HTTP_2 => PyBytes::new(py, b""),
            None => PyBytes::new(py, usual().as_bytes()),
        }
    }

    /// The version of HTTP: 10, 11 or 20.
    #[getter]
    fn version(&self) -> u8 {
        match self.head.version {
            Version::HTTP_2 => 20,
            Version::HTTP_10 => 10,
            _ => 11,
        }
    }

    /// Return the content that came with the head, the first time.
    fn take_ready<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        joined(py, std::mem::take(&mut *self.lock_ready()).iter())
    }

    /// How many bytes of content came with the head and were not taken.
    #[getter]
    fn ready_size(&self) -> usize {
        self.lock_ready().iter().map(Bytes::len).sum()
    }

    /// Whether that is all there is.
    #[getter]
    fn is_complete(&self) -> bool {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        self.rest.is_none() && failure.is_none()
    }

    /// How long each phase took until the response was here, in seconds; ``None`` for what did not
    /// happen. The content is among them if all of it came with the head.
    fn timings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        timings_by_name(py, &self.timings)
    }

    /// Return the fields as pairs of bytes.
    fn pairs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for (name, value) in self.fields() {
            list.append((PyBytes::new(py, name), PyBytes::new(py, value)))?;
        }
        Ok(list)
    }

    /// Return the fields as httpx keeps them: the name as it came and in lower case, and the value.
    fn triples<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for (name, value) in self.fields() {
            let key = PyBytes::new(py, &name.to_ascii_lowercase());
            list.append((PyBytes::new(py, name), key, PyBytes::new(py, value)))?;
        }
        Ok(list)
    }

    /// Return the fields as urllib3 keeps them: by name in lower case, a list of the name as it
    /// came and the values.
    fn lists_by_name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let lists = PyDict::new(py);
        for (name, value) in self.fields() {
            let value = latin1(py, value);
            let key = latin1(py, &name.to_ascii_lowercase());
            match lists.get_item(&key)? {
                Some(known) => known.cast_into::<PyList>()?.append(value)?,
                None => lists.set_item(key, PyList::new(py, [latin1(py, name), value])?)?,
            }
        }
        Ok(lists)
    }

    /// Wait for the next piece of the rest of the content and return it; ``None`` at the end.
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.raise_failure()?;
        match &self.rest {
            Some(Rest::Thread(rest)) => Ok(match rest.next(py)? {
                Some(piece) => PyBytes::new(py, &piece).into_any(),
                None => py.None().into_bound(py),
            }),
            Some(Rest::Loop(stream)) => {
                let piece = wait_in_any_code(py, &stream.next(py)?)?;
                Ok(piece.into_bound(py))
            }
            None => Ok(py.None().into_bound(py)),
        }
    }

    /// Wait for all of the rest of the content, and return it behind what came with the head,
    /// and the error that has ended it, or ``None``.
    ///
    /// Code that wants everything waits once for it, and not once for each piece.
    fn read_all<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, Option<Py<PyAny>>)> {
        let ready = std::mem::take(&mut *self.lock_ready());
        let (whole, failure) = match (self.raise_failure(), &self.rest) {
            (Err(failure), _) => (
                joined(py, ready.iter())?,
                Some(failure.into_value(py).into_any()),
            ),
            (Ok(()), Some(Rest::Thread(rest))) => {
                let (whole, failure) = rest.all(py, ready)?;
                let failure = failure.map(|failure| failure.into_value(py).into_any());
                (joined(py, whole.pieces())?, failure)
            }
            (Ok(()), Some(Rest::Loop(stream))) => {
                let everything = wait_in_any_code(py, &stream.all(py, ready)?)?;
                everything
                    .cast_bound::<Everything>(py)?
                    .get()
                    .for_python(py)?
            }
            (Ok(()), None) => (joined(py, ready.iter())?, None),
        };
        Ok((whole, failure))
    }

    /// Return the promise of the next piece of the rest, or ``None`` if there is no rest.
    ///
    /// Raises:
    ///     ``TypeError``: For a response that was waited for: it is read by ``read``.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Py<Promise>>> {
        self.raise_failure()?;
        match &self.rest {
            Some(Rest::Loop(stream)) => stream.next(py).map(Some),
            Some(Rest::Thread(_)) => Err(read_by_blocking_calls()),
            None => Ok(None),
        }
    }

    /// Return the promise of all of the content, for ``whole``, or ``None`` if all of it came with
    /// the head.
    ///
    /// Raises:
    ///     ``TypeError``: For a response that was waited for: it is read by ``read_all``.
    fn everything_soon(&self, py: Python<'_>) -> PyResult<Option<Py<Promise>>> {
        match &self.rest {
            Some(Rest::Loop(stream)) => {
                let ready = std::mem::take(&mut *self.lock_ready());
                stream.all(py, ready).map(Some)
            }
            Some(Rest::Thread(_)) => Err(read_by_blocking_calls()),
            None => Ok(None),
        }
    }

    /// Return all of the content that nobody has taken, and the error that has ended it, or
    /// ``None``.
    ///
    /// Args:
    ///     everything: What ``everything_soon`` has promised.
    fn whole<'py>(
        &self,
        py: Python<'py>,
        everything: Option<&Bound<'py, Everything>>,
    ) -> PyResult<(Bound<'py, PyBytes>, Option<Py<PyAny>>)> {
        if let Some(everything) = everything {
            return everything.get().for_python(py);
        }
        let ready = joined(py, std::mem::take(&mut *self.lock_ready()).iter())?;
        let failure = self.raise_failure().err();
        Ok((ready, failure.map(|it| it.into_value(py).into_any())))
    }

    /// Let go of content that is not read.
    fn close(&self) {
        match &self.rest {
            Some(Rest::Loop(stream)) => stream.close(),
            Some(Rest::Thread(rest)) => rest.close(),
            None => {}
        }
    }
}

impl PlainResponse {
    fn lock_ready(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raise_failure(&self) -> PyResult<()> {
        let failure = {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.take()
        };
        failure.map_or(Ok(()), Err)
    }
}
