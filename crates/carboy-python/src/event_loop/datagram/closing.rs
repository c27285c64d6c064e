//! The end of a transport: `connection_lost` is called once, whatever happens.

use carboy_event_loop::Interest;
use pyo3::prelude::*;

use super::DatagramTransport;
use crate::event_loop::endpoint::is_os_error;

impl DatagramTransport {
    /// Closes when everything was sent.
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
        this.endpoint.unwatch(slf.py(), Interest::Read);
        if is_drained {
            this.endpoint.unwatch(slf.py(), Interest::Write);
            let no_error = slf.py().None().into_bound(slf.py());
            this.endpoint
                .schedule_connection_lost(slf.as_any(), no_error)?;
        }
        Ok(())
    }

    /// Closes at once; what was not sent is dropped.
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
        this.endpoint.unwatch(slf.py(), Interest::Write);
        this.endpoint.unwatch(slf.py(), Interest::Read);
        this.endpoint.schedule_connection_lost(slf.as_any(), error)
    }

    /// Reports an error that the transport does not survive, and closes it.
    pub(super) fn fatal_error(slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        let is_expected = is_os_error(py, &error);
        let error = error.into_value(py).into_bound(py).into_any();
        let endpoint = &slf.get().endpoint;
        endpoint.report(slf.as_any(), &error, message, is_expected)?;
        Self::force_close(slf, error)
    }

    /// Tells the protocol, and lets go of everything.
    pub(super) fn connection_lost(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        // Also if it is called while the queue drains, nothing comes after this.
        let last_sender = {
            let mut state = self.state();
            state.lost_count = state.lost_count.max(1);
            state.last_sender.take()
        };
        drop(last_sender);
        let told = self.endpoint.tell_connection_lost(py, error);
        let closed = self.socket.close(py);
        told?;
        closed
    }
}
