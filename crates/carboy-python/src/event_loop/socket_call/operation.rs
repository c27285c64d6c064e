//! The system calls: natively where the socket and the arguments allow it, else by the
//! socket's own method, which also says what is wrong with the arguments.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use carboy_event_loop::Interest;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use super::plain_socket;
use crate::event_loop::NativeEventLoop;
use crate::event_loop::socket_address;
use crate::event_loop::socket_owner::python_socket;
use crate::event_loop::system_error::{is_try_again, os_error};
use crate::ffi::{buffer, descriptor};

/// Up to so many bytes are received into the loop's buffer and copied: an object of the
/// largest size that may come is dear if little comes.
const COPIED_BYTES: usize = 256 * 1024;

/// What is to be done on a socket.
pub(super) enum Operation {
    Receive {
        size: Py<PyAny>,
    },
    ReceiveInto {
        buffer: Py<PyAny>,
    },
    ReceiveFrom {
        size: Py<PyAny>,
    },
    ReceiveFromInto {
        buffer: Py<PyAny>,
        size: Option<Py<PyAny>>,
    },
    SendAll {
        data: Py<PyAny>,
        /// Keeps the data as it is while it is sent piece by piece.
        view: Mutex<Option<Py<PyMemoryView>>>,
        sent_bytes: AtomicUsize,
    },
    SendTo {
        data: Py<PyAny>,
        address: Py<PyAny>,
    },
    Connect {
        /// With the host's number in place of its name, once that was looked up.
        address: Mutex<Py<PyAny>>,
    },
    Accept,
}

/// What an attempt came to; `None` says that the socket is not ready.
type Attempt<'py> = PyResult<Option<Bound<'py, PyAny>>>;

impl Operation {
    /// The name of the loop's method.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Receive { .. } => "sock_recv",
            Self::ReceiveInto { .. } => "sock_recv_into",
            Self::ReceiveFrom { .. } => "sock_recvfrom",
            Self::ReceiveFromInto { .. } => "sock_recvfrom_into",
            Self::SendAll { .. } => "sock_sendall",
            Self::SendTo { .. } => "sock_sendto",
            Self::Connect { .. } => "sock_connect",
            Self::Accept => "sock_accept",
        }
    }

    /// What the socket is to be ready for.
    pub(super) fn interest(&self) -> Interest {
        match self {
            Self::Receive { .. }
            | Self::ReceiveInto { .. }
            | Self::ReceiveFrom { .. }
            | Self::ReceiveFromInto { .. }
            | Self::Accept => Interest::Read,
            Self::SendAll { .. } | Self::SendTo { .. } | Self::Connect { .. } => Interest::Write,
        }
    }

    /// Tries for the first time.
    pub(super) fn begin<'py>(
        &self,
        event_loop: &NativeEventLoop,
        socket: &Bound<'py, PyAny>,
    ) -> Attempt<'py> {
        match self {
            Self::Connect { address } => connect(socket, &known_address(address, socket.py())),
            other => other.attempt(event_loop, socket),
        }
    }

    /// Tries again: the socket is ready.
    pub(super) fn proceed<'py>(
        &self,
        event_loop: &NativeEventLoop,
        socket: &Bound<'py, PyAny>,
    ) -> Attempt<'py> {
        match self {
            Self::Connect { address } => connected(socket, &known_address(address, socket.py())),
            other => other.attempt(event_loop, socket),
        }
    }

    fn attempt<'py>(
        &self,
        event_loop: &NativeEventLoop,
        socket: &Bound<'py, PyAny>,
    ) -> Attempt<'py> {
        let py = socket.py();
        match self {
            Self::Receive { size } => receive(event_loop, socket, size.bind(py)),
            Self::ReceiveInto { buffer } => receive_into(socket, buffer.bind(py)),
            Self::ReceiveFrom { size } => receive_from(event_loop, socket, size.bind(py)),
            Self::ReceiveFromInto { buffer, size } => {
                let size = size.as_ref().map(|size| size.bind(py));
                receive_from_into(socket, buffer.bind(py), size)
            }
            Self::SendAll {
                data,
                view,
                sent_bytes,
            } => send_all(socket, data.bind(py), view, sent_bytes),
            Self::SendTo { data, address } => send_to(socket, data.bind(py), address.bind(py)),
            Self::Accept => accept(socket),
            // Its steps differ: see begin and proceed.
            Self::Connect { .. } => Ok(None),
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Receive { size } | Self::ReceiveFrom { size } => visit.call(size),
            Self::ReceiveInto { buffer } => visit.call(buffer),
            Self::ReceiveFromInto { buffer, size } => {
                visit.call(buffer)?;
                visit.call(size)
            }
            Self::SendAll { data, view, .. } => {
                visit.call(data)?;
                match view.try_lock() {
                    Ok(view) => visit.call(&*view),
                    Err(_) => Ok(()),
                }
            }
            Self::SendTo { data, address } => {
                visit.call(data)?;
                visit.call(address)
            }
            Self::Connect { address } => match address.try_lock() {
                Ok(address) => visit.call(&*address),
                Err(_) => Ok(()),
            },
            Self::Accept => Ok(()),
        }
    }
}

