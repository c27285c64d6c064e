//! Where asyncio's base classes ask for transports: the methods of the loop that make them.

use std::os::fd::RawFd;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::net::AddressFamily;

use super::NativeEventLoop;
use super::datagram::DatagramTransport;
use super::pipe::{ReadPipeTransport, WritePipeTransport};
use super::socket_address;
use super::socket_owner::SocketOwner;
use super::stream::StreamTransport;
use crate::names;

#[pymethods]
impl NativeEventLoop {
    /// Makes the transport of a connected socket.
    #[pyo3(signature = (sock, protocol, waiter = None, *, extra = None, server = None))]
    fn _make_socket_transport<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        protocol: Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Py<PyDict>>,
        server: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, StreamTransport>> {
        let number: RawFd = sock.call_method0("fileno")?.extract()?;
        slf.get().check_unused(slf.py(), &sock, number)?;
        let socket = SocketOwner::of_python(&sock, extra)?;
        StreamTransport::start(slf, number, socket, protocol, waiter, server)
    }

    /// Makes the transport of a socket for datagrams.
    #[pyo3(signature = (sock, protocol, address = None, waiter = None, extra = None))]
    fn _make_datagram_transport<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        protocol: Bound<'py, PyAny>,
        address: Option<Bound<'py, PyAny>>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Py<PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        slf.get()
            .check_unused(py, &sock, sock.call_method0("fileno")?.extract()?)?;
        let family: u16 = sock.getattr("family")?.extract()?;
        let family = AddressFamily::from_raw(family);
        if socket_address::is_known(family) {
            let transport =
                DatagramTransport::start(slf, &sock, family, &protocol, address, waiter, extra)?;
            return Ok(transport.into_any());
        }
        // Only Python's own socket knows the addresses of this family.
        names::selector_event_loop(py)?
            .getattr("_make_datagram_transport")?
            .call1((slf, sock, protocol, address, waiter, extra))
    }

    /// Makes the transport of a pipe's reading end.
    #[pyo3(signature = (pipe, protocol, waiter = None, extra = None))]
    fn _make_read_pipe_transport<'py>(
        slf: &Bound<'py, Self>,
        pipe: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, ReadPipeTransport>> {
        ReadPipeTransport::start(slf, pipe, protocol, waiter, extra)
    }

    /// Makes the transport of a pipe's writing end.
    #[pyo3(signature = (pipe, protocol, waiter = None, extra = None))]
    fn _make_write_pipe_transport<'py>(
        slf: &Bound<'py, Self>,
        pipe: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, WritePipeTransport>> {
        WritePipeTransport::start(slf, pipe, protocol, waiter, extra)
    }

    /// Raises if a transport uses the descriptor.
    fn _ensure_fd_no_transport(&self, fd: &Bound<'_, PyAny>) -> PyResult<()> {
        let number = match fd.extract::<RawFd>() {
            Ok(number) => number,
            Err(_) => fd
                .call_method0("fileno")
                .and_then(|number| number.extract::<RawFd>())
                .map_err(|_| invalid_file(fd))?,
        };
        self.check_unused(fd.py(), fd, number)
    }

    /// Lets others use the descriptor of a transport.
    fn _forget_transport(&self, number: RawFd) {
        let reference = self.transports().remove(&number);
        drop(reference);
    }

    /// Takes a descriptor back for its transport.
    fn _remember_transport(
        slf: &Bound<'_, Self>,
        number: RawFd,
        transport: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        Self::register_transport(slf, number, transport)
    }
}

impl NativeEventLoop {
    /// Raises if a transport uses the descriptor of this number.
    pub(super) fn check_unused(
        &self,
        py: Python<'_>,
        descriptor: &Bound<'_, PyAny>,
        number: RawFd,
    ) -> PyResult<()> {
        let reference = match self.transports().get(&number) {
            Some(reference) => reference.clone_ref(py),
            None => return Ok(()),
        };
        let transport = reference.bind(py).call0()?;
        if transport.is_none() || transport.call_method0("is_closing")?.is_truthy()? {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(format!(
            "File descriptor {} is used by transport {}",
            descriptor.repr()?,
            transport.repr()?
        )))
    }
}

fn invalid_file(descriptor: &Bound<'_, PyAny>) -> PyErr {
    match descriptor.repr() {
        Ok(name) => PyValueError::new_err(format!("Invalid file object: {name}")),
        Err(error) => error,
    }
}
