//! What a transport remembers, and how it begins.

use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use carboy_event_loop::Interest;
use carboy_event_loop::transport::{DatagramQueue, FlowControl};
use pyo3::ffi::destructor;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::net::{AddressFamily, SocketAddrAny};

use crate::event_loop::endpoint::Endpoint;
use crate::event_loop::native_loop::NativeEventLoop;
use crate::event_loop::payload::Piece;
use crate::event_loop::socket_owner::SocketOwner;
use crate::event_loop::unclosed;
use crate::event_loop::watched::Ready;
use crate::ffi::full_object::{self, FullObject};
use crate::names;

/// What asyncio counts for each waiting datagram since it sends empty ones.
const HEADER_BYTES: usize = 8;

/// Where a datagram goes.
pub(super) enum Destination {
    /// Whereto the socket is connected.
    Peer,
    /// An address that Rust code has read.
    Address(SocketAddrAny),
    /// What Python's own socket is to make of this.
    Other(Py<PyAny>),
}

/// The part that changes. No Python code runs and no Python object but bytes is made while
/// it is locked, because a finalizer could then ask for the lock again.
pub(super) struct State {
    pub(super) queue: DatagramQueue<Piece, Destination>,
    pub(super) flow: FlowControl,
    /// Counts up from the moment when `connection_lost` was scheduled: datagrams after that.
    pub(super) lost_count: usize,
    pub(super) closing: bool,
    pub(super) paused: bool,
    /// The sender of the last datagram. Its answer goes there, and more may come from there.
    pub(super) last_sender: Option<(SocketAddrAny, Py<PyAny>)>,
}

/// A socket for datagrams; an `asyncio.DatagramTransport`.
#[pyclass(frozen, weakref, dict, module = "carboy._carboy")]
pub(crate) struct DatagramTransport {
    pub(super) endpoint: Endpoint,
    pub(super) socket: SocketOwner,
    pub(super) family: AddressFamily,
    /// The only address that datagrams may be sent to, if there is one.
    pub(super) address: Option<Py<PyAny>>,
    /// Whether the socket knows by itself where to send.
    pub(super) is_connected: bool,
    /// Whether it does so for a datagram that has no address: also one of a pair of unix
    /// sockets, which have no names.
    pub(super) has_peer: bool,
    pub(super) sends_empty: bool,
    state: Mutex<State>,
}

impl DatagramTransport {
    /// Makes a transport, and schedules `connection_made` and what follows it.
    pub(crate) fn start<'py>(
        event_loop: &Bound<'py, NativeEventLoop>,
        socket: &Bound<'py, PyAny>,
        family: AddressFamily,
        protocol: &Bound<'py, PyAny>,
        address: Option<Bound<'py, PyAny>>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Py<PyDict>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let number: RawFd = socket.call_method0("fileno")?.extract()?;
        let socket = SocketOwner::of_python(socket, extra)?;
        let (is_connected, has_peer) = match socket.extra_info(py, "peername")? {
            Some(peer) => (peer.is_truthy()?, !peer.is_none()),
            None => (false, false),
        };
        let address = match address {
            Some(address) if address.is_truthy()? => Some(address.unbind()),
            _ => None,
        };
        let sends_empty = names::sends_empty_datagrams(py);
        let header_bytes = if sends_empty { HEADER_BYTES } else { 0 };
        let transport = Self {
            endpoint: Endpoint::new(event_loop, number, protocol),
            socket,
            family,
            address,
            is_connected,
            has_peer,
            sends_empty,
            state: Mutex::new(State {
                queue: DatagramQueue::new(header_bytes),
                flow: FlowControl::default(),
                lost_count: 0,
                closing: false,
                paused: false,
                last_sender: None,
            }),
        };
        let transport = full_object::new_object(py, transport)?;
        NativeEventLoop::register_transport(event_loop, number, transport.as_any())?;
        let endpoint = &transport.get().endpoint;
        endpoint.begin(transport.as_any(), true, waiter)?;
        Ok(transport)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.endpoint.traverse(visit)?;
        self.socket.traverse(visit)?;
        visit.call(&self.address)
    }
}

impl Ready for DatagramTransport {
    fn event_loop(&self) -> &Py<NativeEventLoop> {
        self.endpoint.event_loop()
    }

    fn is_cancelled(&self, interest: Interest) -> bool {
        !self.endpoint.watches(interest)
    }

    fn ready(slf: &Bound<'_, Self>, interest: Interest) -> PyResult<()> {
        let endpoint = &slf.get().endpoint;
        endpoint.in_context(slf.py(), interest, || match interest {
            Interest::Read => Self::read_ready(slf),
            Interest::Write => Self::write_ready(slf),
        })
    }
}

impl FullObject for DatagramTransport {
    fn destructor() -> &'static OnceLock<destructor> {
        static DESTRUCTOR: OnceLock<destructor> = OnceLock::new();
        &DESTRUCTOR
    }

    fn finalize(slf: &Bound<'_, Self>) {
        let this = slf.get();
        if this.socket.is_open() {
            unclosed::warn(slf.as_any(), || this.socket.close(slf.py()));
        }
    }
}
