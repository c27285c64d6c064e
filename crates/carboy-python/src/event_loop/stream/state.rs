//! What a transport remembers, and how it is watched.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use carboy_event_loop::Interest;
use carboy_event_loop::transport::{FlowControl, FlowSignal, WriteQueue};
use pyo3::ffi::destructor;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyString, PyTuple};

use crate::event_loop::QueuedHandle;
use crate::event_loop::native_loop::NativeEventLoop;
use crate::event_loop::payload::Piece;
use crate::event_loop::socket_owner::SocketOwner;
use crate::event_loop::system_error::os_error;
use crate::event_loop::unclosed;
use crate::event_loop::watched::{Ready, Watched};
use crate::event_loop::{buffered_protocol, flow_signal};
use crate::ffi::full_object::{self, FullObject};
use crate::ffi::{context, descriptor};
use crate::names;

/// The part that changes. No Python code runs and no Python object but bytes is made while
/// it is locked, because a finalizer could then ask for the lock again.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "asyncio's own flags, which are independent of each other"
)]
pub(super) struct State {
    pub(super) protocol: Option<Py<PyAny>>,
    /// Whether the protocol is an `asyncio.BufferedProtocol`.
    pub(super) is_buffered: bool,
    pub(super) server: Option<Py<PyAny>>,
    pub(super) queue: WriteQueue<Piece>,
    pub(super) flow: FlowControl,
    /// Counts up from the moment when `connection_lost` was scheduled: writes after that.
    pub(super) lost_count: usize,
    pub(super) closing: bool,
    pub(super) paused: bool,
    pub(super) eof_written: bool,
    /// Set while `sendfile` writes past this transport: a future.
    pub(super) empty_waiter: Option<Py<PyAny>>,
    pub(super) read_context: Option<Py<PyContext>>,
    pub(super) write_context: Option<Py<PyContext>>,
    /// How much the last read brought.
    pub(super) last_read_bytes: usize,
}

/// A connection; an `asyncio.Transport`.
#[pyclass(frozen, weakref, dict, module = "carboy._carboy")]
pub(crate) struct StreamTransport {
    pub(super) event_loop: Py<NativeEventLoop>,
    pub(super) number: RawFd,
    pub(super) socket: SocketOwner,
    state: Mutex<State>,
    watches_reads: AtomicBool,
    watches_writes: AtomicBool,
}

impl StreamTransport {
    /// Makes a transport, and schedules `connection_made` and what follows it.
    pub(crate) fn start<'py>(
        event_loop: &Bound<'py, NativeEventLoop>,
        number: RawFd,
        socket: SocketOwner,
        protocol: Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        server: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let transport = Self {
            event_loop: event_loop.clone().unbind(),
            number,
            socket,
            state: Mutex::default(),
            watches_reads: AtomicBool::new(false),
            watches_writes: AtomicBool::new(false),
        };
        let transport = full_object::new_object(py, transport)?;
        transport.get().set_protocol(protocol.clone())?;
        if let Some(server) = &server {
            tell_server(server, pyo3::intern!(py, "_attach"), &transport)?;
        }
        transport.get().state().server = server.map(Bound::unbind);
        descriptor::with_borrowed(number, |descriptor| {
            // Without Nagle's delay. A unix socket has none.
            rustix::net::sockopt::set_tcp_nodelay(descriptor, true).ok();
        })?;
        NativeEventLoop::register_transport(event_loop, number, transport.as_any())?;
        let made = protocol.getattr(pyo3::intern!(py, "connection_made"))?;
        let arguments = PyTuple::new(py, [&transport])?;
        NativeEventLoop::schedule(event_loop, made, arguments, None)?;
        let start_reading = transport.getattr(pyo3::intern!(py, "_start_reading"))?;
        NativeEventLoop::schedule(event_loop, start_reading, PyTuple::empty(py), None)?;
        if let Some(waiter) = waiter {
            let arguments = PyTuple::new(py, [waiter, py.None().into_bound(py)])?;
            let set_result = names::set_result_unless_cancelled(py)?.clone();
            NativeEventLoop::schedule(event_loop, set_result, arguments, None)?;
        }
        Ok(transport)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        let is_buffered = buffered_protocol::is_buffered(&protocol)?;
        let mut state = self.state();
        state.is_buffered = is_buffered;
        let previous = state.protocol.replace(protocol.unbind());
        drop(state);
        drop(previous);
        Ok(())
    }

    pub(super) fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let state = self.state();
        let protocol = state.protocol.as_ref()?;
        Some(protocol.bind(py).clone())
    }

    /// Whether it is watched for this.
    pub(super) fn watches(&self, interest: Interest) -> bool {
        self.watched(interest).load(Ordering::Acquire)
    }

    fn watched(&self, interest: Interest) -> &AtomicBool {
        match interest {
            Interest::Read => &self.watches_reads,
            Interest::Write => &self.watches_writes,
        }
    }

    /// Watches the socket. What happens then runs in a copy of the context of now.
    pub(super) fn watch(slf: &Bound<'_, Self>, interest: Interest) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.event_loop.get().check_closed()?;
        let context = context::copy_current(py)?;
        let mut state = this.state();
        let place = match interest {
            Interest::Read => &mut state.read_context,
            Interest::Write => &mut state.write_context,
        };
        let previous = place.replace(context);
        drop(state);
        drop(previous);
        if this.watched(interest).swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let callback = QueuedHandle::Ready(Watched::Stream(slf.clone().unbind()), interest);
        let queues = this.event_loop.get().queues();
        let watched = descriptor::with_borrowed(this.number, |descriptor| {
            queues.watch(py, descriptor, interest, callback)
        });
        watched
            .and_then(|watched| watched)
            .map(drop)
            .map_err(|error| {
                this.watched(interest).store(false, Ordering::Release);
                os_error(py, &error)
            })
    }

    pub(super) fn unwatch(&self, py: Python<'_>, interest: Interest) {
        if self.watched(interest).swap(false, Ordering::AcqRel) {
            let queues = self.event_loop.get().queues();
            let removed = descriptor::with_borrowed(self.number, |descriptor| {
                queues.unwatch(py, descriptor, interest)
            });
            drop(removed);
        }
    }

    /// Tells the protocol to pause or to resume writing.
    pub(super) fn signal(slf: &Bound<'_, Self>, signal: Option<FlowSignal>) -> PyResult<()> {
        let Some(signal) = signal else {
            return Ok(());
        };
        let protocol = slf.get().protocol(slf.py());
        flow_signal::tell(&slf.get().event_loop, slf.as_any(), protocol, signal)
    }
}

