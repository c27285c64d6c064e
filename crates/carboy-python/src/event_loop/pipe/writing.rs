//! The end that is written.

use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use carboy_event_loop::Interest;
use carboy_event_loop::transport::{FlowControl, WriteQueue};
use pyo3::exceptions::PyBrokenPipeError;
use pyo3::ffi::destructor;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::file::PipeFile;
use crate::event_loop::NativeEventLoop;
use crate::event_loop::endpoint::Endpoint;
use crate::event_loop::payload::{self, Piece};
use crate::event_loop::system_error::{is_try_again, os_error};
use crate::event_loop::unclosed;
use crate::event_loop::watched::{Ready, Watched};
use crate::ffi::descriptor;
use crate::ffi::full_object::{self, FullObject};
use crate::names;

/// Writes on a pipe that was closed are logged from this one on, as in asyncio.
const LOGGED_LOST_WRITES: usize = 5;

/// The part that changes. No Python code runs and no Python object but bytes is made while
/// it is locked, because a finalizer could then ask for the lock again.
///
/// *Open*, then *closing*, in which what is queued is still written; *lost* from when
/// `connection_lost` was scheduled.
#[derive(Default)]
pub(super) struct State {
    pub(super) queue: WriteQueue<Piece>,
    pub(super) flow: FlowControl,
    /// Counts writes that came too late or failed.
    lost_count: usize,
    pub(super) closing: bool,
    lost: bool,
}

/// The end of a pipe that is written; an `asyncio.WriteTransport`.
#[pyclass(frozen, weakref, dict, module = "carboy._carboy")]
pub(crate) struct WritePipeTransport {
    pub(super) endpoint: Endpoint,
    pub(super) pipe: PipeFile,
    state: Mutex<State>,
}

/// What became of a write.
enum Outcome {
    Written,
    /// A part is in the queue, which was empty before.
    Queued,
    /// It is behind other bytes in the queue.
    QueuedBehind,
    Lost(usize),
    Failed(io::Error),
}

