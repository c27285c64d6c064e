//! Who closes a transport's socket, and what `get_extra_info` knows of it.

use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::net::SocketAddrAny;

use super::socket_address;
use crate::names;

/// Family, type and protocol, as Python's `socket.socket` takes them.
#[derive(Clone, Copy)]
pub(crate) struct SocketKind {
    pub(crate) family: i32,
    pub(crate) kind: i32,
    pub(crate) protocol: i32,
}

/// A transport's socket.
///
/// States: *native* until somebody asks for the Python object, which then owns the
/// descriptor; a transport that was given a Python object begins there. *Closed* at the end.
enum Owner {
    Native(OwnedFd, SocketKind),
    Python(Py<PyAny>),
    Closed(Option<Py<PyAny>>, SocketKind),
}

/// What a transport knows of its socket, made into Python objects when it is asked for.
pub(crate) struct SocketOwner {
    owner: Mutex<Option<Owner>>,
    /// The `asyncio.TransportSocket`, once it was asked for.
    facade: Mutex<Option<Py<PyAny>>>,
    given: Option<Py<PyDict>>,
    local_address: Option<SocketAddrAny>,
    peer_address: Option<SocketAddrAny>,
    /// The addresses of families that Rust code does not know.
    other_addresses: Option<(Py<PyAny>, Py<PyAny>)>,
}

impl SocketOwner {
    /// For a Python socket.
    pub(crate) fn of_python(
        socket: &Bound<'_, PyAny>,
        given: Option<Py<PyDict>>,
    ) -> PyResult<Self> {
        let py = socket.py();
        let address = |method: &str| match socket.call_method0(method) {
            Ok(address) => Ok(address.unbind()),
            Err(error) if error.is_instance_of::<pyo3::exceptions::PyOSError>(py) => Ok(py.None()),
            Err(error) => Err(error),
        };
        Ok(Self {
            other_addresses: Some((address("getsockname")?, address("getpeername")?)),
            owner: Mutex::new(Some(Owner::Python(socket.clone().unbind()))),
            facade: Mutex::default(),
            given,
            local_address: None,
            peer_address: None,
        })
    }

    /// For a connection that was accepted.
    pub(crate) fn of_accepted(
        socket: OwnedFd,
        kind: SocketKind,
        peer_address: Option<SocketAddrAny>,
    ) -> Self {
        Self {
            local_address: rustix::net::getsockname(&socket).ok(),
            peer_address,
            owner: Mutex::new(Some(Owner::Native(socket, kind))),
            facade: Mutex::default(),
            given: None,
            other_addresses: None,
        }
    }

    /// The Python socket, which is made by the first call; `None` once it was closed.
    pub(crate) fn open_socket<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let taken = self.take();
        let (owner, socket) = match taken {
            Some(Owner::Native(descriptor, kind)) => {
                let socket = python_socket(py, descriptor, kind)?;
                (Some(Owner::Python(socket.clone().unbind())), Some(socket))
            }
            Some(Owner::Python(socket)) => {
                let bound = socket.bind(py).clone();
                (Some(Owner::Python(socket)), Some(bound))
            }
            other => (other, None),
        };
        self.put(owner);
        Ok(socket)
    }

    /// One of the things that `get_extra_info` answers; `None` for an unknown name.
    pub(crate) fn extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &str,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        // asyncio sets these two itself, whatever it was given.
        match name {
            "socket" => return self.transport_socket(py).map(Some),
            "sockname" => {
                return self
                    .address(py, self.local_address.as_ref(), true)
                    .map(Some);
            }
            _ => {}
        }
        if let Some(given) = &self.given
            && let Some(value) = given.bind(py).get_item(name)?
        {
            return Ok(Some(value));
        }
        if name == "peername" {
            return self
                .address(py, self.peer_address.as_ref(), false)
                .map(Some);
        }
        Ok(None)
    }

    fn address<'py>(
        &self,
        py: Python<'py>,
        address: Option<&SocketAddrAny>,
        is_local: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some((local, peer)) = &self.other_addresses {
            return Ok(if is_local { local } else { peer }.bind(py).clone());
        }
        let made = match address {
            Some(address) => socket_address::to_python(py, address)?,
            // A unix socket without a name.
            None => None,
        };
        Ok(made.unwrap_or_else(|| py.None().into_bound(py)))
    }

    fn transport_socket<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // The same one each time, as in asyncio: it equals nothing but itself.
        if let Some(facade) = self.facade(|facade| facade.as_ref().map(|made| made.clone_ref(py))) {
            return Ok(facade.into_bound(py));
        }
        let socket = match self.open_socket(py)? {
            Some(socket) => socket,
            None => self.closed_socket(py)?,
        };
        let made = names::transport_socket(py)?.call1((socket,))?;
        let first = self.facade(|facade| {
            facade
                .get_or_insert_with(|| made.clone().unbind())
                .clone_ref(py)
        });
        Ok(first.into_bound(py))
    }

    fn facade<T>(&self, use_it: impl FnOnce(&mut Option<Py<PyAny>>) -> T) -> T {
        use_it(&mut self.facade.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn closed_socket<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (known, kind) = match self.take() {
            Some(Owner::Closed(known, kind)) => (known, kind),
            other => {
                self.put(other);
                return Ok(py.None().into_bound(py));
            }
        };
        let socket = if let Some(socket) = known {
            socket.into_bound(py)
        } else {
            // Nobody has asked for it while it was open.
            let arguments = (kind.family, kind.kind, kind.protocol);
            let socket = names::socket(py)?.call1(arguments)?;
            socket.call_method0("close")?;
            socket
        };
        self.put(Some(Owner::Closed(Some(socket.clone().unbind()), kind)));
        Ok(socket)
    }

    /// Whether the socket was not closed yet.
    pub(crate) fn is_open(&self) -> bool {
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(&*owner, Some(Owner::Native(..) | Owner::Python(_)))
    }

    /// Closes the socket, once.
    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.take() {
            Some(Owner::Native(descriptor, kind)) => {
                drop(descriptor);
                self.put(Some(Owner::Closed(None, kind)));
            }
            Some(Owner::Python(socket)) => {
                let no_kind = SocketKind {
                    family: 0,
                    kind: 0,
                    protocol: 0,
                };
                let closed = socket.call_method0(py, "close");
                self.put(Some(Owner::Closed(Some(socket), no_kind)));
                closed?;
            }
            other => self.put(other),
        }
        Ok(())
    }

    fn take(&self) -> Option<Owner> {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        owner.take()
    }

    fn put(&self, owner: Option<Owner>) {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = owner;
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.given)?;
        if let Some((local, peer)) = &self.other_addresses {
            visit.call(local)?;
            visit.call(peer)?;
        }
        if let Ok(facade) = self.facade.try_lock() {
            visit.call(&*facade)?;
        }
        if let Ok(owner) = self.owner.try_lock()
            && let Some(Owner::Python(socket) | Owner::Closed(Some(socket), _)) = &*owner
        {
            visit.call(socket)?;
        }
        Ok(())
    }
}

/// A Python socket that owns a descriptor.
pub(crate) fn python_socket(
    py: Python<'_>,
    descriptor: OwnedFd,
    kind: SocketKind,
) -> PyResult<Bound<'_, PyAny>> {
    let number = descriptor.into_raw_fd();
    let arguments = (kind.family, kind.kind, kind.protocol, number);
    let socket = names::socket(py)?.call1(arguments)?;
    socket.call_method1("setblocking", (false,))?;
    Ok(socket)
}
