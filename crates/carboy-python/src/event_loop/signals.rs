//! Signals: what their handlers queue, and how they wake the loop.
//!
//! CPython runs a signal's handler on the main thread, between two instructions or when the
//! loop comes back from its wait. The handler of `add_signal_handler` is native and queues a
//! callback. That the wait ends at once is the work of the wake-up descriptor: the byte that
//! is written there tells nothing else, and is thrown away.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use carboy_event_loop::Interest;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rustix::net::RecvFlags;

use super::system_error::os_error;
use super::watched::{Ready, Watched};
use super::{NativeEventLoop, QueuedHandle};
use crate::ffi::descriptor;

/// The reading end of the pair of sockets whose other end is the wake-up descriptor.
#[pyclass(frozen, weakref, module = "carboy._carboy")]
pub(crate) struct WakeupSocket {
    event_loop: Py<NativeEventLoop>,
    number: RawFd,
    is_watched: AtomicBool,
}

#[pymethods]
impl WakeupSocket {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)
    }
}

#[pymethods]
impl NativeEventLoop {
    /// Throws away what arrives at a socket, which has then done its work.
    fn _watch_wakeup_socket(slf: &Bound<'_, Self>, number: RawFd) -> PyResult<()> {
        let py = slf.py();
        let socket = WakeupSocket {
            event_loop: slf.clone().unbind(),
            number,
            is_watched: AtomicBool::new(true),
        };
        let watched = Watched::Wakeup(Py::new(py, socket)?);
        let callback = QueuedHandle::Ready(watched, Interest::Read);
        let queues = slf.get().queues();
        let replaced = descriptor::with_borrowed(number, |descriptor| {
            queues.watch(py, descriptor, Interest::Read, callback)
        });
        match replaced.and_then(|replaced| replaced) {
            Ok(replaced) => replaced.map_or(Ok(()), |replaced| replaced.cancel(py)),
            Err(error) => Err(os_error(py, &error)),
        }
    }

    /// The handler that Python calls for a signal: queues the callback.
    fn _deliver_signal(
        slf: &Bound<'_, Self>,
        signal: i32,
        _frame: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let handlers = slf.getattr(pyo3::intern!(slf.py(), "_signal_handlers"))?;
        let handle = handlers.call_method1(pyo3::intern!(slf.py(), "get"), (signal,))?;
        if handle.is_none() {
            // It was removed while the signal was on its way.
            return Ok(());
        }
        if handle
            .getattr(pyo3::intern!(slf.py(), "_cancelled"))?
            .is_truthy()?
        {
            slf.call_method1("remove_signal_handler", (signal,))?;
            return Ok(());
        }
        let run = handle.getattr(pyo3::intern!(slf.py(), "_run"))?;
        Self::schedule(slf, run, PyTuple::empty(slf.py()), None)
    }
}

impl Ready for WakeupSocket {
    fn event_loop(&self) -> &Py<NativeEventLoop> {
        &self.event_loop
    }

    fn is_cancelled(&self, _interest: Interest) -> bool {
        !self.is_watched.load(Ordering::Acquire)
    }

    fn cancel(&self) {
        self.is_watched.store(false, Ordering::Release);
    }

    fn ready(slf: &Bound<'_, Self>, _interest: Interest) -> PyResult<()> {
        let mut bytes = [0; 64];
        descriptor::with_borrowed(slf.get().number, |descriptor| {
            loop {
                match rustix::net::recv(descriptor, &mut bytes[..], RecvFlags::DONTWAIT) {
                    Ok((_, received_bytes)) if received_bytes == bytes.len() => {}
                    _ => break,
                }
            }
        })?;
        Ok(())
    }
}
