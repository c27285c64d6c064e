//! The native half of `carboy.server.Server`.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use carboy_server::{
    AccessLog, Address, Limits, Listener, Refusal, Server, ServerConfig, Shutdown, ShutdownTrigger,
    Statistics, Timeouts,
};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::application::PythonApplication;
use crate::cancellation::CancellationSettings;
use crate::event_loop::NativeEventLoop;
use crate::flask::DispatchPlan;
use crate::runtime;
use crate::worker::WorkerPool;
use crate::wsgi::EnvironSettings;

#[derive(Default)]
struct State {
    listeners: Vec<Listener>,
    config: ServerConfig,
    statistics: Option<Statistics>,
}

/// A server for one application on one event loop.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct NativeServer {
    /// Held, because the plan does not.
    application: Py<PyAny>,
    event_loop: Py<NativeEventLoop>,
    workers: Py<WorkerPool>,
    plan: Arc<DispatchPlan>,
    state: Mutex<State>,
    trigger: ShutdownTrigger,
    shutdown: Shutdown,
}

impl NativeServer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds from Python, which may be too large or not a number.
/// Longer than any server runs, and short enough for every clock to be added to.
const FOR_EVER_SECONDS: f64 = 1e9;

fn duration(name: &str, seconds: f64) -> PyResult<Duration> {
    let seconds = if seconds > FOR_EVER_SECONDS {
        FOR_EVER_SECONDS
    } else {
        seconds
    };
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| PyValueError::new_err(format!("{name}={seconds}: {error}")))
}

#[pymethods]
impl NativeServer {
    #[new]
    fn new(
        application: &Bound<'_, PyAny>,
        event_loop: Py<NativeEventLoop>,
        workers: Py<WorkerPool>,
    ) -> PyResult<Self> {
        let (trigger, shutdown) = Shutdown::pair();
        let plan = Arc::new(DispatchPlan::new(application)?);
        Ok(Self {
            application: application.clone().unbind(),
            event_loop,
            workers,
            plan,
            state: Mutex::default(),
            trigger,
            shutdown,
        })
    }