impl Ready for StreamTransport {
    fn event_loop(&self) -> &Py<NativeEventLoop> {
        &self.event_loop
    }

    fn is_cancelled(&self, interest: Interest) -> bool {
        !self.watches(interest)
    }

    /// The socket is ready: reads or writes, in the context in which that was asked for.
    fn ready(slf: &Bound<'_, Self>, interest: Interest) -> PyResult<()> {
        let py = slf.py();
        let context = {
            let state = slf.get().state();
            let context = match interest {
                Interest::Read => &state.read_context,
                Interest::Write => &state.write_context,
            };
            context.as_ref().map(|context| context.bind(py).clone())
        };
        let Some(context) = context else {
            return Ok(());
        };
        context::enter(&context)?;
        let result = match interest {
            Interest::Read => Self::read_ready(slf),
            Interest::Write => Self::write_ready(slf),
        };
        context::exit(&context)?;
        result
    }
}

impl FullObject for StreamTransport {
    fn destructor() -> &'static OnceLock<destructor> {
        static DESTRUCTOR: OnceLock<destructor> = OnceLock::new();
        &DESTRUCTOR
    }

    fn finalize(slf: &Bound<'_, Self>) {
        let this = slf.get();
        if this.socket.is_open() {
            unclosed::warn(slf.as_any(), || {
                let server = this.state().server.take();
                this.socket.close(slf.py())?;
                server.map_or(Ok(()), |server| {
                    let server = server.bind(slf.py());
                    tell_server(server, pyo3::intern!(slf.py(), "_detach"), slf)
                })
            });
        }
    }
}

impl StreamTransport {
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.socket.traverse(visit)?;
        // While the state is being changed there is nothing to collect here.
        if let Ok(state) = self.state.try_lock() {
            visit.call(&state.protocol)?;
            visit.call(&state.server)?;
            visit.call(&state.empty_waiter)?;
            visit.call(&state.read_context)?;
            visit.call(&state.write_context)?;
        }
        Ok(())
    }

    pub(super) fn clear(&self) {
        let mut state = self.state();
        let references = (
            state.protocol.take(),
            state.server.take(),
            state.empty_waiter.take(),
            state.read_context.take(),
            state.write_context.take(),
        );
        drop(state);
        drop(references);
    }
}

/// Tells a server of the beginning or the end of one of its connections.
///
/// One whose clients can be closed wants to know which it is, as those of CPython 3.13 do and
/// those of carboy's loop on any version; others only count.
pub(super) fn tell_server(
    server: &Bound<'_, PyAny>,
    method: &Bound<'_, PyString>,
    transport: &Bound<'_, StreamTransport>,
) -> PyResult<()> {
    if server.hasattr(pyo3::intern!(server.py(), "close_clients"))? {
        server.call_method1(method, (transport,))?;
    } else {
        server.call_method0(method)?;
    }
    Ok(())
}
