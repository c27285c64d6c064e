//! `wsgi.input`: the body of a request as a file.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use carboy_server::{BodyError, BodyReader};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::RequestHead;
use crate::attach::detached;
use crate::ffi::thread_state;
use crate::names;

/// A body that has to be complete before async code runs is kept in memory up to this
/// size, and in a temporary file beyond it.
const COLLECTED_IN_MEMORY_BYTES: usize = 1024 * 1024;

#[derive(Default)]
struct State {
    /// What has arrived and was not read yet.
    chunks: VecDeque<Bytes>,
    /// Where the rest comes from; none when all has arrived.
    reader: Option<BodyReader>,
    /// The rest, once it was collected into a file.
    file: Option<Py<PyAny>>,
    /// Why there will be no rest. It is raised where the body ends, each time.
    failure: Option<BodyError>,
}

/// The body of a request. Reading waits for what has not arrived yet, with the GIL given
/// back; a body that breaks off raises `werkzeug.exceptions.ClientDisconnected` and never
/// looks like a whole one.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct InputStream {
    state: Mutex<State>,
    /// The request, by which the server finds it again from its environ.
    request: Option<Arc<RequestHead>>,
}

impl InputStream {
    /// A body that has arrived completely.
    pub(crate) fn complete(content: Bytes) -> Self {
        let chunks = if content.is_empty() {
            VecDeque::new()
        } else {
            VecDeque::from([content])
        };
        Self {
            state: Mutex::new(State {
                chunks,
                ..State::default()
            }),
            request: None,
        }
    }

    /// A body that is still arriving.
    pub(crate) fn arriving(reader: BodyReader) -> Self {
        Self {
            state: Mutex::new(State {
                reader: Some(reader),
                ..State::default()
            }),
            request: None,
        }
    }

    /// A body that broke off before anything of it was handed over.
    pub(crate) fn failed(failure: BodyError) -> Self {
        Self {
            state: Mutex::new(State {
                failure: Some(failure),
                ..State::default()
            }),
            request: None,
        }
    }

    /// The body of this request.
    pub(crate) fn of(mut self, request: &Arc<RequestHead>) -> Self {
        self.request = Some(Arc::clone(request));
        self
    }

    /// The request that it is the body of.
    pub(crate) fn request(&self) -> Option<&Arc<RequestHead>> {
        self.request.as_ref()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for one more chunk; false at the end of the body.
    fn receive(&self, py: Python<'_>) -> PyResult<bool> {
        let reader = {
            let mut state = self.state();
            if let Some(failure) = &state.failure {
                let failure = failure.clone();
                drop(state);
                return Err(body_error(py, &failure));
            }
            state.reader.take()
        };
        let Some(mut reader) = reader else {
            return Ok(false);
        };
        if thread_state::is_driving() {
            self.state().reader = Some(reader);
            return Err(PyRuntimeError::new_err(
                "the request's body is still arriving, and the event loop's thread must not \
                 wait for it",
            ));
        }
        // The lock is not held during the wait.
        let (reader, outcome) = detached(py, move || {
            let outcome = reader.read_chunk_blocking();
            (reader, outcome)
        });
        let mut state = self.state();
        match outcome {
            Ok(Some(chunk)) => {
                state.chunks.push_back(chunk);
                state.reader = Some(reader);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(failure) => {
                state.failure = Some(failure.clone());
                drop(state);
                Err(body_error(py, &failure))
            }
        }
    }

    /// Waits until the body has arrived completely, so that async code can read it without
    /// waiting. A failure is kept for the one who reads.
    pub(crate) fn collect(&self, py: Python<'_>) -> PyResult<()> {
        let mut size: usize = self.state().chunks.iter().map(Bytes::len).sum();
        loop {
            {
                let state = self.state();
                if state.reader.is_none() {
                    return Ok(());
                }
            }
            match self.receive(py) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // Kept in the state.
                Err(_) if self.state().failure.is_some() => return Ok(()),
                Err(error) => return Err(error),
            }
            size += self.state().chunks.back().map_or(0, Bytes::len);
            if size > COLLECTED_IN_MEMORY_BYTES {
                return self.collect_into_file(py);
            }
        }
    }

    fn collect_into_file(&self, py: Python<'_>) -> PyResult<()> {
        let file = names::temporary_file(py)?.call0()?;
        loop {
            let chunks = std::mem::take(&mut self.state().chunks);
            for chunk in chunks {
                file.call_method1("write", (PyBytes::new(py, &chunk),))?;
            }
            match self.receive(py) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) if self.state().failure.is_some() => break,
                Err(error) => return Err(error),
            }
        }
        file.call_method1("seek", (0,))?;
        self.state().file = Some(file.unbind());
        Ok(())
    }

    /// Lets go of what is held of the body, at the end of the request.
    pub(crate) fn release(&self, py: Python<'_>) -> PyResult<()> {
        let (file, chunks, reader) = {
            let mut state = self.state();
            (
                state.file.take(),
                std::mem::take(&mut state.chunks),
                state.reader.take(),
            )
        };
        drop((chunks, reader));
        match file {
            Some(file) => file.call_method0(py, "close").map(drop),
            None => Ok(()),
        }
    }

    fn file(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state().file.as_ref().map(|file| file.clone_ref(py))
    }

    /// What a read of the collected file gives; at its end, a failure of the body is raised.
    fn read_file(
        &self,
        py: Python<'_>,
        file: &Py<PyAny>,
        method: &str,
        size: Option<i64>,
    ) -> PyResult<Py<PyAny>> {
        let content = file.call_method1(py, method, (size.unwrap_or(-1),))?;
        let Some(failure) = self.state().failure.clone() else {
            return Ok(content);
        };
        // A read that came to the end of what there is got less than there should be.
        let wanted = size.and_then(|size| usize::try_from(size).ok());
        let bytes = content.bind(py).cast::<PyBytes>()?.as_bytes();
        let is_whole_line = method == "readline" && bytes.ends_with(b"\n");
        if is_whole_line || wanted.is_some_and(|wanted| bytes.len() >= wanted) {
            Ok(content)
        } else {
            Err(body_error(py, &failure))
        }
    }

    /// Takes `size` bytes from the front of what has arrived.
    fn take(&self, py: Python<'_>, size: usize) -> Py<PyAny> {
        let mut state = self.state();
        if state
            .chunks
            .front()
            .is_some_and(|chunk| chunk.len() == size)
        {
            let chunk = state.chunks.pop_front().unwrap_or_default();
            drop(state);
            return PyBytes::new(py, &chunk).into_any().unbind();
        }
        let mut content = Vec::with_capacity(size);
        while content.len() < size
            && let Some(chunk) = state.chunks.front_mut()
        {
            let part = chunk.len().min(size - content.len());
            content.extend_from_slice(&chunk[..part]);
            chunk.advance(part);
            if chunk.is_empty() {
                state.chunks.pop_front();
            }
        }
        drop(state);
        PyBytes::new(py, &content).into_any().unbind()
    }
}

