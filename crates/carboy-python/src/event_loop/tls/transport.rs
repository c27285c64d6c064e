//! What the application writes to: the transport of a TLS connection.

use std::sync::OnceLock;

use pyo3::exceptions::{PyNotImplementedError, PyTypeError};
use pyo3::ffi::destructor;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use super::protocol::TlsProtocol;
use crate::event_loop::NativeEventLoop;
use crate::event_loop::{unclosed, write_limits};
use crate::ffi::full_object::{self, FullObject};
use crate::names;

/// A TLS connection; an `asyncio.Transport`.
#[pyclass(frozen, weakref, dict, module = "carboy._carboy")]
pub(crate) struct TlsTransport {
    tls: Py<TlsProtocol>,
}

impl TlsTransport {
    pub(super) fn start(py: Python<'_>, tls: Py<TlsProtocol>) -> PyResult<Py<Self>> {
        full_object::new_object(py, Self { tls }).map(Bound::unbind)
    }

    /// Notes that it is closed; says whether it was before.
    fn mark_closed(&self, py: Python<'_>) -> bool {
        self.tls.get().state(py, |state| {
            std::mem::replace(&mut state.transport_closed, true)
        })
    }

    fn close_at_once(&self, error: Bound<'_, PyAny>) -> PyResult<()> {
        self.mark_closed(error.py());
        let py = error.py();
        TlsProtocol::abort(self.tls.bind(py), error)
    }

    fn is_closed(&self, py: Python<'_>) -> bool {
        self.tls.get().state(py, |state| state.transport_closed)
    }
}

impl FullObject for TlsTransport {
    fn destructor() -> &'static OnceLock<destructor> {
        static DESTRUCTOR: OnceLock<destructor> = OnceLock::new();
        &DESTRUCTOR
    }

    fn finalize(slf: &Bound<'_, Self>) {
        let was_closed = slf.get().mark_closed(slf.py());
        if !was_closed {
            // As in asyncio, the transport below is left to its own finalizer.
            unclosed::warn(slf.as_any(), || Ok(()));
        }
    }
}

