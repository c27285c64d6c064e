//! The methods of `asyncio.WriteTransport`.

use carboy_event_loop::Interest;
use pyo3::exceptions::PyNotImplementedError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::WritePipeTransport;
use crate::event_loop::NativeEventLoop;
use crate::event_loop::write_limits;
use crate::names;

#[pymethods]
impl WritePipeTransport {
    /// Says that this is what asyncio's own is a subclass of: `isinstance` asks for it. Its
    /// instances have slots, beside which a native class has no place to be a subclass.
    #[getter]
    #[expect(clippy::unused_self, reason = "an attribute of the instances")]
    fn __class__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        names::asyncio_transport(py).cloned()
    }

    /// Something about the pipe: `pipe`, which is the file.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.pipe.extra_info(name, default)
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

    /// Writes bytes, at once if the pipe takes them.
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_data(slf, data)
    }

    /// Writes several pieces of bytes as one.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let joined = PyBytes::new(py, b"").call_method1("join", (list_of_data,))?;
        Self::write_data(slf, &joined)
    }

    /// Closes the pipe when everything was written: how its reader learns of the end.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close_gracefully(slf)
    }

    /// True: closing the pipe tells its reader.
    #[expect(clippy::unused_self, reason = "a method in asyncio's interface")]
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Not for this end of a pipe: as in asyncio, whose transport of it inherits the method.
    #[expect(clippy::unused_self, reason = "a method in asyncio's interface")]
    fn pause_reading(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    /// As `pause_reading`.
    #[expect(clippy::unused_self, reason = "a method in asyncio's interface")]
    fn resume_reading(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
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

    /// Begins to notice when the reader closes its end.
    fn _start_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        if !slf.get().is_closing() {
            Self::watch(slf, Interest::Read)?;
        }
        Ok(())
    }

    fn _call_connection_lost(&self, py: Python<'_>, exc: Bound<'_, PyAny>) -> PyResult<()> {
        self.connection_lost(py, exc)
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
    fn _pipe(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.pipe.get(py)
    }

    #[setter(_pipe)]
    fn set_pipe(&self, pipe: Option<Py<PyAny>>) {
        self.pipe.set(pipe);
    }

    #[getter]
    fn _fileno(&self) -> i32 {
        self.endpoint.number()
    }

    #[getter]
    fn _protocol_paused(&self) -> bool {
        self.state().flow.is_paused()
    }

    fn __repr__(&self) -> String {
        let (closing, queued_bytes) = {
            let state = self.state();
            (state.closing, state.queue.length_bytes())
        };
        let number = self.endpoint.number();
        if !self.pipe.is_open() {
            return format!("<WritePipeTransport closed fd={number}>");
        }
        format!(
            "<WritePipeTransport {}fd={number} {} bufsize={queued_bytes}>",
            if closing { "closing " } else { "" },
            self.endpoint.describe(Interest::Write),
        )
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.endpoint.traverse(&visit)?;
        self.pipe.traverse(&visit)
    }

    fn __clear__(&self) {
        self.endpoint.clear();
    }
}
