//! The cryptography of one connection: an `ssl.SSLObject` and its two buffers.

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::names;

/// What a call of the SSL object has said.
pub(super) enum Answer<T> {
    Done(T),
    /// It needs more bytes of the peer.
    Again,
}

/// An `ssl.SSLObject` with the methods that are called for each message.
pub(super) struct Engine {
    object: Py<PyAny>,
    /// Whether it is of the standard library's class.
    is_plain: bool,
    read: Py<PyAny>,
    write: Py<PyAny>,
    incoming: Py<PyAny>,
    incoming_write: Py<PyAny>,
    outgoing: Py<PyAny>,
    outgoing_read: Py<PyAny>,
}

impl Engine {
    pub(super) fn new(
        context: &Bound<'_, PyAny>,
        is_server: bool,
        server_hostname: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = context.py();
        let incoming = names::memory_bio(py)?.call0()?;
        let outgoing = names::memory_bio(py)?.call0()?;
        let keywords = PyDict::new(py);
        keywords.set_item("server_side", is_server)?;
        keywords.set_item("server_hostname", server_hostname)?;
        let object = context.call_method("wrap_bio", (&incoming, &outgoing), Some(&keywords))?;
        // The class of the standard library passes these two calls on, in Python code. One
        // that a context brings itself is called as it is.
        let is_plain = object.get_type().is(names::ssl_object(py)?);
        let calls = if is_plain {
            object.getattr(intern!(py, "_sslobj"))?
        } else {
            object.clone()
        };
        Ok(Self {
            is_plain,
            read: calls.getattr(intern!(py, "read"))?.unbind(),
            write: calls.getattr(intern!(py, "write"))?.unbind(),
            object: object.unbind(),
            incoming_write: incoming.getattr(intern!(py, "write"))?.unbind(),
            incoming: incoming.unbind(),
            outgoing_read: outgoing.getattr(intern!(py, "read"))?.unbind(),
            outgoing: outgoing.unbind(),
        })
    }

    /// The `ssl.SSLObject`.
    pub(super) fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.object.bind(py)
    }

    /// Takes encrypted bytes of the peer.
    pub(super) fn feed(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.incoming_write.bind(data.py()).call1((data,))?;
        Ok(())
    }

    /// How many bytes of the peer were not looked at yet.
    pub(super) fn incoming_bytes(&self, py: Python<'_>) -> PyResult<usize> {
        let pending = self.incoming.bind(py).getattr(intern!(py, "pending"))?;
        pending.extract()
    }

    /// How many encrypted bytes wait to be sent.
    pub(super) fn outgoing_bytes(&self, py: Python<'_>) -> PyResult<usize> {
        let pending = self.outgoing.bind(py).getattr(intern!(py, "pending"))?;
        pending.extract()
    }

    /// The encrypted bytes that are to be sent.
    pub(super) fn take_outgoing<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let data = self.outgoing_read.bind(py).call0()?;
        Ok(data.cast_into::<PyBytes>()?)
    }

    /// Decrypts into a buffer, as many bytes as `limit_bytes`; none is the end of the stream.
    pub(super) fn read(
        &self,
        limit_bytes: usize,
        buffer: &Bound<'_, PyAny>,
    ) -> PyResult<Answer<usize>> {
        let py = buffer.py();
        let result = self.read.bind(py).call1((limit_bytes, buffer));
        match again(py, result)? {
            // A class of a context's own may say something else.
            Answer::Done(count) => count.extract().map(Answer::Done).map_err(|_| {
                PyTypeError::new_err("SSLObject.read() must return the number of bytes")
            }),
            Answer::Again => Ok(Answer::Again),
        }
    }

    /// Decrypts into a new object, as many bytes as `limit_bytes`; none is the end of the stream.
    /// Only the class of the standard library is known to do that.
    pub(super) fn read_bytes<'py>(
        &self,
        py: Python<'py>,
        limit_bytes: usize,
    ) -> PyResult<Option<Answer<Bound<'py, PyBytes>>>> {
        if !self.is_plain {
            return Ok(None);
        }
        let result = self.read.bind(py).call1((limit_bytes,));
        match again(py, result)? {
            Answer::Done(data) => Ok(Some(Answer::Done(data.cast_into::<PyBytes>()?))),
            Answer::Again => Ok(Some(Answer::Again)),
        }
    }

    /// Encrypts bytes; says how many it took.
    pub(super) fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<Answer<usize>> {
        let py = data.py();
        let result = self.write.bind(py).call1((data,));
        match again(py, result)? {
            Answer::Done(count) => count.extract().map(Answer::Done),
            Answer::Again => Ok(Answer::Again),
        }
    }

    /// Calls a method that may need more bytes: `do_handshake`, `unwrap`.
    pub(super) fn call(&self, py: Python<'_>, method: &str) -> PyResult<Answer<()>> {
        let result = self.object.bind(py).call_method0(method);
        Ok(match again(py, result)? {
            Answer::Done(_) => Answer::Done(()),
            Answer::Again => Answer::Again,
        })
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        visit.call(&self.read)?;
        visit.call(&self.write)?;
        visit.call(&self.incoming)?;
        visit.call(&self.incoming_write)?;
        visit.call(&self.outgoing)?;
        visit.call(&self.outgoing_read)
    }
}

fn again<'py>(
    py: Python<'py>,
    result: PyResult<Bound<'py, PyAny>>,
) -> PyResult<Answer<Bound<'py, PyAny>>> {
    match result {
        Ok(value) => Ok(Answer::Done(value)),
        Err(error) => {
            let value = error.value(py);
            let is_again = value.is_instance(names::ssl_want_read_error(py)?)?
                || value.is_instance(names::ssl_syscall_error(py)?)?;
            if is_again {
                Ok(Answer::Again)
            } else {
                Err(error)
            }
        }
    }
}