#[pymethods]
impl TlsTransport {
    /// Says that this is asyncio's own transport of TLS: `isinstance` asks for it, and some
    /// look at the name.
    #[getter]
    #[expect(clippy::unused_self, reason = "an attribute of the instances")]
    fn __class__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        names::asyncio_tls_transport(py).cloned()
    }

    /// Something about the connection: `ssl_object`, `peercert`, `cipher`, `compression`,
    /// `sslcontext`, and what the transport below knows.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.tls.get().extra_info(name, default)
    }

    /// Sets another protocol.
    fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        self.tls.get().set_protocol(protocol)
    }

    /// The protocol, or None when the connection is lost.
    fn get_protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.tls.get().protocol(py)
    }

    /// Whether the transport is closing or closed.
    fn is_closing(&self, py: Python<'_>) -> bool {
        self.is_closed(py)
    }

    /// Closes when everything was written, and the peer knows.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.mark_closed(py) {
            return Ok(());
        }
        TlsProtocol::start_shutdown(self.tls.bind(py))
    }

    /// Whether the protocol is given what arrives.
    fn is_reading(&self, py: Python<'_>) -> bool {
        !self.tls.get().state(py, |state| state.reading_paused)
    }

    /// Stops giving the protocol what arrives.
    fn pause_reading(&self, py: Python<'_>) {
        self.tls
            .get()
            .state(py, |state| state.reading_paused = true);
    }

    /// Goes on giving the protocol what arrives.
    fn resume_reading(&self, py: Python<'_>) -> PyResult<()> {
        TlsProtocol::resume_reading(self.tls.bind(py))
    }

    /// Sets the limits at which the protocol is told to pause and to resume writing.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        &self,
        py: Python<'_>,
        high: Option<&Bound<'_, PyAny>>,
        low: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (high_bytes, low_bytes) = write_limits::extract(high, low)?;
        self.tls
            .get()
            .state(py, |state| {
                state.write_limits.set_limits(high_bytes, low_bytes)
            })
            .map_err(write_limits::refused)?;
        TlsProtocol::control_writing(self.tls.bind(py))
    }

    /// The low and the high limit of the write buffer, in bytes.
    fn get_write_buffer_limits(&self, py: Python<'_>) -> (i64, i64) {
        self.tls
            .get()
            .state(py, |state| state.write_limits.limits_bytes())
    }

    /// How many bytes wait to be written.
    fn get_write_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        self.tls.get().write_buffer_bytes(py)
    }

    /// Sets the limits at which the transport below is told to pause and to resume reading.
    #[pyo3(signature = (high = None, low = None))]
    fn set_read_buffer_limits(
        &self,
        py: Python<'_>,
        high: Option<&Bound<'_, PyAny>>,
        low: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (high_bytes, low_bytes) = write_limits::extract(high, low)?;
        self.tls
            .get()
            .state(py, |state| {
                state.read_limits.set_limits(high_bytes, low_bytes)
            })
            .map_err(write_limits::refused)?;
        TlsProtocol::control_reading(self.tls.bind(py))
    }

    /// The low and the high limit of the read buffer, in bytes.
    fn get_read_buffer_limits(&self, py: Python<'_>) -> (i64, i64) {
        self.tls
            .get()
            .state(py, |state| state.read_limits.limits_bytes())
    }

    /// How many bytes wait to be decrypted.
    fn get_read_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        self.tls.get().engine.incoming_bytes(py)
    }

    /// Writes bytes, at once if the socket takes them.
    fn write(&self, data: Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        let is_bytes_like = data.is_exact_instance_of::<PyBytes>()
            || data.is_instance_of::<PyBytes>()
            || data.is_instance_of::<PyByteArray>()
            || data.is_instance(names::memory_view(py)?)?;
        if !is_bytes_like {
            return Err(PyTypeError::new_err(format!(
                "data: expecting a bytes-like instance, got {}",
                data.get_type().name()?
            )));
        }
        if data.is_empty()? {
            return Ok(());
        }
        TlsProtocol::write(self.tls.bind(py), &[data])
    }

    /// Writes several pieces of bytes.
    fn writelines(&self, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let pieces = list_of_data.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        TlsProtocol::write(self.tls.bind(list_of_data.py()), &pieces)
    }

    /// Raises `NotImplementedError`: TLS has no end of one direction.
    #[expect(clippy::unused_self, reason = "a method in asyncio's interface")]
    fn write_eof(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    /// False: a TLS connection can't be closed on one side.
    #[expect(clippy::unused_self, reason = "a method in asyncio's interface")]
    fn can_write_eof(&self) -> bool {
        false
    }

    /// Closes at once; what was not written is dropped.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.close_at_once(py.None().into_bound(py))
    }

    // What asyncio's own code calls: its sendfile, its streams, and its tests.

    fn _force_close(&self, exc: Bound<'_, PyAny>) -> PyResult<()> {
        self.close_at_once(exc)
    }

    #[pyo3(name = "_test__append_write_backlog")]
    fn append_write_backlog(&self, data: Bound<'_, PyBytes>) {
        let py = data.py();
        let bytes = data.as_bytes().len();
        let data = data.into_any().unbind();
        self.tls.get().state(py, |state| {
            state.backlog.push_back(data);
            state.backlog_bytes += bytes;
        });
    }

    #[getter]
    fn _ssl_protocol(&self, py: Python<'_>) -> Py<TlsProtocol> {
        self.tls.clone_ref(py)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<NativeEventLoop> {
        self.tls.get().event_loop.clone_ref(py)
    }

    #[getter]
    fn _closed(&self, py: Python<'_>) -> bool {
        self.is_closed(py)
    }

    #[getter]
    fn _protocol_paused(&self, py: Python<'_>) -> bool {
        self.tls
            .get()
            .state(py, |state| state.write_limits.is_paused())
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "asyncio asks the instance")]
    fn _start_tls_compatible(&self) -> bool {
        true
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "asyncio asks the instance")]
    fn _sendfile_compatible<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        names::sendfile_mode(py)?.getattr(intern!(py, "FALLBACK"))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<TlsTransport {}>", self.tls.get().phase(py).name())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.tls)
    }
}
