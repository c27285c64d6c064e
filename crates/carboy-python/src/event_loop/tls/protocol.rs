//! A TLS connection: the protocol that the transport below it calls.

use carboy_event_loop::transport::FlowSignal;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::engine::Engine;
use super::state::{Lower, Phase, State, Told};
use super::transport::TlsTransport;
use crate::event_loop::NativeEventLoop;
use crate::event_loop::stream::StreamTransport;
use crate::event_loop::{buffered_protocol, flow_signal};
use crate::ffi::attached_cell::AttachedCell;
use crate::names;

/// TLS on one connection; a protocol for the transport below.
#[pyclass(frozen, weakref, module = "carboy._carboy")]
pub(crate) struct TlsProtocol {
    pub(super) event_loop: Py<NativeEventLoop>,
    pub(super) engine: Engine,
    pub(super) extra: Py<PyDict>,
    pub(super) handshake_timeout_seconds: Py<PyAny>,
    pub(super) shutdown_timeout_seconds: Py<PyAny>,
    state: AttachedCell<State>,
}

impl TlsProtocol {
    pub(super) fn state<R>(&self, py: Python<'_>, operation: impl FnOnce(&mut State) -> R) -> R {
        self.state.with(py, operation)
    }

    pub(super) fn phase(&self, py: Python<'_>) -> Phase {
        self.state(py, |state| state.phase)
    }

    pub(super) fn lower(&self, py: Python<'_>) -> Option<Lower> {
        self.state(py, |state| {
            state.lower.as_ref().map(|lower| lower.clone_ref(py))
        })
    }

    pub(super) fn lower_object<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let lower = self.lower(py)?;
        Some(lower.object().bind(py).clone())
    }

    pub(super) fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state(py, |state| {
            let protocol = state.protocol.as_ref()?;
            Some(protocol.bind(py).clone())
        })
    }

    pub(super) fn app_transport(&self, py: Python<'_>) -> Option<Py<TlsTransport>> {
        self.state(py, |state| {
            let transport = state.transport.as_ref()?;
            Some(transport.clone_ref(py))
        })
    }

    /// Goes on to the next phase.
    ///
    /// # Errors
    ///
    /// `RuntimeError` where there is no such step, as in asyncio.
    pub(super) fn set_phase(&self, py: Python<'_>, next: Phase) -> PyResult<()> {
        self.state(py, |state| {
            let is_allowed = matches!(
                (state.phase, next),
                (_, Phase::Unwrapped)
                    | (Phase::Unwrapped, Phase::Handshake)
                    | (Phase::Handshake, Phase::Wrapped)
                    | (Phase::Wrapped, Phase::Flushing)
                    | (Phase::Flushing, Phase::Shutdown)
            );
            if is_allowed {
                state.phase = next;
                Ok(())
            } else {
                Err(state.phase)
            }
        })
        .map_err(|present| {
            PyRuntimeError::new_err(format!("cannot switch state from {present:?} to {next:?}"))
        })
    }

    pub(super) fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        let py = protocol.py();
        let is_buffered = buffered_protocol::is_buffered(&protocol)?;
        let previous = self.state(py, |state| {
            state.is_buffered = is_buffered;
            state.protocol.replace(protocol.unbind())
        });
        drop(previous);
        Ok(())
    }

    /// Ends the wait for the handshake.
    pub(super) fn wake_waiter(
        &self,
        py: Python<'_>,
        error: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let Some(waiter) = self.state(py, |state| state.waiter.take()) else {
            return Ok(());
        };
        if waiter.call_method0(py, "cancelled")?.is_truthy(py)? {
            return Ok(());
        }
        match error {
            Some(error) => waiter.call_method1(py, "set_exception", (error,))?,
            None => waiter.call_method1(py, "set_result", (py.None(),))?,
        };
        Ok(())
    }

    /// Tells the application's protocol to pause or to resume writing.
    pub(super) fn signal(slf: &Bound<'_, Self>, signal: Option<FlowSignal>) -> PyResult<()> {
        let Some(signal) = signal else {
            return Ok(());
        };
        let this = slf.get();
        let py = slf.py();
        let Some(transport) = this.app_transport(py) else {
            return Ok(());
        };
        let transport = transport.bind(py).as_any();
        flow_signal::tell(&this.event_loop, transport, this.protocol(py), signal)
    }

    /// Writes a line of asyncio's debug log.
    pub(super) fn log(slf: &Bound<'_, Self>, message: &str) -> PyResult<()> {
        if slf.get().event_loop.get().is_debug() {
            names::asyncio_logger(slf.py())?.call_method1("debug", (message, slf))?;
        }
        Ok(())
    }

    /// Reports an error that the connection does not survive, and ends it.
    pub(super) fn fatal_error(
        slf: &Bound<'_, Self>,
        error: &Bound<'_, PyAny>,
        message: &str,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let lower = this.lower_object(py);
        if let Some(lower) = &lower {
            lower.call_method1("_force_close", (error,))?;
        }
        if error.is_instance_of::<PyOSError>() {
            if this.event_loop.get().is_debug() {
                let keywords = PyDict::new(py);
                keywords.set_item("exc_info", error)?;
                let arguments = ("%r: %s", slf, message);
                names::asyncio_logger(py)?.call_method("debug", arguments, Some(&keywords))?;
            }
        } else if !error.is_instance(names::cancelled_error(py)?)? {
            let details = PyDict::new(py);
            details.set_item("message", message)?;
            details.set_item("exception", error)?;
            details.set_item("transport", lower)?;
            details.set_item("protocol", slf)?;
            let event_loop = this.event_loop.bind(py);
            event_loop.call_method1("call_exception_handler", (details,))?;
        }
        Ok(())
    }
}

