//! From the application to the transport below, encrypted.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::engine::Answer;
use super::protocol::TlsProtocol;
use super::state::{Lower, Phase};
use crate::event_loop::stream::StreamTransport;
use crate::ffi::buffer;
use crate::names;

/// Writes on a connection that was lost are logged from this one on, as in asyncio.
const LOGGED_LOST_WRITES: usize = 5;

impl TlsProtocol {
    /// Takes data of the application.
    pub(super) fn write(slf: &Bound<'_, Self>, data: &[Bound<'_, PyAny>]) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let phase = this.phase(py);
        if matches!(phase, Phase::Flushing | Phase::Shutdown | Phase::Unwrapped) {
            let lost_count = this.state(py, |state| {
                state.lost_count += 1;
                state.lost_count - 1
            });
            if lost_count >= LOGGED_LOST_WRITES {
                let message = "SSL connection is closed";
                names::asyncio_logger(py)?.call_method1("warning", (message,))?;
            }
            return Ok(());
        }
        for piece in data {
            let bytes = length_bytes(piece)?;
            let piece = piece.clone().unbind();
            this.state(py, |state| {
                state.backlog.push_back(piece);
                state.backlog_bytes += bytes;
            });
        }
        if phase != Phase::Wrapped {
            return Ok(());
        }
        match Self::do_write(slf) {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                let error = error.into_value(py);
                Self::fatal_error(slf, error.bind(py), "Fatal error on SSL protocol")
            }
            result => result,
        }
    }

    /// Encrypts what waits, and passes it on.
    pub(super) fn do_write(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        while let Some(data) = this.state(py, |state| {
            let data = state.backlog.front()?;
            Some(data.bind(py).clone())
        }) {
            let (left, written_bytes) = this.encrypt(data)?;
            let is_blocked = left.is_some();
            let written = this.state(py, |state| {
                state.backlog_bytes = state.backlog_bytes.saturating_sub(written_bytes);
                // The connection may have been lost meanwhile.
                let front = state.backlog.front_mut()?;
                match left {
                    Some(left) => Some(std::mem::replace(front, left.unbind())),
                    None => state.backlog.pop_front(),
                }
            });
            drop(written);
            if is_blocked {
                break;
            }
        }
        Self::process_outgoing(slf)
    }

    /// Encrypts data. Returns what the engine does not take now, and how much it has taken.
    fn encrypt<'py>(
        &self,
        data: Bound<'py, PyAny>,
    ) -> PyResult<(Option<Bound<'py, PyAny>>, usize)> {
        let py = data.py();
        let whole_bytes = length_bytes(&data)?;
        let (mut left, mut written_bytes) = (data, 0);
        loop {
            let Answer::Done(count) = self.engine.write(&left)? else {
                return Ok((Some(left), written_bytes));
            };
            written_bytes += count;
            if written_bytes >= whole_bytes {
                return Ok((None, written_bytes));
            }
            // The rest, without a copy of it.
            let view = names::memory_view(py)?.call1((&left,))?;
            let view = view.call_method1(intern!(py, "cast"), ("B",))?;
            left = buffer::part(&view, count, usize::MAX)?;
        }
    }

    /// Passes on what was encrypted, unless the transport below has asked for a pause.
    pub(super) fn process_outgoing(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let mut waiting_bytes = 0;
        if this.state(py, |state| state.lower_paused) {
            waiting_bytes = this.engine.outgoing_bytes(py)?;
        } else {
            let data = this.engine.take_outgoing(py)?;
            if !data.as_bytes().is_empty() {
                this.pass_on(&data)?;
                // A transport that has enough now has asked for a pause.
            }
        }
        let signal = this.state(py, |state| {
            let waiting_bytes = waiting_bytes + state.backlog_bytes;
            state.write_limits.update(waiting_bytes)
        });
        Self::signal(slf, signal)
    }

    fn pass_on(&self, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let py = data.py();
        match self.lower(py) {
            Some(Lower::Native(transport)) => {
                StreamTransport::write_data(transport.bind(py), data.as_any())
            }
            Some(Lower::Other(transport)) => {
                transport.call_method1(py, intern!(py, "write"), (data,))?;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// How many bytes wait to be written.
    pub(super) fn write_buffer_bytes(&self, py: Python<'_>) -> PyResult<usize> {
        let outgoing_bytes = self.engine.outgoing_bytes(py)?;
        Ok(self.state(py, |state| state.backlog_bytes) + outgoing_bytes)
    }

    /// The limits or the amount have changed.
    pub(super) fn control_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let waiting_bytes = slf.get().write_buffer_bytes(py)?;
        let signal = slf
            .get()
            .state(py, |state| state.write_limits.update(waiting_bytes));
        Self::signal(slf, signal)
    }
}

fn length_bytes(data: &Bound<'_, PyAny>) -> PyResult<usize> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        return Ok(bytes.as_bytes().len());
    }
    if data.is_instance(names::memory_view(data.py())?)? {
        return data.getattr(intern!(data.py(), "nbytes"))?.extract();
    }
    data.len()
}
