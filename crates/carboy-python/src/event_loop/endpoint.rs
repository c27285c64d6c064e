//! What transports have in common: their loop, their descriptor, their protocol, and how
//! the descriptor is watched.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use carboy_event_loop::Interest;
use carboy_event_loop::transport::FlowSignal;
use pyo3::exceptions::PyOSError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyDict, PyTuple};

use super::system_error::os_error;
use super::watched::Watched;
use super::{NativeEventLoop, QueuedHandle, flow_signal};
use crate::ffi::{context, descriptor};
use crate::names;

/// Whether a descriptor is watched in one direction, and the context in which its transport
/// then works.
#[derive(Default)]
struct Watch {
    active: AtomicBool,
    context: Mutex<Option<Py<PyContext>>>,
}

impl Watch {
    fn replace(&self, context: Option<Py<PyContext>>) -> Option<Py<PyContext>> {
        let mut place = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, context)
    }

    fn context<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyContext>> {
        let place = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        Some(place.as_ref()?.bind(py).clone())
    }
}

/// One end of whatever a transport carries.
pub(crate) struct Endpoint {
    event_loop: Py<NativeEventLoop>,
    number: RawFd,
    protocol: Mutex<Option<Py<PyAny>>>,
    reads: Watch,
    writes: Watch,
}

impl Endpoint {
    pub(crate) fn new(
        event_loop: &Bound<'_, NativeEventLoop>,
        number: RawFd,
        protocol: &Bound<'_, PyAny>,
    ) -> Self {
        Self {
            event_loop: event_loop.clone().unbind(),
            number,
            protocol: Mutex::new(Some(protocol.clone().unbind())),
            reads: Watch::default(),
            writes: Watch::default(),
        }
    }

    pub(crate) fn event_loop(&self) -> &Py<NativeEventLoop> {
        &self.event_loop
    }

    pub(crate) fn number(&self) -> RawFd {
        self.number
    }

    pub(crate) fn is_debug(&self) -> bool {
        self.event_loop.get().is_debug()
    }

    /// Whether the loop was closed, so that it calls nobody any more.
    pub(crate) fn is_loop_closed(&self) -> bool {
        self.event_loop.get().check_closed().is_err()
    }

