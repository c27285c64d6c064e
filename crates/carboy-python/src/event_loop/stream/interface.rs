//! The methods of `asyncio.Transport`, and those that asyncio's own code calls.

use carboy_event_loop::Interest;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::StreamTransport;
use crate::event_loop::NativeEventLoop;
use crate::event_loop::payload::Piece;
use crate::event_loop::write_limits;
use crate::names;

#[pymethods]
impl StreamTransport {
    /// Says that this is an `asyncio.Transport`: `isinstance` asks for it. Its instances
    /// have slots, beside which a native class has no place to be a subclass.
    #[getter]
    #[expect(clippy::unused_self, reason = "an attribute of the instances")]
    fn __class__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        names::asyncio_transport(py).cloned()
    }

    /// Something about the connection: `socket`, `sockname`, `peername`.
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

    /// Sets another protocol.
    #[pyo3(name = "set_protocol")]
    fn set_protocol_method(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        self.set_protocol(protocol)
    }

    /// The protocol, or None when the connection is lost.
    fn get_protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.protocol(py)
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
        this.unwatch(slf.py(), Interest::Read);
        Self::log(slf, "%r pauses reading")
    }

    /// Goes on giving the protocol what arrives.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        {
            let mut state = slf.get().state();
            if state.closing || !state.paused {
                return Ok(());
            }
            state.paused = false;
        }
        Self::watch(slf, Interest::Read)?;
        Self::log(slf, "%r resumes reading")
    }

    /// Writes bytes, at once if the socket takes them.
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_data(slf, data)
    }

    /// Writes several pieces of bytes, with one call if the socket takes them.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        slf.get().check_writable("writelines")?;
        let mut pieces = Vec::new();
        for data in list_of_data.try_iter()? {
            pieces.push(Piece::of(&data?)?);
        }
        Self::write_pieces(slf, pieces)
    }

    /// Closes the writing side when everything was written.
    fn write_eof(&self, py: Python<'_>) -> PyResult<()> {
        let is_drained = {
            let mut state = self.state();
            if state.closing || state.eof_written {
                return Ok(());
            }
            state.eof_written = true;
            state.queue.is_empty()
        };
        if is_drained {
            self.shut_down_writing(py)?;
        }
        Ok(())
    }

    /// True: a stream socket can be closed on one side.
    #[expect(clippy::unused_self, reason = "a method in asyncio's interface")]
    fn can_write_eof(&self) -> bool {
        true
    }

    /// How many bytes wait to be written.
    fn get_write_buffer_size(&self) -> usize {
        self.state().queue.length_bytes()
    }

    /// The low and the high limit of the write buffer, in bytes.
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
        let (high_bytes, low_bytes) = write_limits::extract(high, low)?;
        let set = slf.get().state().flow.set_limits(high_bytes, low_bytes);
        set.map_err(write_limits::refused)?;
        Self::after_growth(slf)
    }

    /// Closes when everything was written.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close_gracefully(slf)
    }

    /// Closes at once; what was not written is dropped.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::force_close(slf, slf.py().None().into_bound(slf.py()))
    }

    // What asyncio's own code calls: its TLS, its sendfile, and the loop.

    fn _start_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().is_reading() {
            Self::watch(slf, Interest::Read)?;
        }
        Ok(())
    }

    fn _call_connection_lost(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>) -> PyResult<()> {
        Self::connection_lost(slf, exc)
    }

    fn _force_close(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>) -> PyResult<()> {
        Self::force_close(slf, exc)
    }

    #[pyo3(signature = (exc, message = "Fatal error on transport"))]
    fn _fatal_error(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>, message: &str) -> PyResult<()> {
        Self::fatal_error(slf, PyErr::from_value(exc), message)
    }

    fn _make_empty_waiter<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if this.state().empty_waiter.is_some() {
            return Err(PyRuntimeError::new_err("Empty waiter is already set"));
        }
        let waiter = this.event_loop.bind(py).call_method0("create_future")?;
        let is_drained = {
            let mut state = this.state();
            state.empty_waiter = Some(waiter.clone().unbind());
            state.queue.is_empty()
        };
        if is_drained {
            waiter.call_method1("set_result", (py.None(),))?;
        }
        Ok(waiter)
    }

    fn _reset_empty_waiter(&self) {
        let waiter = self.state().empty_waiter.take();
        drop(waiter);
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<NativeEventLoop> {
        self.event_loop.clone_ref(py)
    }

    #[getter]
    fn _protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.protocol(py)
    }

    #[getter]
    fn _protocol_paused(&self) -> bool {
        self.state().flow.is_paused()
    }

    #[getter]
    fn _paused(&self) -> bool {
        self.state().paused
    }

    #[getter]
    fn _closing(&self) -> bool {
        self.is_closing()
    }

    #[getter]
    fn _sock<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.socket.open_socket(py)
    }

    #[getter]
    fn _sock_fd(&self) -> i32 {
        self.number
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "asyncio asks the instance")]
    fn _start_tls_compatible(&self) -> bool {
        true
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "asyncio asks the instance")]
    fn _sendfile_compatible<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        names::sendfile_mode(py)?.getattr("TRY_NATIVE")
    }

    fn __repr__(&self) -> String {
        let (closing, buffered_bytes) = {
            let state = self.state();
            (state.closing, state.queue.length_bytes())
        };
        let polling = |interest| {
            if self.watches(interest) {
                "polling"
            } else {
                "idle"
            }
        };
        let number = self.number;
        if !self.socket.is_open() {
            return format!("<StreamTransport closed fd={number}>");
        }
        format!(
            "<StreamTransport {}fd={number} read={} write=<{}, bufsize={buffered_bytes}>>",
            if closing { "closing " } else { "" },
            polling(Interest::Read),
            polling(Interest::Write),
        )
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(&visit)
    }

    fn __clear__(&self) {
        self.clear();
    }
}

impl StreamTransport {
    /// Writes a line of asyncio's debug log.
    fn log(slf: &Bound<'_, Self>, message: &str) -> PyResult<()> {
        if slf.get().event_loop.get().is_debug() {
            names::asyncio_logger(slf.py())?.call_method1("debug", (message, slf))?;
        }
        Ok(())
    }
}
