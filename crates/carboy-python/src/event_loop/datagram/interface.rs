//! The methods of `asyncio.DatagramTransport`, and those that asyncio's own code calls.

use carboy_event_loop::Interest;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::DatagramTransport;
use crate::event_loop::NativeEventLoop;
use crate::event_loop::watched::Watched;
use crate::event_loop::write_limits;
use crate::names;

impl DatagramTransport {
    pub(super) fn watched(slf: &Bound<'_, Self>) -> Watched {
        Watched::Datagram(slf.clone().unbind())
    }
}

#[pymethods]
impl DatagramTransport {
    /// Says that this is asyncio's own transport: `isinstance` asks for it. What that is an
    /// instance of differs between versions of CPython, and its instances have slots, beside
    /// which a native class has no place to be a subclass.
    #[getter]
    #[expect(clippy::unused_self, reason = "an attribute of the instances")]
    fn __class__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        names::asyncio_datagram_transport(py).cloned()
    }

    /// Something about the socket: `socket`, `sockname`, `peername`.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match name.extract::<&str>() {
            Ok(name) => Ok(self.socket.extra_info(py, name)?.or(default)),
            Err(_) => Ok(default),
        }
    }

    /// Sends a datagram, at once if the socket takes it. An address may be left out where
    /// there is only one.
    #[pyo3(signature = (data, addr = None))]
    fn sendto(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        addr: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Self::send_datagram(slf, data, addr)
    }

    /// Sets another protocol.
    fn set_protocol(&self, protocol: Py<PyAny>) {
        self.endpoint.set_protocol(Some(protocol));
    }

    /// The protocol, or None when the transport is closed.
    fn get_protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.endpoint.protocol(py)
    }

    /// Whether the transport is closing or closed.
    fn is_closing(&self) -> bool {
        self.state().closing
    }

    /// Whether the protocol is given what arrives.
    fn is_reading(&self) -> bool {
        let state = self.state();
        !state.closing && !state.paused
    }

    /// Stops giving the protocol what arrives.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        {
            let mut state = this.state();
            if state.closing || state.paused {
                return Ok(());
            }
            state.paused = true;
        }
        this.endpoint.unwatch(slf.py(), Interest::Read);
        this.endpoint
            .log(slf.as_any(), "debug", "%r pauses reading")
    }

    /// Goes on giving the protocol what arrives.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        {
            let mut state = this.state();
            if state.closing || !state.paused {
                return Ok(());
            }
            state.paused = false;
        }
        let watched = Self::watched(slf);
        this.endpoint.watch(slf.py(), Interest::Read, watched)?;
        this.endpoint
            .log(slf.as_any(), "debug", "%r resumes reading")
    }

    /// How many bytes wait to be sent.
    fn get_write_buffer_size(&self) -> usize {
        self.state().queue.length_bytes()
    }

    /// The low and the high limit of what waits, in bytes.
    fn get_write_buffer_limits(&self) -> (usize, usize) {
        self.state().flow.limits_bytes()
    }

    /// Sets the limits at which the protocol is told to pause and to resume writing.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<&Bound<'_, PyAny>>,
        low: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let this = slf.get();
        let (high_bytes, low_bytes) = write_limits::extract(high, low)?;
        let set = this.state().flow.set_limits(high_bytes, low_bytes);
        set.map_err(write_limits::refused)?;
        let signal = {
            let mut state = this.state();
            let queued_bytes = state.queue.length_bytes();
            state.flow.after_growth(queued_bytes)
        };
        this.endpoint.signal(slf.as_any(), signal)
    }

    /// Closes when everything was sent.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close_gracefully(slf)
    }

    /// Closes at once; what was not sent is dropped.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::force_close(slf, slf.py().None().into_bound(slf.py()))
    }

    // What the loop calls, and what asyncio's own transport has for those who look.

    fn _start_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.is_reading() {
            let watched = Self::watched(slf);
            this.endpoint.watch(slf.py(), Interest::Read, watched)?;
        }
        Ok(())
    }

    fn _call_connection_lost(&self, py: Python<'_>, exc: Bound<'_, PyAny>) -> PyResult<()> {
        self.connection_lost(py, exc)
    }

    fn _force_close(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>) -> PyResult<()> {
        Self::force_close(slf, exc)
    }

    #[pyo3(signature = (exc, message = "Fatal error on transport"))]
    fn _fatal_error(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>, message: &str) -> PyResult<()> {
        Self::fatal_error(slf, PyErr::from_value(exc), message)
    }

    #[getter]
    fn _closing(&self) -> bool {
        self.is_closing()
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<NativeEventLoop> {
        self.endpoint.event_loop().clone_ref(py)
    }

    #[getter]
    fn _protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.endpoint.protocol(py)
    }

    #[getter]
    fn _address(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.address.as_ref().map(|address| address.clone_ref(py))
    }

    #[getter]
    fn _protocol_paused(&self) -> bool {
        self.state().flow.is_paused()
    }

    #[getter]
    fn _sock<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.socket.open_socket(py)
    }

    #[getter]
    fn _sock_fd(&self) -> i32 {
        self.endpoint.number()
    }

    fn __repr__(&self) -> String {
        let (closing, queued_bytes) = {
            let state = self.state();
            (state.closing, state.queue.length_bytes())
        };
        let number = self.endpoint.number();
        if !self.socket.is_open() {
            return format!("<DatagramTransport closed fd={number}>");
        }
        format!(
            "<DatagramTransport {}fd={number} read={} write=<{}, bufsize={queued_bytes}>>",
            if closing { "closing " } else { "" },
            self.endpoint.describe(Interest::Read),
            self.endpoint.describe(Interest::Write),
        )
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(&visit)
    }

    fn __clear__(&self) {
        self.endpoint.clear();
    }
}