/// The address to connect to.
pub(super) fn known_address<'py>(address: &Mutex<Py<PyAny>>, py: Python<'py>) -> Bound<'py, PyAny> {
    let address = address.lock().unwrap_or_else(PoisonError::into_inner);
    address.bind(py).clone()
}

/// The outcome of a system call.
fn outcome<'py, T>(
    py: Python<'py>,
    result: io::Result<T>,
    value: impl FnOnce(T) -> PyResult<Bound<'py, PyAny>>,
) -> Attempt<'py> {
    match result {
        Ok(answer) => value(answer).map(Some),
        Err(error) if is_try_again(&error) => Ok(None),
        Err(error) => Err(os_error(py, &error)),
    }
}

/// The outcome of a socket's method.
fn python_outcome<'py>(py: Python<'py>, result: PyResult<Bound<'py, PyAny>>) -> Attempt<'py> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if error.is_instance_of::<PyBlockingIOError>(py)
                || error.is_instance_of::<PyInterruptedError>(py) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn receive<'py>(
    event_loop: &NativeEventLoop,
    socket: &Bound<'py, PyAny>,
    size: &Bound<'py, PyAny>,
) -> Attempt<'py> {
    let py = socket.py();
    let size_bytes = size.extract::<usize>();
    let (Some(number), Ok(size_bytes)) = (plain_socket::descriptor_of(socket)?, size_bytes) else {
        return python_outcome(py, socket.call_method1("recv", (size,)));
    };
    if size_bytes == 0 {
        return Ok(Some(PyBytes::new(py, b"").into_any()));
    }
    let received = if size_bytes <= COPIED_BYTES {
        event_loop.with_read_buffer(|space| {
            let space = &mut space[..size_bytes.min(COPIED_BYTES)];
            descriptor::with_borrowed(number, |descriptor| {
                let ((received, _), _) = rustix::net::recv(descriptor, space, RecvFlags::DONTWAIT)?;
                Ok(PyBytes::new(py, received))
            })?
        })
    } else {
        buffer::new_bytes(py, size_bytes, |space| {
            descriptor::with_borrowed(number, |descriptor| {
                let (_, received_bytes) =
                    rustix::net::recv(descriptor, space, RecvFlags::DONTWAIT)?;
                Ok(received_bytes)
            })?
        })?
    };
    outcome(py, received, |bytes| Ok(bytes.into_any()))
}

fn receive_into<'py>(socket: &Bound<'py, PyAny>, target: &Bound<'py, PyAny>) -> Attempt<'py> {
    let py = socket.py();
    let received = match plain_socket::descriptor_of(socket)? {
        Some(number) => buffer::with_writable(target, |space| {
            if space.is_empty() {
                return Ok(0);
            }
            descriptor::with_borrowed(number, |descriptor| {
                let (_, received_bytes) =
                    rustix::net::recv(descriptor, space, RecvFlags::DONTWAIT)?;
                Ok(received_bytes)
            })?
        })
        .ok(),
        None => None,
    };
    match received {
        Some(received) => outcome(py, received, |received_bytes| {
            received_bytes.into_bound_py_any(py)
        }),
        None => python_outcome(py, socket.call_method1("recv_into", (target,))),
    }
}

