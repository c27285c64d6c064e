//! The coroutine: what a task sees of a call.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use carboy_event_loop::Interest;
use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::net::AddressFamily;

use super::operation::{Operation, known_address};
use super::plain_socket;
use crate::event_loop::socket_address;
use crate::event_loop::system_error::{ends_the_loop, os_error};
use crate::event_loop::unclosed;
use crate::event_loop::watched::{Ready, Watched};
use crate::event_loop::{NativeEventLoop, QueuedHandle};
use crate::ffi::descriptor;
use crate::names;

/// How far a call has come.
///
/// *Created* until the first step, which makes the system call. From there *waiting*, if the
/// socket is not ready, until the loop has settled the future; before that *resolving*, if the
/// name of a host must be looked up. *Finished* at the end, whatever that is.
enum State {
    Created,
    Resolving(Py<PyAny>),
    Waiting { future: Py<PyAny>, number: RawFd },
    Finished,
}

/// One call of `sock_recv` or one of its kin; a coroutine.
#[pyclass(frozen, weakref, module = "carboy._carboy")]
pub(crate) struct SocketCall {
    event_loop: Py<NativeEventLoop>,
    socket: Py<PyAny>,
    operation: Operation,
    state: Mutex<State>,
    /// Whether the loop watches the socket for this call, and not for a later one.
    is_watched: AtomicBool,
}

/// What a step gives: what the task is to wait for. The end is a `StopIteration`.
type Step = PyResult<Option<Py<PyAny>>>;