    /// Sets the limits, before the start. Sizes are in bytes, times in seconds.
    #[pyo3(signature = (
        *,
        request_line_bytes = None,
        header_bytes = None,
        header_count = None,
        body_bytes = None,
        header_read_timeout = None,
        keep_alive_timeout = None,
        body_read_timeout = None,
        write_timeout = None,
        drain_timeout = None,
        drain_linger = None,
        connection_limit = None,
        request_limit = None,
        access_log = false,
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "named settings, passed by keyword"
    )]
    fn configure(
        &self,
        request_line_bytes: Option<usize>,
        header_bytes: Option<usize>,
        header_count: Option<usize>,
        body_bytes: Option<u64>,
        header_read_timeout: Option<f64>,
        keep_alive_timeout: Option<f64>,
        body_read_timeout: Option<f64>,
        write_timeout: Option<f64>,
        drain_timeout: Option<f64>,
        drain_linger: Option<f64>,
        connection_limit: Option<usize>,
        request_limit: Option<usize>,
        access_log: bool,
    ) -> PyResult<()> {
        let defaults = Limits::default();
        let limits = Limits {
            request_line_bytes: request_line_bytes.unwrap_or(defaults.request_line_bytes),
            header_bytes: header_bytes.unwrap_or(defaults.header_bytes),
            header_count: header_count.unwrap_or(defaults.header_count),
            body_bytes: match body_bytes {
                Some(0) => None,
                Some(bytes) => Some(bytes),
                None => defaults.body_bytes,
            },
        };
        let mut timeouts = Timeouts::default();
        let given = [
            (
                "header_read_timeout",
                header_read_timeout,
                &mut timeouts.header_read,
            ),
            (
                "keep_alive_timeout",
                keep_alive_timeout,
                &mut timeouts.keep_alive_idle,
            ),
            (
                "body_read_timeout",
                body_read_timeout,
                &mut timeouts.body_read_idle,
            ),
            ("write_timeout", write_timeout, &mut timeouts.write_stall),
            ("drain_timeout", drain_timeout, &mut timeouts.drain),
            ("drain_linger", drain_linger, &mut timeouts.drain_linger),
        ];
        for (name, seconds, place) in given {
            if let Some(seconds) = seconds {
                *place = duration(name, seconds)?;
            }
        }
        let access_log = if access_log {
            Some(AccessLog::new(standard_output()?)?)
        } else {
            None
        };
        self.state().config = ServerConfig {
            limits,
            timeouts,
            access_log,
            connection_limit,
            request_limit,
        };
        Ok(())
    }

    /// Listens on a TCP port, on each address that the host's name has.
    fn bind_tcp(&self, host: &str, port: u16, backlog: u32) -> PyResult<()> {
        let listeners = Listener::bind_tcp(host, port, backlog)
            .map_err(|error| bind_error(&error, error.kind()))?;
        self.state().listeners.extend(listeners);
        Ok(())
    }

    /// Listens on a Unix socket.
    fn bind_unix(&self, path: &str, backlog: u32) -> PyResult<()> {
        let listener =
            Listener::bind_unix(path, backlog).map_err(|error| bind_error(&error, error.kind()))?;
        self.state().listeners.push(listener);
        Ok(())
    }

    /// Where the server listens: pairs of a host and a port, or of a path and none.
    fn addresses(&self) -> Vec<(String, Option<u16>)> {
        let state = self.state();
        let address = |listener: &Listener| match listener.local_address() {
            Address::Tcp(address) => (address.ip().to_string(), Some(address.port())),
            Address::Unix(path) => {
                let path = path.as_ref().map(|path| path.display().to_string());
                (path.unwrap_or_default(), None)
            }
        };
        state.listeners.iter().map(address).collect()
    }

    /// Starts serving, on the running loop's own thread. `ended` is called, on the loop,
    /// with the number of connections that had to be broken off.
    fn start(slf: &Bound<'_, Self>, ended: Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (listeners, config) = {
            let mut state = this.state();
            (
                std::mem::take(&mut state.listeners),
                std::mem::take(&mut state.config),
            )
        };
        if listeners.is_empty() {
            return Err(PyRuntimeError::new_err(
                "the server is not bound to an address",
            ));
        }
        let pool = Arc::clone(&this.workers.get().pool);
        let event_loop = this.event_loop.clone_ref(py);
        let cancellation = CancellationSettings::of(this.application.bind(py))?;
        let settings = EnvironSettings::new(true, cancellation, event_loop.clone_ref(py));
        let application = PythonApplication::new(
            Arc::clone(&this.plan),
            pool,
            event_loop.clone_ref(py),
            settings,
        );
        let server = Server::new(application, config);
        this.state().statistics = Some(server.statistics());
        let shutdown = this.shutdown.clone();
        runtime::spawn(async move {
            let outcome = server.serve(listeners, shutdown).await;
            drop(server);
            Python::attach(|py| {
                let outcome = match outcome {
                    Ok(outcome) => outcome.forced.into_pyobject(py).map(Bound::into_any),
                    Err(error) => Ok(PyErr::from(error).into_value(py).into_bound(py).into_any()),
                };
                let notified = outcome.map_err(PyErr::from).and_then(|outcome| {
                    let arguments = PyTuple::new(py, [outcome])?;
                    let ended = ended.into_bound(py);
                    NativeEventLoop::schedule(event_loop.bind(py), ended, arguments, None)
                });
                if let Err(error) = notified {
                    error.write_unraisable(py, None);
                }
            });
        });
        Ok(())
    }

    /// Stops accepting, and ends when every request that came is answered.
    fn begin_shutdown(&self) {
        self.trigger.begin();
    }

    /// Breaks off what is left.
    fn force_shutdown(&self) {
        self.trigger.force();
    }

    /// Counters of the server, by name.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = PyDict::new(py);
        let statistics = self.state().statistics.clone();
        if let Some(statistics) = statistics {
            counters.set_item("open_connections", statistics.open_connections())?;
            counters.set_item("idle_connections", statistics.idle_connections())?;
            counters.set_item("accepted_connections", statistics.accepted_connections())?;
            counters.set_item("in_flight_requests", statistics.in_flight_requests())?;
            counters.set_item("served_requests", statistics.served_requests())?;
            counters.set_item("refused_requests", statistics.refused_in_total())?;
            counters.set_item(
                "overloaded_requests",
                statistics.refused(Refusal::Overloaded),
            )?;
            counters.set_item("broken_responses", statistics.broken_responses())?;
            counters.set_item("panics", statistics.panics())?;
        }
        Ok(counters)
    }

    /// The number of requests that are being served on the loop, also for clients that have
    /// gone.
    #[getter]
    fn requests_on_loop(&self) -> usize {
        self.plan.requests_on_loop().load(Ordering::Relaxed)
    }

    /// Where requests were served, and why: counts by name.
    fn eligibility(&self) -> Vec<(&'static str, u64)> {
        self.plan.counts()
    }
}

fn bind_error(error: &dyn std::error::Error, kind: io::ErrorKind) -> PyErr {
    let message = error.to_string();
    match kind {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => {
            io::Error::new(kind, message).into()
        }
        _ => PyOSError::new_err(message),
    }
}

/// The process's standard output, under a descriptor of its own.
fn standard_output() -> io::Result<impl Write + Send + 'static> {
    let descriptor = io::stdout();
    let owned: OwnedFd = std::os::fd::AsFd::as_fd(&descriptor).try_clone_to_owned()?;
    Ok(std::fs::File::from(owned))
}

/// Raises the process's own limit of descriptors as far as it may, and returns it.
#[pyfunction]
pub(crate) fn raise_descriptor_limit() -> PyResult<u64> {
    Ok(carboy_server::raise_descriptor_limit()?)
}