fn timeout<'py>(
    given: Option<Bound<'py, PyAny>>,
    name: &str,
    default: &str,
    py: Python<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let Some(given) = given else {
        return names::asyncio_constants(py)?.getattr(default);
    };
    if given.le(0)? {
        return Err(PyValueError::new_err(format!(
            "{name} should be a positive number, got {given}"
        )));
    }
    Ok(given)
}

#[pymethods]
impl TlsProtocol {
    #[new]
    #[pyo3(signature = (
        event_loop, protocol, sslcontext, waiter, server_side = false, server_hostname = None,
        call_connection_made = true, ssl_handshake_timeout = None, ssl_shutdown_timeout = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "asyncio's signature")]
    fn new<'py>(
        event_loop: &Bound<'py, NativeEventLoop>,
        protocol: Bound<'py, PyAny>,
        sslcontext: Option<Bound<'py, PyAny>>,
        waiter: Option<Py<PyAny>>,
        server_side: bool,
        server_hostname: Option<Bound<'py, PyAny>>,
        call_connection_made: bool,
        ssl_handshake_timeout: Option<Bound<'py, PyAny>>,
        ssl_shutdown_timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Py<Self>> {
        let py = event_loop.py();
        let handshake_timeout = timeout(
            ssl_handshake_timeout,
            "ssl_handshake_timeout",
            "SSL_HANDSHAKE_TIMEOUT",
            py,
        )?;
        let shutdown_timeout = timeout(
            ssl_shutdown_timeout,
            "ssl_shutdown_timeout",
            "SSL_SHUTDOWN_TIMEOUT",
            py,
        )?;
        let context = match sslcontext {
            Some(context) if context.is_truthy()? => context,
            // A client may ask for the default settings.
            _ => names::default_tls_context(py)?.call1((server_side, server_hostname.as_ref()))?,
        };
        let server_hostname = match server_hostname {
            Some(name) if !server_side && name.is_truthy()? => Some(name),
            _ => None,
        };
        let engine = Engine::new(&context, server_side, server_hostname.as_ref())?;
        let extra = PyDict::new(py);
        extra.set_item("sslcontext", &context)?;
        let told = if call_connection_made {
            Told::Nothing
        } else {
            Told::ConnectionMade
        };
        let tls = Self {
            event_loop: event_loop.clone().unbind(),
            engine,
            extra: extra.unbind(),
            handshake_timeout_seconds: handshake_timeout.unbind(),
            shutdown_timeout_seconds: shutdown_timeout.unbind(),
            state: AttachedCell::new(State::new(told, waiter)),
        };
        tls.set_protocol(protocol)?;
        let tls = Py::new(py, tls)?;
        let transport = TlsTransport::start(py, tls.clone_ref(py))?;
        tls.get()
            .state(py, |state| state.transport = Some(transport));
        Ok(tls)
    }

    /// Says that this is asyncio's own TLS, an `asyncio.BufferedProtocol`.
    #[getter]
    #[expect(clippy::unused_self, reason = "an attribute of the instances")]
    fn __class__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        names::asyncio_tls_protocol(py).cloned()
    }

    /// The application's transport, until the connection is lost.
    #[getter]
    fn _app_transport(&self, py: Python<'_>) -> Option<Py<TlsTransport>> {
        self.app_transport(py)
    }

    /// The transport below, while there is a connection.
    #[getter]
    fn _transport<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.lower_object(py)
    }

    /// The settings: `ssl.SSLContext`.
    #[getter]
    fn _sslcontext<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let context = pyo3::intern!(py, "sslcontext");
        self.extra.bind(py).as_any().get_item(context)
    }

    // What the transport below calls.

    fn connection_made(slf: &Bound<'_, Self>, transport: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let lower = match transport.cast_into_exact::<StreamTransport>() {
            Ok(native) => Lower::Native(native.unbind()),
            Err(error) => Lower::Other(error.into_inner().unbind()),
        };
        let previous = slf.get().state(py, |state| state.lower.replace(lower));
        drop(previous);
        Self::start_handshake(slf)
    }

    fn connection_lost(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>) -> PyResult<()> {
        Self::lose_connection(slf, exc)
    }

    /// The loop's buffer: what is read into it is taken out by `buffer_updated`.
    fn get_buffer<'py>(slf: &Bound<'py, Self>, _sizehint: isize) -> PyResult<Bound<'py, PyAny>> {
        slf.get().event_loop.get().tls_buffer(slf.py())
    }

    fn buffer_updated(slf: &Bound<'_, Self>, nbytes: usize) -> PyResult<()> {
        Self::receive_from_buffer(slf, nbytes)
    }

    fn eof_received(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::receive_eof(slf)
    }

    fn pause_writing(&self, py: Python<'_>) {
        self.state(py, |state| state.lower_paused = true);
    }

    fn resume_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        slf.get().state(py, |state| state.lower_paused = false);
        Self::process_outgoing(slf)
    }

    // What timers and the loop call.

    fn _check_handshake_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::check_handshake_timeout(slf)
    }

    fn _check_shutdown_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::check_shutdown_timeout(slf)
    }

    fn _resume(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::go_on(slf)
    }

    fn _do_read(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::do_read(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.extra)?;
        self.engine.traverse(&visit)?;
        let mut result = Ok(());
        self.state.visit(&visit, |state| {
            result = state.traverse(&visit);
        });
        result
    }

    fn __clear__(&self) {
        Python::attach(|py| {
            let references = self.state(py, State::take_references);
            drop(references);
        });
    }
}