fn receive_from<'py>(
    event_loop: &NativeEventLoop,
    socket: &Bound<'py, PyAny>,
    size: &Bound<'py, PyAny>,
) -> Attempt<'py> {
    let py = socket.py();
    let size_bytes = size.extract::<usize>().ok();
    let size_bytes = size_bytes.filter(|size_bytes| (1..=COPIED_BYTES).contains(size_bytes));
    let (Some(number), Some(size_bytes)) = (addressed(socket)?, size_bytes) else {
        return python_outcome(py, socket.call_method1("recvfrom", (size,)));
    };
    let received = event_loop.with_read_buffer(|space| {
        let space = &mut space[..size_bytes];
        descriptor::with_borrowed(number, |descriptor| {
            let ((received, _), _, sender) =
                rustix::net::recvfrom(descriptor, space, RecvFlags::DONTWAIT)?;
            Ok((PyBytes::new(py, received), sender))
        })?
    });
    outcome(py, received, |(bytes, sender)| {
        let sender = socket_address::of_answer(py, sender.as_ref())?;
        (bytes, sender).into_bound_py_any(py)
    })
}

fn receive_from_into<'py>(
    socket: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    size: Option<&Bound<'py, PyAny>>,
) -> Attempt<'py> {
    let py = socket.py();
    let size = match size {
        Some(size) if size.is_truthy()? => size.clone(),
        // As asyncio reads a size of 0.
        _ => target.len()?.into_bound_py_any(py)?,
    };
    let size_bytes = size.extract::<usize>().ok().filter(|size| *size > 0);
    let received = match (addressed(socket)?, size_bytes) {
        (Some(number), Some(size_bytes)) => buffer::with_writable(target, |space| {
            let space = space.get_mut(..size_bytes)?;
            let received = descriptor::with_borrowed(number, |descriptor| {
                let (_, received_bytes, sender) =
                    rustix::net::recvfrom(descriptor, space, RecvFlags::DONTWAIT)?;
                Ok((received_bytes, sender))
            });
            Some(received.and_then(|received| received))
        })
        .ok()
        .flatten(),
        _ => None,
    };
    match received {
        Some(received) => outcome(py, received, |(received_bytes, sender)| {
            let sender = socket_address::of_answer(py, sender.as_ref())?;
            (received_bytes, sender).into_bound_py_any(py)
        }),
        None => python_outcome(py, socket.call_method1("recvfrom_into", (target, size))),
    }
}

/// The descriptor of a socket whose addresses Rust code knows.
fn addressed(socket: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
    match plain_socket::descriptor_of(socket)? {
        Some(number) if plain_socket::known_family(socket)?.is_some() => Ok(Some(number)),
        _ => Ok(None),
    }
}

fn send_all<'py>(
    socket: &Bound<'py, PyAny>,
    data: &Bound<'py, PyAny>,
    view: &Mutex<Option<Py<PyMemoryView>>>,
    sent_bytes: &AtomicUsize,
) -> Attempt<'py> {
    let py = socket.py();
    let already_bytes = sent_bytes.load(Ordering::Relaxed);
    let (attempt, whole_bytes) = match plain_socket::descriptor_of(socket)? {
        Some(number) => buffer::with_bytes(data, |bytes| {
            let rest = bytes.get(already_bytes..).unwrap_or_default();
            let sent = descriptor::with_borrowed(number, |descriptor| {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                Ok(rustix::net::send(descriptor, rest, flags)?)
            });
            (sent.and_then(|sent| sent), bytes.len())
        })
        .map(|(sent, whole_bytes)| {
            let sent = outcome(py, sent, |sent| sent.into_bound_py_any(py));
            (sent, whole_bytes)
        })?,
        None => {
            let whole_bytes = buffer::with_bytes(data, <[u8]>::len)?;
            let view = PyMemoryView::from(data)?.call_method1("cast", ("B",))?;
            let rest = buffer::part(&view, already_bytes, whole_bytes)?;
            let sent = python_outcome(py, socket.call_method1("send", (rest,)));
            (sent, whole_bytes)
        }
    };
    let sent: usize = match attempt? {
        Some(sent) => sent.extract()?,
        None => 0,
    };
    if already_bytes + sent >= whole_bytes {
        return Ok(Some(py.None().into_bound(py)));
    }
    sent_bytes.store(already_bytes + sent, Ordering::Relaxed);
    let is_kept = view
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .is_some();
    if !is_kept {
        // A bytearray can't be resized while this lives.
        let kept = PyMemoryView::from(data)?.unbind();
        *view.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }
    Ok(None)
}