    pub(crate) fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let protocol = self.protocol.lock().unwrap_or_else(PoisonError::into_inner);
        Some(protocol.as_ref()?.bind(py).clone())
    }

    pub(crate) fn set_protocol(&self, protocol: Option<Py<PyAny>>) {
        let previous = {
            let mut place = self.protocol.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *place, protocol)
        };
        drop(previous);
    }

    fn direction(&self, interest: Interest) -> &Watch {
        match interest {
            Interest::Read => &self.reads,
            Interest::Write => &self.writes,
        }
    }

    /// Whether the descriptor is watched for this.
    pub(crate) fn watches(&self, interest: Interest) -> bool {
        self.direction(interest).active.load(Ordering::Acquire)
    }

    /// Watches the descriptor. What happens then runs in a copy of the context of now.
    pub(crate) fn watch(
        &self,
        py: Python<'_>,
        interest: Interest,
        watched: Watched,
    ) -> PyResult<()> {
        let native = self.event_loop.get();
        native.check_closed()?;
        let watch = self.direction(interest);
        let previous = watch.replace(Some(context::copy_current(py)?));
        drop(previous);
        if watch.active.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let callback = QueuedHandle::Ready(watched, interest);
        let replaced = descriptor::with_borrowed(self.number, |descriptor| {
            native.queues().watch(py, descriptor, interest, callback)
        });
        match replaced.and_then(|replaced| replaced) {
            Ok(replaced) => replaced.map_or(Ok(()), |replaced| replaced.cancel(py)),
            Err(error) => {
                watch.active.store(false, Ordering::Release);
                Err(os_error(py, &error))
            }
        }
    }

    pub(crate) fn unwatch(&self, py: Python<'_>, interest: Interest) {
        if self
            .direction(interest)
            .active
            .swap(false, Ordering::AcqRel)
        {
            let queues = self.event_loop.get().queues();
            let removed = descriptor::with_borrowed(self.number, |descriptor| {
                queues.unwatch(py, descriptor, interest)
            });
            drop(removed);
        }
    }

    /// Works on a ready descriptor, in the context in which that was asked for.
    pub(crate) fn in_context(
        &self,
        py: Python<'_>,
        interest: Interest,
        work: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        let Some(context) = self.direction(interest).context(py) else {
            return Ok(());
        };
        context::enter(&context)?;
        let result = work();
        context::exit(&context)?;
        result
    }

    /// Schedules a method of the transport or of its protocol.
    pub(crate) fn schedule<'py>(
        &self,
        object: &Bound<'py, PyAny>,
        method: &str,
        arguments: Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        let callback = object.getattr(method)?;
        let event_loop = self.event_loop.bind(object.py());
        NativeEventLoop::schedule(event_loop, callback, arguments, None)?;
        Ok(())
    }

    /// Schedules `connection_made`, then the transport's `_start_reading` if it has one, then
    /// the end of the wait of who asked for the transport.
    pub(crate) fn begin<'py>(
        &self,
        transport: &Bound<'py, PyAny>,
        reads: bool,
        waiter: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let py = transport.py();
        if let Some(protocol) = self.protocol(py) {
            let arguments = PyTuple::new(py, [transport])?;
            self.schedule(&protocol, "connection_made", arguments)?;
        }
        if reads {
            self.schedule(transport, "_start_reading", PyTuple::empty(py))?;
        }
        if let Some(waiter) = waiter {
            let arguments = PyTuple::new(py, [waiter, py.None().into_bound(py)])?;
            let set_result = names::set_result_unless_cancelled(py)?.clone();
            let event_loop = self.event_loop.bind(py);
            NativeEventLoop::schedule(event_loop, set_result, arguments, None)?;
        }
        Ok(())
    }

    /// Schedules the end: `connection_lost`, with this error or `None`.
    pub(crate) fn schedule_connection_lost(
        &self,
        transport: &Bound<'_, PyAny>,
        error: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let arguments = PyTuple::new(transport.py(), [error])?;
        self.schedule(transport, "_call_connection_lost", arguments)
    }

    /// Tells the protocol of the end, and lets go of everything.
    ///
    /// # Errors
    ///
    /// What the protocol raises; everything was let go of then, too.
    pub(crate) fn tell_connection_lost(
        &self,
        py: Python<'_>,
        error: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let told = self
            .protocol(py)
            .map(|protocol| protocol.call_method1(pyo3::intern!(py, "connection_lost"), (error,)));
        self.clear();
        told.transpose()?;
        Ok(())
    }

    /// Tells the protocol to pause or to resume writing.
    pub(crate) fn signal(
        &self,
        transport: &Bound<'_, PyAny>,
        signal: Option<FlowSignal>,
    ) -> PyResult<()> {
        let Some(signal) = signal else {
            return Ok(());
        };
        let protocol = self.protocol(transport.py());
        flow_signal::tell(&self.event_loop, transport, protocol, signal)
    }

    /// Reports an error that ends the transport: to the loop's exception handler, or in debug
    /// mode to the log if it is the network's own doing (`is_expected`), which the protocol
    /// learns from `connection_lost`.
    pub(crate) fn report(
        &self,
        transport: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        message: &str,
        is_expected: bool,
    ) -> PyResult<()> {
        let py = transport.py();
        if is_expected {
            if self.is_debug() {
                let keywords = PyDict::new(py);
                keywords.set_item("exc_info", error)?;
                let arguments = ("%r: %s", transport, message);
                names::asyncio_logger(py)?.call_method("debug", arguments, Some(&keywords))?;
            }
            return Ok(());
        }
        let details = PyDict::new(py);
        details.set_item("message", message)?;
        details.set_item("exception", error)?;
        details.set_item("transport", transport)?;
        details.set_item("protocol", self.protocol(py))?;
        let event_loop = self.event_loop.bind(py);
        event_loop.call_method1("call_exception_handler", (details,))?;
        Ok(())
    }

    /// Writes a line of asyncio's debug log.
    pub(crate) fn log(
        &self,
        transport: &Bound<'_, PyAny>,
        level: &str,
        message: &str,
    ) -> PyResult<()> {
        if self.is_debug() {
            let logger = names::asyncio_logger(transport.py())?;
            logger.call_method1(level, (message, transport))?;
        }
        Ok(())
    }

    /// How a transport's `repr` says whether it is watched.
    pub(crate) fn describe(&self, interest: Interest) -> &'static str {
        if self.is_loop_closed() {
            "open"
        } else if self.watches(interest) {
            "polling"
        } else {
            "idle"
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        // What is being changed has nothing to collect.
        if let Ok(protocol) = self.protocol.try_lock() {
            visit.call(&*protocol)?;
        }
        for watch in [&self.reads, &self.writes] {
            if let Ok(context) = watch.context.try_lock() {
                visit.call(&*context)?;
            }
        }
        Ok(())
    }

    pub(crate) fn clear(&self) {
        self.set_protocol(None);
        let contexts = (self.reads.replace(None), self.writes.replace(None));
        drop(contexts);
    }
}

/// Whether an exception is the answer of a system call.
pub(crate) fn is_os_error(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyOSError>(py)
}
