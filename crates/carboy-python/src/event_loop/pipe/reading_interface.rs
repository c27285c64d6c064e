//! The methods of `asyncio.ReadTransport`.

use std::sync::atomic::Ordering;

use carboy_event_loop::Interest;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::ReadPipeTransport;
use crate::event_loop::NativeEventLoop;
use crate::names;

#[pymethods]
impl ReadPipeTransport {
    /// Says that this is an `asyncio.ReadTransport`: `isinstance` asks for it. Its instances
    /// have slots, beside which a native class has no place to be a subclass.
    #[getter]
    #[expect(clippy::unused_self, reason = "an attribute of the instances")]
    fn __class__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        names::asyncio_read_transport(py).cloned()
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
        self.closing.load(Ordering::Acquire)
    }

    /// Whether the protocol is given what arrives.
    fn is_reading(&self) -> bool {
        self.is_reading_now()
    }

    /// Stops giving the protocol what arrives.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if !this.is_reading_now() {
            return Ok(());
        }
        this.paused.store(true, Ordering::Release);
        this.endpoint.unwatch(slf.py(), Interest::Read);
        this.endpoint
            .log(slf.as_any(), "debug", "%r pauses reading")
    }

    /// Goes on giving the protocol what arrives.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.closing.load(Ordering::Acquire) || !this.paused.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        Self::watch(slf)?;
        this.endpoint
            .log(slf.as_any(), "debug", "%r resumes reading")
    }

    /// Closes the pipe.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close_with(slf, slf.py().None().into_bound(slf.py()))
    }

    fn _start_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().is_reading_now() {
            Self::watch(slf)?;
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

    fn __repr__(&self) -> String {
        let number = self.endpoint.number();
        if !self.pipe.is_open() {
            return format!("<ReadPipeTransport closed fd={number}>");
        }
        format!(
            "<ReadPipeTransport {}fd={number} {}>",
            if self.is_closing() { "closing " } else { "" },
            self.endpoint.describe(Interest::Read),
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
