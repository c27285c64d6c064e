//! The end of a TLS connection.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::engine::Answer;
use super::protocol::TlsProtocol;
use super::state::{Phase, Told};
use crate::event_loop::NativeEventLoop;
use crate::event_loop::system_error::ends_the_loop;
use crate::names;

impl TlsProtocol {
    /// Closes when everything was written, and the peer knows.
    pub(super) fn start_shutdown(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        match this.phase(py) {
            Phase::Flushing | Phase::Shutdown | Phase::Unwrapped => return Ok(()),
            Phase::Handshake => {
                this.state(py, |state| state.transport_closed = true);
                return Self::abort(slf, py.None().into_bound(py));
            }
            Phase::Wrapped => {}
        }
        this.state(py, |state| state.transport_closed = true);
        this.set_phase(py, Phase::Flushing)?;
        let check = slf.getattr(intern!(py, "_check_shutdown_timeout"))?;
        let arguments = (&this.shutdown_timeout_seconds, check);
        let timer = this
            .event_loop
            .call_method1(py, intern!(py, "call_later"), arguments)?;
        this.state(py, |state| state.shutdown_timer = Some(timer));
        Self::do_flush(slf)
    }

    pub(super) fn check_shutdown_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !matches!(this.phase(py), Phase::Flushing | Phase::Shutdown) {
            return Ok(());
        }
        if let Some(lower) = this.lower_object(py) {
            let error = names::timeout_error(py)?.call1(("SSL shutdown timed out",))?;
            lower.call_method1("_force_close", (error,))?;
        }
        Ok(())
    }

    pub(super) fn do_flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::do_read(slf)?;
        slf.get().set_phase(slf.py(), Phase::Shutdown)?;
        Self::do_shutdown(slf)
    }

    pub(super) fn do_shutdown(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let answer = if this.state(py, |state| state.eof_received) {
            Ok(Answer::Done(()))
        } else {
            this.engine.call(py, "unwrap")
        };
        match answer {
            Ok(Answer::Done(())) => {
                Self::process_outgoing(slf)?;
                Self::call_eof_received(slf)?;
                Self::complete_shutdown(slf, None)
            }
            Ok(Answer::Again) => Self::process_outgoing(slf),
            Err(error) if error.value(py).is_instance(names::ssl_error(py)?)? => {
                Self::complete_shutdown(slf, Some(error))
            }
            Err(error) => Err(error),
        }
    }

    fn complete_shutdown(slf: &Bound<'_, Self>, error: Option<PyErr>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.cancel_shutdown_timer(py)?;
        if let Some(error) = error {
            let error = error.into_value(py);
            return Self::fatal_error(slf, error.bind(py), "Fatal error on transport");
        }
        let Some(lower) = this.lower_object(py) else {
            return Ok(());
        };
        let close = lower.getattr(intern!(py, "close"))?;
        let event_loop = this.event_loop.bind(py);
        NativeEventLoop::schedule(event_loop, close, PyTuple::empty(py), None)
    }

    fn cancel_shutdown_timer(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(timer) = self.state(py, |state| state.shutdown_timer.take()) {
            timer.call_method0(py, intern!(py, "cancel"))?;
        }
        Ok(())
    }

    /// Closes at once.
    pub(super) fn abort(slf: &Bound<'_, Self>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.set_phase(py, Phase::Unwrapped)?;
        if let Some(lower) = this.lower_object(py) {
            lower.call_method1(intern!(py, "_force_close"), (error,))?;
        }
        Ok(())
    }

    /// The peer sends nothing more: tells the application, once.
    pub(super) fn call_eof_received(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let is_first = this.state(py, |state| {
            let is_first = state.told == Told::ConnectionMade;
            if is_first {
                state.told = Told::Eof;
            }
            is_first
        });
        let Some(protocol) = this.protocol(py).filter(|_| is_first) else {
            return Ok(());
        };
        let keep_open = protocol
            .call_method0(intern!(py, "eof_received"))
            .and_then(|answer| answer.is_truthy());
        match keep_open {
            Ok(false) => Ok(()),
            Ok(true) => {
                let message = "returning true from eof_received() has no effect when using ssl";
                names::asyncio_logger(py)?.call_method1("warning", (message,))?;
                Ok(())
            }
            Err(error) if ends_the_loop(py, &error) => Err(error),
            Err(error) => {
                let error = error.into_value(py);
                Self::fatal_error(slf, error.bind(py), "Error calling eof_received()")
            }
        }
    }

    /// The transport below has read its end.
    pub(super) fn receive_eof(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        this.state(py, |state| state.eof_received = true);
        let result = Self::after_eof(slf);
        if let Err(error) = &result
            && error.is_instance_of::<PyException>(py)
            && let Some(lower) = this.lower_object(py)
        {
            lower.call_method0("close")?;
        }
        result
    }

    fn after_eof(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        Self::log(slf, "%r received EOF")?;
        match this.phase(py) {
            Phase::Unwrapped => {}
            Phase::Handshake => Self::break_off_handshake(slf)?,
            Phase::Wrapped => {
                this.set_phase(py, Phase::Flushing)?;
                if this.state(py, |state| state.reading_paused) {
                    return Ok(true);
                }
                Self::do_flush(slf)?;
            }
            Phase::Flushing => {
                Self::do_write(slf)?;
                this.set_phase(py, Phase::Shutdown)?;
                Self::do_shutdown(slf)?;
            }
            Phase::Shutdown => Self::do_shutdown(slf)?,
        }
        Ok(false)
    }

    /// The transport below has ended.
    pub(super) fn lose_connection(slf: &Bound<'_, Self>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let left = this.state(py, |state| {
            state.lost_count += 1;
            state.transport_closed = true;
            state.backlog_bytes = 0;
            std::mem::take(&mut state.backlog)
        });
        drop(left);
        this.engine.take_outgoing(py)?;
        let is_told = this.state(py, |state| {
            let is_told = state.phase != Phase::Handshake
                && matches!(state.told, Told::ConnectionMade | Told::Eof);
            if is_told {
                state.told = Told::ConnectionLost;
            }
            is_told
        });
        if is_told && let Some(protocol) = this.protocol(py) {
            let lost = protocol.getattr(intern!(py, "connection_lost"))?;
            let arguments = PyTuple::new(py, [&error])?;
            NativeEventLoop::schedule(this.event_loop.bind(py), lost, arguments, None)?;
        }
        this.set_phase(py, Phase::Unwrapped)?;
        let references = this.state(py, |state| {
            (
                state.lower.take(),
                state.transport.take(),
                state.protocol.take(),
            )
        });
        drop(references);
        let error = Some(&error).filter(|error| !error.is_none());
        this.wake_waiter(py, error)?;
        this.cancel_shutdown_timer(py)?;
        if let Some(timer) = this.state(py, |state| state.handshake_timer.take()) {
            timer.call_method0(py, intern!(py, "cancel"))?;
        }
        Ok(())
    }

    /// What the application may ask of the connection.
    pub(super) fn extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = name.py();
        let extra: &Bound<'py, PyDict> = self.extra.bind(py);
        if let Some(value) = extra.get_item(name)? {
            return Ok(Some(value));
        }
        match self.lower_object(py) {
            Some(lower) => {
                let value = lower.call_method1(intern!(py, "get_extra_info"), (name, default))?;
                Ok(Some(value))
            }
            None => Ok(default),
        }
    }
}
