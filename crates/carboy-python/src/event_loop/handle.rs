//! `asyncio.Handle` and `asyncio.TimerHandle`: what `call_soon` and `call_later` return.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use carboy_event_loop::{Callback, Interest};
use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyDict, PyTuple};

use super::NativeEventLoop;
use super::watched::Watched;
use crate::ffi::context;
use crate::names;

/// A callback with its arguments and its context, until it is cancelled.
struct Call {
    callback: Py<PyAny>,
    arguments: Py<PyTuple>,
    context: Py<PyContext>,
}

/// What a handle and a timer handle have in common.
pub(crate) struct HandleState {
    call: Mutex<Option<Call>>,
    cancelled: AtomicBool,
    event_loop: Py<NativeEventLoop>,
    /// Where the handle was made, in debug mode: a `traceback.StackSummary`.
    source_traceback: Option<Py<PyAny>>,
}

impl HandleState {
    pub(crate) fn new(
        event_loop: Py<NativeEventLoop>,
        callback: Py<PyAny>,
        arguments: Py<PyTuple>,
        context: Py<PyContext>,
        source_traceback: Option<Py<PyAny>>,
    ) -> Self {
        Self {
            call: Mutex::new(Some(Call {
                callback,
                arguments,
                context,
            })),
            cancelled: AtomicBool::new(false),
            event_loop,
            source_traceback,
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Cancels, and says whether it was not cancelled before.
    fn cancel(&self) -> bool {
        if self.cancelled.swap(true, Ordering::AcqRel) {
            return false;
        }
        // Taken out first and dropped after: dropping may run anything.
        let call = self
            .call
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(call);
        true
    }

    fn call(&self, py: Python<'_>) -> Option<Call> {
        let call = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        call.as_ref().map(|call| Call {
            callback: call.callback.clone_ref(py),
            arguments: call.arguments.clone_ref(py),
            context: call.context.clone_ref(py),
        })
    }

    /// Runs the callback in its context.
    ///
    /// # Errors
    ///
    /// `KeyboardInterrupt` and `SystemExit`, which end the loop as in asyncio; anything
    /// else that is raised goes to the loop's exception handler.
    fn run(&self, py: Python<'_>, handle: &Py<PyAny>) -> PyResult<()> {
        let Some(call) = self.call(py) else {
            return Ok(());
        };
        let context = call.context.bind(py);
        if let Err(error) = context::enter(context) {
            return self.report(py, &call, error, handle);
        }
        let arguments = call.arguments.bind(py);
        let result = if arguments.is_empty() {
            call.callback.call0(py)
        } else {
            call.callback.call1(py, arguments)
        };
        context::exit(context)?;
        match result {
            Ok(_) => Ok(()),
            Err(error)
                if error.is_instance_of::<PyKeyboardInterrupt>(py)
                    || error.is_instance_of::<PySystemExit>(py) =>
            {
                Err(error)
            }
            Err(error) => self.report(py, &call, error, handle),
        }
    }

    fn report(
        &self,
        py: Python<'_>,
        call: &Call,
        error: PyErr,
        handle: &Py<PyAny>,
    ) -> PyResult<()> {
        let source = names::format_callback_source(py)?.call1((&call.callback, &call.arguments))?;
        let details = PyDict::new(py);
        details.set_item("message", format!("Exception in callback {source}"))?;
        details.set_item("exception", error.into_value(py))?;
        details.set_item("handle", handle)?;
        if let Some(source_traceback) = &self.source_traceback {
            details.set_item("source_traceback", source_traceback)?;
        }
        let event_loop = self.event_loop.bind(py);
        event_loop.call_method1("call_exception_handler", (details,))?;
        Ok(())
    }

    fn repr(&self, py: Python<'_>, name: &str) -> PyResult<String> {
        match self.call(py) {
            None => Ok(format!("<{name} cancelled>")),
            Some(call) => {
                let source = names::format_callback_source(py)?
                    .call1((call.callback, call.arguments))?
                    .to_string();
                Ok(format!("<{name} {source}>"))
            }
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        // While a call is being taken out or copied there is nothing to collect here.
        if let Ok(call) = self.call.try_lock()
            && let Some(call) = call.as_ref()
        {
            visit.call(&call.callback)?;
            visit.call(&call.arguments)?;
            visit.call(&call.context)?;
        }
        Ok(())
    }

    fn clear(&self) {
        let call = self
            .call
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(call);
    }
}

/// A callback that is queued to run soon; `asyncio.Handle`.
#[pyclass(frozen, weakref, module = "carboy._carboy")]
pub(crate) struct Handle {
    pub(crate) state: HandleState,
}

#[pymethods]
impl Handle {
    /// Cancels the callback. It is not called if it was not called yet.
    fn cancel(&self) {
        self.state.cancel();
    }

    /// Whether the callback was cancelled.
    fn cancelled(&self) -> bool {
        self.state.is_cancelled()
    }

    #[getter]
    fn _cancelled(&self) -> bool {
        self.state.is_cancelled()
    }

    /// The context in which the callback runs.
    fn get_context(&self, py: Python<'_>) -> Option<Py<PyContext>> {
        self.state.call(py).map(|call| call.context)
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get()
            .state
            .run(slf.py(), slf.clone().into_any().as_unbound())
    }

    #[getter]
    fn _callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.call(py).map(|call| call.callback)
    }

    #[getter]
    fn _args(&self, py: Python<'_>) -> Option<Py<PyTuple>> {
        self.state.call(py).map(|call| call.arguments)
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state
            .source_traceback
            .as_ref()
            .map(|traceback| traceback.clone_ref(py))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        self.state.repr(py, "Handle")
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.state.traverse(&visit)
    }

    fn __clear__(&self) {
        self.state.clear();
    }
}

/// A callback that is queued for a time; `asyncio.TimerHandle`.
#[pyclass(frozen, weakref, module = "carboy._carboy")]
pub(crate) struct TimerHandle {
    pub(crate) state: HandleState,
    pub(crate) when_seconds: f64,
    /// Set when the timer was taken from the heap: cancelling it then frees no place there.
    pub(crate) fired: AtomicBool,
}

#[pymethods]
impl TimerHandle {
    /// Cancels the callback. It is not called if it was not called yet.
    fn cancel(&self) {
        if self.state.cancel() && !self.fired.load(Ordering::Acquire) {
            self.state.event_loop.get().queues().count_cancelled_timer();
        }
    }

    /// Whether the callback was cancelled.
    fn cancelled(&self) -> bool {
        self.state.is_cancelled()
    }

    #[getter]
    fn _cancelled(&self) -> bool {
        self.state.is_cancelled()
    }

    /// The time of the callback, in seconds of `loop.time()`.
    fn when(&self) -> f64 {
        self.when_seconds
    }

    /// The context in which the callback runs.
    fn get_context(&self, py: Python<'_>) -> Option<Py<PyContext>> {
        self.state.call(py).map(|call| call.context)
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get()
            .state
            .run(slf.py(), slf.clone().into_any().as_unbound())
    }

    #[getter]
    fn _callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.call(py).map(|call| call.callback)
    }

    #[getter]
    fn _args(&self, py: Python<'_>) -> Option<Py<PyTuple>> {
        self.state.call(py).map(|call| call.arguments)
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state
            .source_traceback
            .as_ref()
            .map(|traceback| traceback.clone_ref(py))
    }

    fn __lt__(&self, other: &Bound<'_, Self>) -> bool {
        self.when_seconds < other.get().when_seconds
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        self.state
            .repr(py, &format!("TimerHandle when={}", self.when_seconds))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.state.traverse(&visit)
    }

    fn __clear__(&self) {
        self.state.clear();
    }
}

/// A handle as the pure loop holds it.
pub(crate) enum QueuedHandle {
    /// From `call_soon`, or of a descriptor.
    Soon(Py<Handle>),
    /// From `call_at`.
    Timer(Py<TimerHandle>),
    /// A descriptor that native code reads or writes is ready.
    Ready(Watched, Interest),
}

impl QueuedHandle {
    /// Runs it; see [`HandleState::run`].
    pub(crate) fn run(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Soon(handle) => handle.get().state.run(py, handle.as_any()),
            Self::Timer(handle) => {
                handle.get().fired.store(true, Ordering::Release);
                handle.get().state.run(py, handle.as_any())
            }
            Self::Ready(watched, interest) => watched.run(py, interest),
        }
    }