impl WritePipeTransport {
    /// Makes a transport, and schedules `connection_made` and what follows it.
    pub(crate) fn start<'py>(
        event_loop: &Bound<'py, NativeEventLoop>,
        pipe: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, Self>> {
        let refusal = "Pipe transport is only for pipes, sockets and character devices";
        let (pipe, number, has_other_end) = PipeFile::take_over(pipe, extra, refusal)?;
        let transport = Self {
            endpoint: Endpoint::new(event_loop, number, protocol),
            pipe,
            state: Mutex::default(),
        };
        let transport = full_object::new_object(event_loop.py(), transport)?;
        let endpoint = &transport.get().endpoint;
        endpoint.begin(transport.as_any(), has_other_end, waiter)?;
        Ok(transport)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(slf: &Bound<'_, Self>, interest: Interest) -> PyResult<()> {
        let watched = Watched::WritePipe(slf.clone().unbind());
        slf.get().endpoint.watch(slf.py(), interest, watched)
    }

    pub(super) fn write_data(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        match payload::with_data(data, |bytes, piece| this.write_now(bytes, piece))? {
            Outcome::Written => Ok(()),
            Outcome::Queued => {
                Self::watch(slf, Interest::Write)?;
                Self::after_growth(slf)
            }
            Outcome::QueuedBehind => Self::after_growth(slf),
            Outcome::Lost(count) => {
                if count >= LOGGED_LOST_WRITES {
                    let message = "pipe closed by peer or os.write(pipe, data) raised exception.";
                    names::asyncio_logger(py)?.call_method1("warning", (message,))?;
                }
                Ok(())
            }
            Outcome::Failed(error) => Self::write_failed(slf, &error),
        }
    }

    fn write_now(&self, bytes: &[u8], piece: &dyn Fn() -> Piece) -> Outcome {
        if bytes.is_empty() {
            return Outcome::Written;
        }
        let mut state = self.state();
        if state.closing || state.lost_count > 0 {
            state.lost_count += 1;
            return Outcome::Lost(state.lost_count - 1);
        }
        if !state.queue.is_empty() {
            state.queue.push(piece(), 0);
            return Outcome::QueuedBehind;
        }
        let written = descriptor::with_borrowed(self.endpoint.number(), |descriptor| {
            rustix::io::write(descriptor, bytes).map_err(io::Error::from)
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

    pub(super) fn after_growth(slf: &Bound<'_, Self>) -> PyResult<()> {
        let signal = {
            let mut state = slf.get().state();
            let queued_bytes = state.queue.length_bytes();
            state.flow.after_growth(queued_bytes)
        };
        slf.get().endpoint.signal(slf.as_any(), signal)
    }

    fn write_failed(slf: &Bound<'_, Self>, error: &io::Error) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.state().lost_count += 1;
        let error = os_error(py, error).into_value(py);
        let error = error.into_bound(py).into_any();
        let message = "Fatal write error on pipe transport";
        this.endpoint.report(slf.as_any(), &error, message, true)?;
        Self::force_close(slf, error)
    }

    /// The pipe takes bytes again.
    fn write_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let written = {
            let mut state = this.state();
            if state.queue.is_empty() {
                Ok(0)
            } else {
                state.queue.write_to(|slices| this.write_slices(slices))
            }
        };
        match written {
            Ok(_) => {}
            Err(error) if is_try_again(&error) => return Ok(()),
            Err(error) => return Self::write_failed(slf, &error),
        }
        let signal = {
            let mut state = this.state();
            if !state.queue.is_empty() {
                return Ok(());
            }
            state.flow.after_shrinking(0)
        };
        this.endpoint.unwatch(py, Interest::Write);
        // The protocol may write more here.
        this.endpoint.signal(slf.as_any(), signal)?;
        let ends = {
            let mut state = this.state();
            let ends = state.closing && !state.lost;
            state.lost |= ends;
            ends
        };
        if ends {
            this.endpoint.unwatch(py, Interest::Read);
            return this.connection_lost(py, py.None().into_bound(py));
        }
        Ok(())
    }

    fn write_slices(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        descriptor::with_borrowed(self.endpoint.number(), |descriptor| {
            Ok(rustix::io::writev(descriptor, slices)?)
        })?
    }

    /// The reader has closed its end: an error if somebody has still to read something.
    fn other_end_closed(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.endpoint
            .log(slf.as_any(), "info", "%r was closed by peer")?;
        let is_drained = this.state().queue.is_empty();
        let error = if is_drained {
            py.None().into_bound(py)
        } else {
            let error = PyBrokenPipeError::new_err(());
            error.into_value(py).into_bound(py).into_any()
        };
        Self::force_close(slf, error)
    }

    /// Closes when everything was written.
    pub(super) fn close_gracefully(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        {
            let mut state = this.state();
            if state.closing {
                return Ok(());
            }
            state.closing = true;
            if !state.queue.is_empty() {
                return Ok(());
            }
            state.lost = true;
        }
        this.endpoint.unwatch(py, Interest::Read);
        Self::schedule_end(slf, py.None().into_bound(py))
    }

    fn schedule_end(slf: &Bound<'_, Self>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        if this.endpoint.is_loop_closed() {
            // Nobody is told any more, but the file is not left open.
            this.endpoint.clear();
            return this.pipe.close(slf.py());
        }
        this.endpoint.schedule_connection_lost(slf.as_any(), error)
    }

    /// Closes at once; what was not written is dropped.
    pub(super) fn force_close(slf: &Bound<'_, Self>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        let left = {
            let mut state = this.state();
            state.closing = true;
            if std::mem::replace(&mut state.lost, true) {
                return Ok(());
            }
            state.queue.take_all()
        };
        drop(left);
        this.endpoint.unwatch(slf.py(), Interest::Write);
        this.endpoint.unwatch(slf.py(), Interest::Read);
        Self::schedule_end(slf, error)
    }

    pub(super) fn connection_lost(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let told = self.endpoint.tell_connection_lost(py, error);
        let closed = self.pipe.close(py);
        told?;
        closed
    }
}

impl Ready for WritePipeTransport {
    fn event_loop(&self) -> &Py<NativeEventLoop> {
        self.endpoint.event_loop()
    }

    fn is_cancelled(&self, interest: Interest) -> bool {
        !self.endpoint.watches(interest)
    }

    fn ready(slf: &Bound<'_, Self>, interest: Interest) -> PyResult<()> {
        let endpoint = &slf.get().endpoint;
        endpoint.in_context(slf.py(), interest, || match interest {
            Interest::Read => Self::other_end_closed(slf),
            Interest::Write => Self::write_ready(slf),
        })
    }
}

impl FullObject for WritePipeTransport {
    fn destructor() -> &'static OnceLock<destructor> {
        static DESTRUCTOR: OnceLock<destructor> = OnceLock::new();
        &DESTRUCTOR
    }

    fn finalize(slf: &Bound<'_, Self>) {
        let this = slf.get();
        if this.pipe.is_open() {
            unclosed::warn(slf.as_any(), || this.pipe.close(slf.py()));
        }
    }
}
