//! The beginning of a TLS connection.

use carboy_event_loop::monotonic_seconds;
use pyo3::exceptions::{PyConnectionAbortedError, PyConnectionResetError, PyException};
use pyo3::intern;
use pyo3::prelude::*;

use super::engine::Answer;
use super::protocol::TlsProtocol;
use super::state::{Phase, Told};
use crate::names;

impl TlsProtocol {
    pub(super) fn start_handshake(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        Self::log(slf, "%r starts SSL handshake")?;
        this.state(py, |state| {
            state.handshake_start_seconds = monotonic_seconds();
        });
        this.set_phase(py, Phase::Handshake)?;
        let check = slf.getattr(intern!(py, "_check_handshake_timeout"))?;
        let arguments = (&this.handshake_timeout_seconds, check);
        let timer = this
            .event_loop
            .call_method1(py, intern!(py, "call_later"), arguments)?;
        this.state(py, |state| state.handshake_timer = Some(timer));
        Self::do_handshake(slf)
    }

    pub(super) fn check_handshake_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.phase(py) != Phase::Handshake {
            return Ok(());
        }
        let message = format!(
            "SSL handshake is taking longer than {} seconds: aborting the connection",
            this.handshake_timeout_seconds.bind(py)
        );
        let error = PyConnectionAbortedError::new_err(message).into_value(py);
        Self::fatal_error(slf, error.bind(py), "Fatal error on transport")
    }

    pub(super) fn do_handshake(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        match slf.get().engine.call(py, "do_handshake") {
            Ok(Answer::Done(())) => Self::complete_handshake(slf, None),
            Ok(Answer::Again) => Self::process_outgoing(slf),
            Err(error) if error.value(py).is_instance(names::ssl_error(py)?)? => {
                Self::complete_handshake(slf, Some(error))
            }
            Err(error) => Err(error),
        }
    }

    /// The connection ended in the midst of it.
    pub(super) fn break_off_handshake(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::complete_handshake(slf, Some(PyConnectionResetError::new_err(())))
    }

    fn complete_handshake(slf: &Bound<'_, Self>, error: Option<PyErr>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if let Some(timer) = this.state(py, |state| state.handshake_timer.take()) {
            timer.call_method0(py, intern!(py, "cancel"))?;
        }
        let certificate = match error {
            Some(error) => Err(error),
            None => this
                .set_phase(py, Phase::Wrapped)
                .and_then(|()| this.engine.object(py).call_method0("getpeercert")),
        };
        let certificate = match certificate {
            Ok(certificate) => certificate,
            Err(error) if error.is_instance_of::<PyException>(py) => {
                return Self::fail_handshake(slf, error);
            }
            Err(error) => return Err(error),
        };
        if this.event_loop.get().is_debug() {
            let started_seconds = this.state(py, |state| state.handshake_start_seconds);
            let elapsed_ms = (monotonic_seconds() - started_seconds) * 1e3;
            let arguments = ("%r: SSL handshake took %.1f ms", slf, elapsed_ms);
            names::asyncio_logger(py)?.call_method1("debug", arguments)?;
        }
        let object = this.engine.object(py);
        let extra = this.extra.bind(py);
        extra.set_item("peercert", certificate)?;
        extra.set_item("cipher", object.call_method0("cipher")?)?;
        extra.set_item("compression", object.call_method0("compression")?)?;
        extra.set_item("ssl_object", object)?;
        let (is_first, transport) = this.state(py, |state| {
            let is_first = state.told == Told::Nothing;
            if is_first {
                state.told = Told::ConnectionMade;
            }
            let transport = state.transport.as_ref();
            (is_first, transport.map(|transport| transport.clone_ref(py)))
        });
        if is_first && let Some(protocol) = this.protocol(py) {
            protocol.call_method1(intern!(py, "connection_made"), (transport,))?;
        }
        this.wake_waiter(py, None)?;
        Self::do_read(slf)
    }

    fn fail_handshake(slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.set_phase(py, Phase::Unwrapped)?;
        let error = error.into_value(py).into_bound(py).into_any();
        let is_certificate = error.is_instance(names::ssl_certificate_error(py)?)?;
        let message = if is_certificate {
            "SSL handshake failed on verifying the certificate"
        } else {
            "SSL handshake failed"
        };
        Self::fatal_error(slf, &error, message)?;
        this.wake_waiter(py, Some(&error))
    }
}