fn send_to<'py>(
    socket: &Bound<'py, PyAny>,
    data: &Bound<'py, PyAny>,
    address: &Bound<'py, PyAny>,
) -> Attempt<'py> {
    let py = socket.py();
    let native = match plain_socket::descriptor_of(socket)? {
        Some(number) => plain_socket::known_family(socket)?
            .and_then(|family| socket_address::from_python(address, family))
            .map(|address| (number, address)),
        None => None,
    };
    let sent = native.and_then(|(number, address)| {
        buffer::with_bytes(data, |bytes| {
            let sent = descriptor::with_borrowed(number, |descriptor| {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                Ok(rustix::net::sendto(descriptor, bytes, flags, &address)?)
            });
            sent.and_then(|sent| sent)
        })
        .ok()
    });
    match sent {
        Some(sent) => outcome(py, sent, |sent_bytes| sent_bytes.into_bound_py_any(py)),
        None => python_outcome(py, socket.call_method1("sendto", (data, address))),
    }
}

fn connect<'py>(socket: &Bound<'py, PyAny>, address: &Bound<'py, PyAny>) -> Attempt<'py> {
    let py = socket.py();
    let native = match plain_socket::descriptor_of(socket)? {
        Some(number) if plain_socket::is_non_blocking(socket)? => {
            plain_socket::known_family(socket)?
                .and_then(|family| socket_address::from_python(address, family))
                .map(|address| (number, address))
        }
        _ => None,
    };
    let Some((number, native_address)) = native else {
        return python_outcome(py, socket.call_method1("connect", (address,)));
    };
    let connected = descriptor::with_borrowed(number, |descriptor| {
        rustix::net::connect(descriptor, &native_address)
    })?;
    match connected {
        Ok(()) => Ok(Some(py.None().into_bound(py))),
        // After an interruption it goes on in the background, too.
        Err(Errno::INPROGRESS | Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(os_error(py, &io::Error::from(error))),
    }
}

/// Finds out how a connection attempt has ended.
fn connected<'py>(socket: &Bound<'py, PyAny>, address: &Bound<'py, PyAny>) -> Attempt<'py> {
    let py = socket.py();
    let number = plain_socket::number_of(socket)?;
    let answer = descriptor::with_borrowed(number, |descriptor| {
        rustix::net::sockopt::socket_error(descriptor)
    })?;
    match answer {
        Ok(Ok(())) => Ok(Some(py.None().into_bound(py))),
        Ok(Err(error)) => {
            let message = format!("Connect call failed {}", address.str()?);
            Err(PyOSError::new_err((error.raw_os_error(), message)))
        }
        Err(error) => Err(os_error(py, &io::Error::from(error))),
    }
}

fn accept<'py>(socket: &Bound<'py, PyAny>) -> Attempt<'py> {
    let py = socket.py();
    let native = match plain_socket::descriptor_of(socket)? {
        Some(number)
            if plain_socket::is_non_blocking(socket)?
                && plain_socket::known_family(socket)?.is_some() =>
        {
            Some(number)
        }
        _ => None,
    };
    let Some(number) = native else {
        let accepted = socket.call_method0("accept").and_then(|accepted| {
            accepted
                .get_item(0)?
                .call_method1("setblocking", (false,))?;
            Ok(accepted)
        });
        return python_outcome(py, accepted);
    };
    let accepted = descriptor::with_borrowed(number, |descriptor| {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        Ok(rustix::net::acceptfrom_with(descriptor, flags)?)
    });
    outcome(py, accepted.and_then(|accepted| accepted), |accepted| {
        let (connection, peer) = accepted;
        let peer = socket_address::of_answer(py, peer.as_ref())?;
        let connection = python_socket(py, connection, plain_socket::kind_of(socket)?)?;
        (connection, peer).into_bound_py_any(py)
    })
}
