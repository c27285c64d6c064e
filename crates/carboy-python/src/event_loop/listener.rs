//! Takes the connections of a server's sockets; `asyncio.Server` does the rest.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use carboy_event_loop::Interest;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyDict, PyTuple};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags};

use super::socket_address;
use super::socket_owner::{SocketKind, SocketOwner, python_socket};
use super::stream::StreamTransport;
use super::system_error::{ends_the_loop, os_error};
use super::watched::{Ready, Watched};
use super::{NativeEventLoop, QueuedHandle};
use crate::ffi::{context, descriptor};
use crate::names;

/// How long a listener waits when the process has no descriptor left, as in asyncio.
const RETRY_DELAY_SECONDS: f64 = 1.0;

/// What `asyncio` passes to `_start_serving`, to be passed on for each connection.
struct Serving {
    protocol_factory: Py<PyAny>,
    socket: Py<PyAny>,
    tls_context: Option<Py<PyAny>>,
    server: Option<Py<PyAny>>,
    backlog: usize,
    tls_handshake_timeout: Option<Py<PyAny>>,
    tls_shutdown_timeout: Option<Py<PyAny>>,
}

/// One listening socket of a server.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct Listener {
    event_loop: Py<NativeEventLoop>,
    number: RawFd,
    kind: SocketKind,
    serving: Serving,
    context: Py<PyContext>,
    active: AtomicBool,
}

#[pymethods]
impl Listener {
    fn __repr__(&self) -> String {
        format!("<Listener fd={}>", self.number)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        visit.call(&self.serving.protocol_factory)?;
        visit.call(&self.serving.socket)?;
        visit.call(&self.serving.tls_context)?;
        visit.call(&self.serving.server)
    }
}

#[pymethods]
impl NativeEventLoop {
    /// Begins to take the connections of a listening socket.
    #[pyo3(signature = (
        protocol_factory, sock, sslcontext = None, server = None, backlog = 100,
        ssl_handshake_timeout = None, ssl_shutdown_timeout = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "asyncio's signature")]
    fn _start_serving(
        slf: &Bound<'_, Self>,
        protocol_factory: Py<PyAny>,
        sock: Bound<'_, PyAny>,
        sslcontext: Option<Py<PyAny>>,
        server: Option<Py<PyAny>>,
        backlog: usize,
        ssl_handshake_timeout: Option<Py<PyAny>>,
        ssl_shutdown_timeout: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        slf.get().check_closed()?;
        let number: RawFd = sock.call_method0("fileno")?.extract()?;
        let listener = Listener {
            event_loop: slf.clone().unbind(),
            number,
            kind: SocketKind {
                family: sock.getattr("family")?.extract()?,
                kind: sock.getattr("type")?.extract()?,
                protocol: sock.getattr("proto")?.extract()?,
            },
            serving: Serving {
                protocol_factory,
                socket: sock.unbind(),
                tls_context: sslcontext,
                server,
                backlog,
                tls_handshake_timeout: ssl_handshake_timeout,
                tls_shutdown_timeout: ssl_shutdown_timeout,
            },
            context: context::copy_current(py)?,
            active: AtomicBool::new(true),
        };
        let listener = Watched::Listener(Py::new(py, listener)?);
        let callback = QueuedHandle::Ready(listener, Interest::Read);
        let previous = descriptor::with_borrowed(number, |descriptor| {
            slf.get()
                .queues()
                .watch(py, descriptor, Interest::Read, callback)
        });
        match previous.and_then(|previous| previous) {
            Ok(previous) => previous.map_or(Ok(()), |previous| previous.cancel(py)),
            Err(error) => Err(os_error(py, &error)),
        }
    }
}

impl Ready for Listener {
    fn event_loop(&self) -> &Py<NativeEventLoop> {
        &self.event_loop
    }

    fn is_cancelled(&self, _interest: Interest) -> bool {
        !self.is_active()
    }

    fn cancel(&self) {
        self.active.store(false, Ordering::Release);
    }

    /// Takes the connections that wait.
    fn ready(slf: &Bound<'_, Self>, _interest: Interest) -> PyResult<()> {
        let this = slf.get();
        let context = this.context.bind(slf.py());
        context::enter(context)?;
        let result = this.accept_all(slf.py());
        context::exit(context)?;
        result
    }
}

