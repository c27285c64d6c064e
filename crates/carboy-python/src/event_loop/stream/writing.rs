//! From the protocol to the socket: at once if the socket takes it, else when it is ready.

use std::io::{self, IoSlice};

use carboy_event_loop::Interest;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown};

use super::StreamTransport;
use crate::event_loop::payload::{self, Piece};
use crate::event_loop::system_error::{is_try_again, os_error};
use crate::ffi::descriptor;
use crate::names;

/// Writes on a connection that was lost are logged from this one on, as in asyncio.
const LOGGED_LOST_WRITES: usize = 5;

/// What became of a write.
enum Outcome {
    /// The socket has taken all of it.
    Written,
    /// A part is in the queue, which was empty before.
    Queued,
    /// It is behind other bytes in the queue.
    QueuedBehind,
    /// The connection was lost before.
    Lost(usize),
    Failed(io::Error),
}

impl StreamTransport {
    pub(crate) fn write_data(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let outcome = payload::with_data(data, |bytes, piece| {
            slf.get().check_writable("write")?;
            Ok::<_, PyErr>(slf.get().write_now(bytes, piece))
        })??;
        Self::after_write(slf, outcome)
    }

    /// Raises if the transport takes nothing more.
    pub(super) fn check_writable(&self, method: &str) -> PyResult<()> {
        let state = self.state();
        if state.eof_written {
            return Err(PyRuntimeError::new_err(format!(
                "Cannot call {method}() after write_eof()"
            )));
        }
        if state.empty_waiter.is_some() {
            return Err(PyRuntimeError::new_err(format!(
                "unable to {method}; sendfile is in progress"
            )));
        }
        Ok(())
    }

    fn write_now(&self, bytes: &[u8], piece: &dyn Fn() -> Piece) -> Outcome {
        if bytes.is_empty() {
            return Outcome::Written;
        }
        let mut state = self.state();
        if state.lost_count > 0 {
            state.lost_count += 1;
            return Outcome::Lost(state.lost_count - 1);
        }
        if !state.queue.is_empty() {
            state.queue.push(piece(), 0);
            return Outcome::QueuedBehind;
        }
        let written = descriptor::with_borrowed(self.number, |descriptor| {
            rustix::net::send(descriptor, bytes, SendFlags::NOSIGNAL).map_err(io::Error::from)
        });
        let written_bytes = match written.and_then(|written| written) {
            Ok(written_bytes) if written_bytes == bytes.len() => return Outcome::Written,
            Ok(written_bytes) => written_bytes,
            Err(error) if is_try_again(&error) => 0,
            Err(error) => return Outcome::Failed(error),
        };
        state.queue.push(piece(), written_bytes);
        Outcome::Queued
    }

    fn after_write(slf: &Bound<'_, Self>, outcome: Outcome) -> PyResult<()> {
        match outcome {
            Outcome::Written => Ok(()),
            Outcome::Queued => {
                Self::watch(slf, Interest::Write)?;
                Self::after_growth(slf)
            }
            Outcome::QueuedBehind => Self::after_growth(slf),
            Outcome::Lost(count) => {
                if count >= LOGGED_LOST_WRITES {
                    names::asyncio_logger(slf.py())?
                        .call_method1("warning", ("socket.send() raised exception.",))?;
                }
                Ok(())
            }
            Outcome::Failed(error) => {
                let error = os_error(slf.py(), &error);
                Self::fatal_error(slf, error, "Fatal write error on socket transport")
            }
        }
    }

    pub(super) fn after_growth(slf: &Bound<'_, Self>) -> PyResult<()> {
        let signal = {
            let mut state = slf.get().state();
            let buffered_bytes = state.queue.length_bytes();
            state.flow.after_growth(buffered_bytes)
        };
        Self::signal(slf, signal)
    }

    /// Writes several pieces, with one call if the socket takes them.
    pub(super) fn write_pieces(slf: &Bound<'_, Self>, pieces: Vec<Piece>) -> PyResult<()> {
        let this = slf.get();
        let outcome = {
            let mut state = this.state();
            if state.lost_count > 0 {
                state.lost_count += 1;
                Outcome::Lost(state.lost_count - 1)
            } else {
                let was_empty = state.queue.is_empty();
                for piece in pieces {
                    state.queue.push(piece, 0);
                }
                if state.queue.is_empty() {
                    Outcome::Written
                } else if was_empty {
                    match state.queue.write_to(|slices| this.send_slices(slices)) {
                        Ok(_) if state.queue.is_empty() => Outcome::Written,
                        Ok(_) => Outcome::Queued,
                        Err(error) if is_try_again(&error) => Outcome::Queued,
                        Err(error) => Outcome::Failed(error),
                    }
                } else {
                    Outcome::QueuedBehind
                }
            }
        };
        Self::after_write(slf, outcome)
    }

    fn send_slices(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        descriptor::with_borrowed(self.number, |descriptor| {
            let mut control = SendAncillaryBuffer::default();
            let flags = SendFlags::NOSIGNAL;
            Ok(rustix::net::sendmsg(
                descriptor,
                slices,
                &mut control,
                flags,
            )?)
        })?
    }

    /// The socket takes bytes again.
    pub(super) fn write_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let (written, signal) = {
            let mut state = this.state();
            if state.lost_count > 0 || state.queue.is_empty() {
                return Ok(());
            }
            let written = state.queue.write_to(|slices| this.send_slices(slices));
            let buffered_bytes = state.queue.length_bytes();
            (written, state.flow.after_shrinking(buffered_bytes))
        };
        match written {
            Ok(_) => {
                // The protocol may write more here.
                Self::signal(slf, signal)?;
                Self::after_drain(slf)
            }
            Err(error) if is_try_again(&error) => Ok(()),
            Err(error) => {
                this.unwatch(slf.py(), Interest::Write);
                let left = this.state().queue.take_all();
                drop(left);
                let waiter = this.empty_waiter(slf.py());
                let error = os_error(slf.py(), &error);
                let value = error.clone_ref(slf.py()).into_value(slf.py());
                Self::fatal_error(slf, error, "Fatal write error on socket transport")?;
                if let Some(waiter) = waiter {
                    waiter.call_method1("set_exception", (value,))?;
                }
                Ok(())
            }
        }
    }

    fn after_drain(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (closing, eof_written) = {
            let state = this.state();
            if !state.queue.is_empty() {
                return Ok(());
            }
            (state.closing, state.eof_written)
        };
        this.unwatch(slf.py(), Interest::Write);
        if let Some(waiter) = this.empty_waiter(py) {
            waiter.call_method1("set_result", (py.None(),))?;
        }
        if closing {
            Self::connection_lost(slf, py.None().into_bound(py))
        } else if eof_written {
            this.shut_down_writing(py)
        } else {
            Ok(())
        }
    }

    pub(super) fn empty_waiter<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let state = self.state();
        let waiter = state.empty_waiter.as_ref()?;
        Some(waiter.bind(py).clone())
    }

    pub(super) fn shut_down_writing(&self, py: Python<'_>) -> PyResult<()> {
        let shut_down = descriptor::with_borrowed(self.number, |descriptor| {
            rustix::net::shutdown(descriptor, Shutdown::Write).map_err(io::Error::from)
        });
        shut_down
            .and_then(|shut_down| shut_down)
            .map_err(|error| os_error(py, &error))
    }
}