    /// The Python object.
    pub(crate) fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Soon(handle) => handle.as_any(),
            Self::Timer(handle) => handle.as_any(),
            Self::Ready(watched, _) => watched.object(),
        }
    }

    /// Cancels it, if it is a handle: native code knows by itself what it waits for.
    pub(crate) fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Ready(watched, _) => watched.cancel(),
            handle => {
                handle.object().call_method0(py, "cancel")?;
            }
        }
        Ok(())
    }

    /// What asyncio's slow-callback log says of it.
    pub(crate) fn describe(object: &Bound<'_, PyAny>) -> PyResult<String> {
        if object.hasattr("_callback")? {
            let description = names::format_handle(object.py())?.call1((object,))?;
            return description.extract();
        }
        Ok(object.repr()?.to_string())
    }
}

impl Callback for QueuedHandle {
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Soon(handle) => handle.get().state.is_cancelled(),
            Self::Timer(handle) => handle.get().state.is_cancelled(),
            Self::Ready(watched, interest) => watched.is_cancelled(*interest),
        }
    }

    fn share(&self) -> Self {
        // The driver asks for it, on the loop's thread, which is attached already.
        Python::attach(|py| match self {
            Self::Soon(handle) => Self::Soon(handle.clone_ref(py)),
            Self::Timer(handle) => Self::Timer(handle.clone_ref(py)),
            Self::Ready(watched, interest) => Self::Ready(watched.clone_ref(py), *interest),
        })
    }
}