impl SocketCall {
    pub(super) fn new(
        event_loop: &Bound<'_, NativeEventLoop>,
        socket: Py<PyAny>,
        operation: Operation,
    ) -> Self {
        Self {
            event_loop: event_loop.clone().unbind(),
            socket,
            operation,
            state: Mutex::new(State::Created),
            is_watched: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_state(&self) -> State {
        std::mem::replace(&mut *self.state(), State::Finished)
    }

    fn step(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> Step {
        let py = slf.py();
        match slf.get().take_state() {
            State::Created => Self::begin(slf),
            State::Resolving(resolution) => {
                let answer = resolution.bind(py).call_method1("send", (value,));
                Self::after_resolving(slf, resolution, answer)
            }
            State::Waiting { future, number } => Self::resume(slf, future, number),
            State::Finished => Err(PyRuntimeError::new_err(
                "cannot reuse already awaited coroutine",
            )),
        }
    }

    fn begin(slf: &Bound<'_, Self>) -> Step {
        let py = slf.py();
        let this = slf.get();
        let socket = this.socket.bind(py);
        if !socket.get_type().is(names::socket(py)?) {
            names::check_ssl_socket(py)?.call1((socket,))?;
        }
        if this.event_loop.get().is_debug() && !plain_socket::is_non_blocking(socket)? {
            return Err(PyValueError::new_err("the socket must be non-blocking"));
        }
        match this.resolution(py)? {
            Some(resolution) => {
                let answer = resolution.call_method1("send", (py.None(),));
                Self::after_resolving(slf, resolution.unbind(), answer)
            }
            None => Self::attempt(slf),
        }
    }

    /// What looks up the host to connect to, unless its address is a number.
    fn resolution<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Operation::Connect { address } = &self.operation else {
            return Ok(None);
        };
        let address = known_address(address, py);
        let socket = self.socket.bind(py);
        let family = socket.getattr("family")?;
        let number = AddressFamily::from_raw(family.extract()?);
        if !matches!(number, AddressFamily::INET | AddressFamily::INET6)
            || socket_address::from_python(&address, number).is_some()
        {
            return Ok(None);
        }
        let keywords = PyDict::new(py);
        keywords.set_item("family", family)?;
        keywords.set_item("type", socket.getattr("type")?)?;
        keywords.set_item("proto", socket.getattr("proto")?)?;
        keywords.set_item("loop", &self.event_loop)?;
        let event_loop = self.event_loop.bind(py);
        let resolution = event_loop.call_method("_ensure_resolved", (address,), Some(&keywords))?;
        resolution.call_method0("__await__").map(Some)
    }

    fn after_resolving(
        slf: &Bound<'_, Self>,
        resolution: Py<PyAny>,
        answer: PyResult<Bound<'_, PyAny>>,
    ) -> Step {
        let py = slf.py();
        let this = slf.get();
        match answer {
            Ok(waiting_for) => {
                *this.state() = State::Resolving(resolution);
                Ok(Some(waiting_for.unbind()))
            }
            Err(end) if end.is_instance_of::<PyStopIteration>(py) => {
                let infos = end.value(py).getattr("value")?;
                let found = infos.get_item(0)?.get_item(4)?;
                if let Operation::Connect { address } = &this.operation {
                    let name = {
                        let place = address.lock();
                        let mut place = place.unwrap_or_else(PoisonError::into_inner);
                        std::mem::replace(&mut *place, found.unbind())
                    };
                    drop(name);
                }
                Self::attempt(slf)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the system call for the first time, and waits if the socket is not ready.
    fn attempt(slf: &Bound<'_, Self>) -> Step {
        let py = slf.py();
        let this = slf.get();
        let socket = this.socket.bind(py);
        match this.operation.begin(this.event_loop.get(), socket)? {
            Some(value) => finished_with(value),
            None => Self::wait(slf),
        }
    }

    fn wait(slf: &Bound<'_, Self>) -> Step {
        let py = slf.py();
        let this = slf.get();
        let native = this.event_loop.get();
        let socket = this.socket.bind(py);
        let number = plain_socket::number_of(socket)?;
        native.check_unused(py, socket, number)?;
        native.check_closed()?;
        let keywords = PyDict::new(py);
        keywords.set_item(pyo3::intern!(py, "loop"), &this.event_loop)?;
        let future = names::future(py)?.call((), Some(&keywords))?;
        let interest = this.operation.interest();
        let callback = QueuedHandle::Ready(Watched::Call(slf.clone().unbind()), interest);
        let replaced = descriptor::with_borrowed(number, |descriptor| {
            native.queues().watch(py, descriptor, interest, callback)
        });
        match replaced.and_then(|replaced| replaced) {
            // Of two calls on one socket the later one gets what comes, as in asyncio.
            Ok(Some(replaced)) => replaced.cancel(py)?,
            Ok(None) => {}
            Err(error) => return Err(os_error(py, &error)),
        }
        this.is_watched.store(true, Ordering::Release);
        // Awaiting a future consists of this and of yielding it.
        future.setattr(pyo3::intern!(py, "_asyncio_future_blocking"), true)?;
        let waiting_for = future.clone().unbind();
        *this.state() = State::Waiting {
            future: future.unbind(),
            number,
        };
        Ok(Some(waiting_for))
    }

    fn resume(slf: &Bound<'_, Self>, future: Py<PyAny>, number: RawFd) -> Step {
        let py = slf.py();
        let this = slf.get();
        let future = future.bind(py);
        if !future
            .call_method0(pyo3::intern!(py, "done"))?
            .is_truthy()?
        {
            this.stop_watching(py, number);
            return Err(PyRuntimeError::new_err("await wasn't used with future"));
        }
        this.stop_watching(py, number);
        finished_with(future.call_method0(pyo3::intern!(py, "result"))?)
    }

    fn stop_watching(&self, py: Python<'_>, number: RawFd) {
        if self.is_watched.swap(false, Ordering::AcqRel) {
            let queues = self.event_loop.get().queues();
            let interest = self.operation.interest();
            let removed = descriptor::with_borrowed(number, |descriptor| {
                queues.unwatch(py, descriptor, interest)
            });
            drop(removed);
        }
    }
}

/// The end of a coroutine that returns `value`.
fn finished_with(value: Bound<'_, PyAny>) -> Step {
    if value.is_none() {
        Ok(None)
    } else {
        Err(PyStopIteration::new_err((value.unbind(),)))
    }
}

impl Ready for SocketCall {
    fn event_loop(&self) -> &Py<NativeEventLoop> {
        &self.event_loop
    }

    fn is_cancelled(&self, _interest: Interest) -> bool {
        !self.is_watched.load(Ordering::Acquire)
    }

    fn cancel(&self) {
        self.is_watched.store(false, Ordering::Release);
    }

    /// Makes the system call again, and settles the future.
    fn ready(slf: &Bound<'_, Self>, _interest: Interest) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let waiting = match &*this.state() {
            State::Waiting { future, number } => Some((future.clone_ref(py), *number)),
            _ => None,
        };
        let Some((future, number)) = waiting else {
            return Ok(());
        };
        let future = future.bind(py);
        if future
            .call_method0(pyo3::intern!(py, "done"))?
            .is_truthy()?
        {
            // The task was cancelled, and has not had its turn yet.
            this.stop_watching(py, number);
            return Ok(());
        }
        let socket = this.socket.bind(py);
        match this.operation.proceed(this.event_loop.get(), socket) {
            Ok(None) => {}
            Ok(Some(value)) => {
                this.stop_watching(py, number);
                future.call_method1(pyo3::intern!(py, "set_result"), (value,))?;
            }
            Err(error) if ends_the_loop(py, &error) => return Err(error),
            Err(error) => {
                this.stop_watching(py, number);
                let error = error.into_value(py);
                future.call_method1(pyo3::intern!(py, "set_exception"), (error,))?;
            }
        }
        Ok(())
    }
}

#[pymethods]
impl SocketCall {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> Step {
        Self::step(slf, &slf.py().None().into_bound(slf.py()))
    }

    /// Goes on, with the value that whoever was waited for has given.
    fn send(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        match Self::step(slf, value)? {
            Some(waiting_for) => Ok(waiting_for),
            None => Err(PyStopIteration::new_err(())),
        }
    }

    /// Raises an exception where the call waits, which ends it.
    #[pyo3(signature = (r#type, value = None, traceback = None, /))]
    fn throw(
        slf: &Bound<'_, Self>,
        r#type: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        match this.take_state() {
            State::Resolving(resolution) => {
                let arguments = (r#type, value, traceback);
                let answer = match &arguments {
                    (error, None, None) => resolution.bind(py).call_method1("throw", (error,)),
                    all => resolution.bind(py).call_method1("throw", all.clone()),
                };
                let waiting_for = Self::after_resolving(slf, resolution, answer)?;
                waiting_for.ok_or_else(|| PyStopIteration::new_err(()))
            }
            State::Finished => Err(PyRuntimeError::new_err(
                "cannot reuse already awaited coroutine",
            )),
            state => {
                if let State::Waiting { number, .. } = state {
                    this.stop_watching(py, number);
                }
                let value = value.filter(|value| !value.is_none());
                Err(PyErr::from_value(value.unwrap_or(r#type)))
            }
        }
    }

    /// Ends the call.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.take_state() {
            State::Resolving(resolution) => {
                resolution.call_method0(py, "close")?;
            }
            State::Waiting { number, .. } => self.stop_watching(py, number),
            State::Created | State::Finished => {}
        }
        Ok(())
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        self.operation.name()
    }

    #[getter]
    fn __qualname__(&self) -> String {
        format!("EventLoop.{}", self.operation.name())
    }

    fn __repr__(&self) -> String {
        let state = match &*self.state() {
            State::Created => "created",
            State::Resolving(_) => "resolving",
            State::Waiting { .. } => "waiting",
            State::Finished => "finished",
        };
        format!("<SocketCall {} {state}>", self.operation.name())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.socket)?;
        self.operation.traverse(&visit)?;
        // What is being changed has nothing to collect.
        if let Ok(state) = self.state.try_lock() {
            match &*state {
                State::Resolving(object) | State::Waiting { future: object, .. } => {
                    visit.call(object)?;
                }
                State::Created | State::Finished => {}
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        drop(self.take_state());
    }
}

impl Drop for SocketCall {
    fn drop(&mut self) {
        if matches!(*self.state(), State::Created) {
            let name = self.operation.name();
            let message = format!("coroutine 'EventLoop.{name}' was never awaited");
            unclosed::warn_as::<PyRuntimeWarning>(&message, |_| Ok(()));
        }
    }
}