impl Listener {
    fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    fn accept_all(&self, py: Python<'_>) -> PyResult<()> {
        for _ in 0..self.serving.backlog.max(1) {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let accepted = descriptor::with_borrowed(self.number, |descriptor| {
                rustix::net::acceptfrom_with(descriptor, flags)
            })?;
            match accepted {
                Ok((connection, address)) => self.serve(py, connection, address)?,
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Ok(()),
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    return self.wait_for_resources(py, error);
                }
                Err(error) => return Err(os_error(py, &io::Error::from(error))),
            }
            if !self.is_active() {
                // The protocol's factory has closed the server.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Stops listening for a while: the socket would be reported as ready all the time.
    fn wait_for_resources(&self, py: Python<'_>, error: Errno) -> PyResult<()> {
        let event_loop = self.event_loop.bind(py);
        let details = PyDict::new(py);
        details.set_item("message", "socket.accept() out of system resource")?;
        let error = os_error(py, &io::Error::from(error));
        details.set_item("exception", error.into_value(py))?;
        let socket = names::transport_socket(py)?.call1((&self.serving.socket,))?;
        details.set_item("socket", socket)?;
        event_loop.call_method1("call_exception_handler", (details,))?;
        let removed = descriptor::with_borrowed(self.number, |descriptor| {
            event_loop
                .get()
                .queues()
                .unwatch(py, descriptor, Interest::Read)
        })?;
        drop(removed);
        self.cancel();
        let serving = &self.serving;
        let arguments = (
            RETRY_DELAY_SECONDS,
            event_loop.getattr("_restart_serving")?,
            &serving.protocol_factory,
            &serving.socket,
            &serving.tls_context,
            &serving.server,
            serving.backlog,
            &serving.tls_handshake_timeout,
            &serving.tls_shutdown_timeout,
        );
        event_loop.call_method1("call_later", arguments)?;
        Ok(())
    }

    fn serve(
        &self,
        py: Python<'_>,
        connection: OwnedFd,
        address: Option<SocketAddrAny>,
    ) -> PyResult<()> {
        let mut protocol = None;
        match self.make_transport(py, connection, address, &mut protocol) {
            Ok(()) => Ok(()),
            Err(error) if ends_the_loop(py, &error) => Err(error),
            Err(error) => {
                let event_loop = self.event_loop.bind(py);
                if event_loop.get().is_debug() {
                    let details = PyDict::new(py);
                    let message = "Error on transport creation for incoming connection";
                    details.set_item("message", message)?;
                    details.set_item("exception", error.into_value(py))?;
                    if let Some(protocol) = protocol {
                        details.set_item("protocol", protocol)?;
                    }
                    event_loop.call_method1("call_exception_handler", (details,))?;
                }
                Ok(())
            }
        }
    }

    /// Writes a line of asyncio's debug log.
    fn log(&self, py: Python<'_>, number: RawFd, address: Option<&SocketAddrAny>) -> PyResult<()> {
        let address = match address {
            Some(address) => socket_address::to_python(py, address)?,
            None => None,
        };
        let message = "%r got a new connection from %r: descriptor %d";
        let arguments = (message, &self.serving.server, address, number);
        names::asyncio_logger(py)?.call_method1("debug", arguments)?;
        Ok(())
    }

    fn make_transport<'py>(
        &self,
        py: Python<'py>,
        connection: OwnedFd,
        address: Option<SocketAddrAny>,
        made_protocol: &mut Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        use std::os::fd::AsRawFd;

        let event_loop = self.event_loop.bind(py);
        let serving = &self.serving;
        let is_known = address.as_ref().is_none_or(|address| {
            matches!(
                address.address_family(),
                AddressFamily::INET | AddressFamily::INET6 | AddressFamily::UNIX
            )
        });
        let number = connection.as_raw_fd();
        if event_loop.get().is_debug() {
            self.log(py, number, address.as_ref())?;
        }
        if serving.tls_context.is_none() && is_known {
            let protocol = serving.protocol_factory.bind(py).call0()?;
            *made_protocol = Some(protocol.clone());
            let socket = SocketOwner::of_accepted(connection, self.kind, address);
            let server = serving
                .server
                .as_ref()
                .map(|server| server.bind(py).clone());
            StreamTransport::start(event_loop, number, socket, protocol, None, server)?;
            return Ok(());
        }
        // TLS has a handshake to wait for, so a task accepts the connection.
        let socket = python_socket(py, connection, self.kind)?;
        let extra = PyDict::new(py);
        let address = socket
            .call_method0("getpeername")
            .unwrap_or_else(|_| py.None().into_bound(py));
        extra.set_item("peername", address)?;
        let arguments = PyTuple::new(
            py,
            [
                serving.protocol_factory.bind(py).clone(),
                socket,
                extra.into_any(),
                optional(py, serving.tls_context.as_ref()),
                optional(py, serving.server.as_ref()),
            ],
        )?;
        let keywords = PyDict::new(py);
        if let Some(seconds) = &serving.tls_handshake_timeout {
            keywords.set_item("ssl_handshake_timeout", seconds)?;
        }
        if let Some(seconds) = &serving.tls_shutdown_timeout {
            keywords.set_item("ssl_shutdown_timeout", seconds)?;
        }
        let accepting =
            event_loop.call_method("_accept_connection2", arguments, Some(&keywords))?;
        event_loop.call_method1("create_task", (accepting,))?;
        Ok(())
    }
}

fn optional<'py>(py: Python<'py>, object: Option<&Py<PyAny>>) -> Bound<'py, PyAny> {
    object.map_or_else(
        || py.None().into_bound(py),
        |object| object.bind(py).clone(),
    )
}
