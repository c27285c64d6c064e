//! The end of a connection: `connection_lost` is called once, whatever happens.

use carboy_event_loop::Interest;
use pyo3::exceptions::{PyConnectionError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::StreamTransport;
use super::state::tell_server;
use crate::event_loop::native_loop::NativeEventLoop;
use crate::names;

impl StreamTransport {
    /// Closes when everything was written.
    pub(super) fn close_gracefully(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let is_drained = {
            let mut state = this.state();
            if state.closing {
                return Ok(());
            }
            state.closing = true;
            let is_drained = state.queue.is_empty();
            if is_drained {
                state.lost_count += 1;
            }
            is_drained
        };
        this.unwatch(slf.py(), Interest::Read);
        if is_drained {
            this.unwatch(slf.py(), Interest::Write);
            Self::schedule_connection_lost(slf, slf.py().None().into_bound(slf.py()))?;
        }
        Ok(())
    }

    /// Closes at once; what was not written is dropped.
    pub(super) fn force_close(slf: &Bound<'_, Self>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        let left = {
            let mut state = this.state();
            if state.lost_count > 0 {
                return Ok(());
            }
            state.lost_count += 1;
            state.closing = true;
            state.queue.take_all()
        };
        drop(left);
        this.unwatch(slf.py(), Interest::Write);
        this.unwatch(slf.py(), Interest::Read);
        Self::schedule_connection_lost(slf, error)
    }

    /// Reports an error that the connection does not survive, and closes it.
    pub(super) fn fatal_error(slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let is_os_error = error.is_instance_of::<PyOSError>(py);
        let error = error.into_value(py).into_bound(py).into_any();
        if is_os_error {
            // The network's own doing, which the protocol learns from connection_lost.
            if this.event_loop.get().is_debug() {
                let keywords = PyDict::new(py);
                keywords.set_item("exc_info", &error)?;
                let arguments = ("%r: %s", slf, message);
                names::asyncio_logger(py)?.call_method("debug", arguments, Some(&keywords))?;
            }
        } else {
            let details = PyDict::new(py);
            details.set_item("message", message)?;
            details.set_item("exception", &error)?;
            details.set_item("transport", slf)?;
            details.set_item("protocol", this.protocol(py))?;
            let event_loop = this.event_loop.bind(py);
            event_loop.call_method1("call_exception_handler", (details,))?;
        }
        Self::force_close(slf, error)
    }

    fn schedule_connection_lost(slf: &Bound<'_, Self>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let callback = slf.getattr(pyo3::intern!(py, "_call_connection_lost"))?;
        let arguments = PyTuple::new(py, [error])?;
        let event_loop = slf.get().event_loop.bind(py);
        NativeEventLoop::schedule(event_loop, callback, arguments, None)?;
        Ok(())
    }

    /// Tells the protocol, and lets go of everything.
    pub(super) fn connection_lost(slf: &Bound<'_, Self>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let protocol = this.protocol(py);
        let told = protocol
            .map(|protocol| protocol.call_method1(pyo3::intern!(py, "connection_lost"), (error,)));
        let (references, server) = {
            let mut state = this.state();
            // Also if it is called while the queue drains, nothing comes after this.
            state.lost_count += 1;
            let references = (
                state.protocol.take(),
                state.read_context.take(),
                state.write_context.take(),
            );
            (references, state.server.take())
        };
        drop(references);
        let closed = this.socket.close(py);
        if let Some(server) = server {
            tell_server(server.bind(py), pyo3::intern!(py, "_detach"), slf)?;
        }
        told.transpose()?;
        closed?;
        if let Some(waiter) = this.empty_waiter(py)
            && !waiter.call_method0("done")?.is_truthy()?
        {
            let error = PyConnectionError::new_err("Connection is closed by peer");
            waiter.call_method1("set_exception", (error.into_value(py),))?;
        }
        Ok(())
    }
}
