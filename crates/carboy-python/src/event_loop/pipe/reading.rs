//! The end that is read.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use carboy_event_loop::Interest;
use pyo3::ffi::destructor;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use rustix::io::Errno;

use super::file::PipeFile;
use crate::event_loop::NativeEventLoop;
use crate::event_loop::endpoint::Endpoint;
use crate::event_loop::system_error::{is_try_again, os_error};
use crate::event_loop::unclosed;
use crate::event_loop::watched::{Ready, Watched};
use crate::ffi::descriptor;
use crate::ffi::full_object::{self, FullObject};

/// The end of a pipe that is read; an `asyncio.ReadTransport`.
#[pyclass(frozen, weakref, dict, module = "carboy._carboy")]
pub(crate) struct ReadPipeTransport {
    pub(super) endpoint: Endpoint,
    pub(super) pipe: PipeFile,
    /// Set when the end of the data was read, too.
    pub(super) closing: AtomicBool,
    pub(super) paused: AtomicBool,
}

impl ReadPipeTransport {
    /// Makes a transport, and schedules `connection_made` and what follows it.
    pub(crate) fn start<'py>(
        event_loop: &Bound<'py, NativeEventLoop>,
        pipe: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, Self>> {
        let refusal = "Pipe transport is for pipes/sockets only.";
        let (pipe, number, _) = PipeFile::take_over(pipe, extra, refusal)?;
        let transport = Self {
            endpoint: Endpoint::new(event_loop, number, protocol),
            pipe,
            closing: AtomicBool::new(false),
            paused: AtomicBool::new(false),
        };
        let transport = full_object::new_object(event_loop.py(), transport)?;
        let endpoint = &transport.get().endpoint;
        endpoint.begin(transport.as_any(), true, waiter)?;
        Ok(transport)
    }

    pub(super) fn is_reading_now(&self) -> bool {
        !self.closing.load(Ordering::Acquire) && !self.paused.load(Ordering::Acquire)
    }

    pub(super) fn watch(slf: &Bound<'_, Self>) -> PyResult<()> {
        let watched = Watched::ReadPipe(slf.clone().unbind());
        let endpoint = &slf.get().endpoint;
        endpoint.watch(slf.py(), Interest::Read, watched)
    }

    fn read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let endpoint = &this.endpoint;
        let Some(protocol) = endpoint.protocol(py) else {
            return Ok(());
        };
        let data = endpoint.event_loop().get().with_read_buffer(|buffer| {
            descriptor::with_borrowed(endpoint.number(), |descriptor| {
                let (data, _) = rustix::io::read(descriptor, buffer)?;
                Ok::<_, io::Error>(PyBytes::new(py, data))
            })
        });
        match data.and_then(|data| data) {
            Ok(data) if data.as_bytes().is_empty() => Self::end_of_data(slf, &protocol),
            Ok(data) => {
                protocol.call_method1(pyo3::intern!(py, "data_received"), (data,))?;
                Ok(())
            }
            Err(error) if is_try_again(&error) => Ok(()),
            Err(error) => {
                // How a terminal ends is no failure.
                let is_expected = Errno::from_io_error(&error) == Some(Errno::IO);
                let error = os_error(py, &error).into_value(py);
                let error = error.into_bound(py).into_any();
                let message = "Fatal read error on pipe transport";
                endpoint.report(slf.as_any(), &error, message, is_expected)?;
                Self::close_with(slf, error)
            }
        }
    }

    fn end_of_data(slf: &Bound<'_, Self>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let endpoint = &this.endpoint;
        endpoint.log(slf.as_any(), "info", "%r was closed by peer")?;
        this.closing.store(true, Ordering::Release);
        endpoint.unwatch(py, Interest::Read);
        endpoint.schedule(protocol, "eof_received", PyTuple::empty(py))?;
        endpoint.schedule_connection_lost(slf.as_any(), py.None().into_bound(py))
    }

    /// Closes, once.
    pub(super) fn close_with(slf: &Bound<'_, Self>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        if this.closing.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        this.endpoint.unwatch(slf.py(), Interest::Read);
        if this.endpoint.is_loop_closed() {
            // Nobody is told any more, but the file is not left open.
            this.endpoint.clear();
            return this.pipe.close(slf.py());
        }
        this.endpoint.schedule_connection_lost(slf.as_any(), error)
    }

    pub(super) fn connection_lost(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let told = self.endpoint.tell_connection_lost(py, error);
        let closed = self.pipe.close(py);
        told?;
        closed
    }
}

impl Ready for ReadPipeTransport {
    fn event_loop(&self) -> &Py<NativeEventLoop> {
        self.endpoint.event_loop()
    }

    fn is_cancelled(&self, interest: Interest) -> bool {
        !self.endpoint.watches(interest)
    }

    fn ready(slf: &Bound<'_, Self>, interest: Interest) -> PyResult<()> {
        let endpoint = &slf.get().endpoint;
        endpoint.in_context(slf.py(), interest, || Self::read_ready(slf))
    }
}

impl FullObject for ReadPipeTransport {
    fn destructor() -> &'static OnceLock<destructor> {
        static DESTRUCTOR: OnceLock<destructor> = OnceLock::new();
        &DESTRUCTOR
    }

    fn finalize(slf: &Bound<'_, Self>) {
        let this = slf.get();
        if this.pipe.is_open() {
            unclosed::warn(slf.as_any(), || this.pipe.close(slf.py()));
        }
    }
}