/// The exception for a body that is not whole.
fn body_error(py: Python<'_>, failure: &BodyError) -> PyErr {
    let class = match failure {
        BodyError::TooLarge { .. } => names::request_entity_too_large(py),
        _ => names::client_disconnected(py),
    };
    class
        .and_then(|class| class.call1((failure.to_string(),)))
        .map_or_else(|error| error, PyErr::from_value)
}

#[pymethods]
impl InputStream {
    /// Reads `size` bytes, or to the end of the body.
    ///
    /// Raises `werkzeug.exceptions.ClientDisconnected` when the body breaks off and
    /// `RequestEntityTooLarge` when it exceeds the server's limit.
    #[pyo3(signature = (size = None, /))]
    fn read(&self, py: Python<'_>, size: Option<i64>) -> PyResult<Py<PyAny>> {
        if let Some(file) = self.file(py) {
            return self.read_file(py, &file, "read", size);
        }
        let wanted = size
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(usize::MAX);
        let mut arrived: usize = self.state().chunks.iter().map(Bytes::len).sum();
        while arrived < wanted && self.receive(py)? {
            arrived += self.state().chunks.back().map_or(0, Bytes::len);
        }
        Ok(self.take(py, arrived.min(wanted)))
    }

    /// Reads up to and including the next line feed, at most `size` bytes.
    #[pyo3(signature = (size = None, /))]
    fn readline(&self, py: Python<'_>, size: Option<i64>) -> PyResult<Py<PyAny>> {
        if let Some(file) = self.file(py) {
            return self.read_file(py, &file, "readline", size);
        }
        let wanted = size
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(usize::MAX);
        let mut arrived = 0;
        let mut searched_chunks = 0;
        loop {
            {
                let state = self.state();
                for chunk in state.chunks.iter().skip(searched_chunks) {
                    let end = chunk.iter().position(|byte| *byte == b'\n');
                    arrived += end.map_or(chunk.len(), |end| end + 1);
                    searched_chunks += 1;
                    if end.is_some() || arrived >= wanted {
                        drop(state);
                        return Ok(self.take(py, arrived.min(wanted)));
                    }
                }
            }
            if !self.receive(py)? {
                return Ok(self.take(py, arrived));
            }
        }
    }

    /// Reads all lines, or lines of at least `hint` bytes together.
    #[pyo3(signature = (hint = None, /))]
    fn readlines(&self, py: Python<'_>, hint: Option<i64>) -> PyResult<Vec<Py<PyAny>>> {
        let enough = hint
            .and_then(|hint| usize::try_from(hint).ok())
            .filter(|hint| *hint > 0);
        let mut lines = Vec::new();
        let mut size = 0;
        while enough.is_none_or(|enough| size < enough) {
            let line = self.readline(py, None)?;
            let length = line.bind(py).len()?;
            if length == 0 {
                break;
            }
            size += length;
            lines.push(line);
        }
        Ok(lines)
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let line = self.readline(py, None)?;
        Ok(if line.bind(py).len()? == 0 {
            None
        } else {
            Some(line)
        })
    }

    /// Reads into a writable buffer and returns the number of bytes.
    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let content = self.read(py, Some(i64::try_from(buffer.len()?).unwrap_or(i64::MAX)))?;
        let length = content.bind(py).len()?;
        let view = names::memory_view(py)?.call1((buffer,))?;
        crate::ffi::buffer::part(&view, 0, length)?
            .set_item(pyo3::types::PySlice::full(py), content)?;
        Ok(length)
    }

    /// Does nothing: the body belongs to the server.
    #[expect(clippy::unused_self, reason = "a method of files")]
    fn close(&self) {}
}
