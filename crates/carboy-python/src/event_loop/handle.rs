//! `asyncio.Handle` and `asyncio.TimerHandle`: what `call_soon` and `call_later` return.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use carboy_event_loop::{Callback, Interest};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyDict, PyFloat, PyTuple};

use super::NativeEventLoop;
use super::call::Call;
use super::system_error::ends_the_loop;
use super::watched::Watched;
use crate::ffi::attached_cell::AttachedCell;
use crate::ffi::free_list::{self, FreeList, Recycled};
use crate::ffi::{context, thread_state};
use crate::names;

/// What a handle and a timer handle have in common.
pub(crate) struct HandleState {
    /// What is to be called, until it is cancelled.
    call: AttachedCell<Option<Call>>,
    context: Py<PyContext>,
    cancelled: AtomicBool,
    event_loop: Py<NativeEventLoop>,
    /// In debug mode.
    origin: Option<Box<Origin>>,
}

/// What debug mode knows of a handle.
struct Origin {
    /// Where it was made: a `traceback.StackSummary`.
    source_traceback: Py<PyAny>,
    /// What it was when it was cancelled, for the log of slow callbacks.
    cancelled: OnceLock<String>,
}

impl HandleState {
    pub(crate) fn new(
        event_loop: Py<NativeEventLoop>,
        call: Call,
        context: Py<PyContext>,
        source_traceback: Option<Py<PyAny>>,
    ) -> Self {
        Self {
            call: AttachedCell::new(Some(call)),
            context,
            cancelled: AtomicBool::new(false),
            event_loop,
            origin: source_traceback.map(|source_traceback| {
                Box::new(Origin {
                    source_traceback,
                    cancelled: OnceLock::new(),
                })
            }),
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Cancels, and says whether it was not cancelled before. `describe` is asked, in debug
    /// mode, what it is.
    fn cancel(&self, py: Python<'_>, describe: impl FnOnce() -> PyResult<String>) -> bool {
        if self.cancelled.swap(true, Ordering::AcqRel) {
            return false;
        }
        if let Some(origin) = &self.origin
            && let Ok(description) = describe()
        {
            origin.cancelled.set(description).ok();
        }
        self.clear(py);
        true
    }

    fn call(&self, py: Python<'_>) -> Option<Call> {
        self.call
            .with(py, |call| call.as_ref().map(|call| call.clone_ref(py)))
    }

    /// Runs the callback in its context.
    ///
    /// # Errors
    ///
    /// `KeyboardInterrupt` and `SystemExit`, which end the loop as in asyncio; anything
    /// else that is raised goes to the loop's exception handler.
    fn run(&self, py: Python<'_>, handle: &Py<PyAny>) -> PyResult<()> {
        // It may be cancelled while it runs.
        let Some(call) = self.call(py) else {
            return Ok(());
        };
        let context = self.context.bind(py);
        let result = context::enter(context).and_then(|()| {
            let result = call.call(py);
            context::exit(context)?;
            result
        });
        match result {
            Ok(result) => {
                drop(result);
                call.release(py);
                Ok(())
            }
            Err(error) if ends_the_loop(py, &error) => Err(error),
            Err(error) => self.report(py, &call, error, handle),
        }
    }

    #[cold]
    fn report(
        &self,
        py: Python<'_>,
        call: &Call,
        error: PyErr,
        handle: &Py<PyAny>,
    ) -> PyResult<()> {
        let source = self.source(py, call)?;
        let details = PyDict::new(py);
        details.set_item("message", format!("Exception in callback {source}"))?;
        details.set_item("exception", error.into_value(py))?;
        details.set_item("handle", handle)?;
        if let Some(origin) = &self.origin {
            details.set_item("source_traceback", &origin.source_traceback)?;
        }
        let event_loop = self.event_loop.bind(py);
        event_loop.call_method1("call_exception_handler", (details,))?;
        Ok(())
    }

    fn callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let call = self.call(py)?;
        Some(call.callback().clone_ref(py))
    }

    fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let call = self.call(py);
        call.map(|call| call.arguments(py)).transpose()
    }

    fn source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let origin = self.origin.as_ref()?;
        Some(origin.source_traceback.clone_ref(py))
    }

    /// What asyncio says of the callback.
    fn source<'py>(&self, py: Python<'py>, call: &Call) -> PyResult<Bound<'py, PyAny>> {
        let format = names::format_callback_source(py)?;
        let parts = (call.callback(), call.arguments(py)?);
        if names::hides_arguments(py)? {
            let keywords = PyDict::new(py);
            keywords.set_item("debug", self.event_loop.get().is_debug())?;
            return format.call(parts, Some(&keywords));
        }
        format.call1(parts)
    }

    /// As `asyncio.Handle.__repr__`; `when` is what a timer has besides.
    fn repr(&self, py: Python<'_>, name: &str, when: Option<Bound<'_, PyAny>>) -> PyResult<String> {
        let origin = self.origin.as_deref();
        if let Some(description) = origin.and_then(|origin| origin.cancelled.get()) {
            return Ok(description.clone());
        }
        let mut parts = vec![name.to_owned()];
        if self.is_cancelled() {
            parts.push("cancelled".to_owned());
        }
        if let Some(when) = when {
            parts.push(format!("when={}", when.repr()?));
        }
        if let Some(call) = self.call(py) {
            parts.push(self.source(py, &call)?.to_string());
        }
        if let Some(origin) = origin {
            let place = origin.source_traceback.bind(py).get_item(-1)?;
            let (file, line) = (place.get_item(0)?, place.get_item(1)?);
            parts.push(format!("created at {file}:{line}"));
        }
        Ok(format!("<{}>", parts.join(" ")))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        if let Some(origin) = &self.origin {
            visit.call(&origin.source_traceback)?;
        }
        let mut result = Ok(());
        self.call.visit(visit, |call| {
            if let Some(call) = call {
                result = call.traverse(visit);
            }
        });
        result
    }

    fn clear(&self, py: Python<'_>) {
        // Taken out first and dropped after: dropping may run anything.
        if let Some(call) = self.call.with(py, Option::take) {
            call.release(py);
        }
    }

    fn release(self, py: Python<'_>) {
        self.clear(py);
        self.context.drop_ref(py);
        self.event_loop.drop_ref(py);
        if let Some(origin) = self.origin {
            origin.source_traceback.drop_ref(py);
        }
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
    fn cancel(&self, py: Python<'_>) {
        self.state
            .cancel(py, || self.state.repr(py, "Handle", None));
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
    fn get_context(&self, py: Python<'_>) -> Py<PyContext> {
        self.state.context.clone_ref(py)
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get()
            .state
            .run(slf.py(), slf.clone().into_any().as_unbound())
    }

    #[getter]
    fn _callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.callback(py)
    }

    #[getter]
    fn _args<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        self.state.arguments(py)
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.source_traceback(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        self.state.repr(py, "Handle", None)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.state.traverse(&visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        self.state.clear(py);
    }
}

impl Recycled for Handle {
    fn free_list() -> &'static FreeList {
        static LIST: FreeList = FreeList::new();
        &LIST
    }

    fn release(self, py: Python<'_>) {
        self.state.release(py);
    }
}

/// A callback that is queued for a time; `asyncio.TimerHandle`.
#[pyclass(frozen, weakref, module = "carboy._carboy")]
pub(crate) struct TimerHandle {
    pub(crate) state: HandleState,
    pub(crate) when_seconds: f64,
    /// What `call_at` was given, if that is no `float`.
    pub(crate) given: Option<Py<PyAny>>,
    /// Set when the timer was taken from the heap: cancelling it then frees no place there.
    pub(crate) fired: AtomicBool,
}

impl TimerHandle {
    /// The time, as the object that it was given as.
    fn time<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match &self.given {
            Some(given) => given.bind(py).clone(),
            None => PyFloat::new(py, self.when_seconds).into_any(),
        }
    }

    fn describe(&self, py: Python<'_>) -> PyResult<String> {
        self.state.repr(py, "TimerHandle", Some(self.time(py)))
    }
}

#[pymethods]
impl TimerHandle {
    /// Cancels the callback. It is not called if it was not called yet.
    fn cancel(&self, py: Python<'_>) {
        if self.state.cancel(py, || self.describe(py)) && !self.fired.load(Ordering::Acquire) {
            let event_loop = self.state.event_loop.get();
            event_loop.queues().count_cancelled_timer(py);
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
    fn when<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.time(py)
    }

    /// As asyncio's own attribute: `PythonMonkey` reads it, and crashes without.
    #[getter]
    fn _when<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.time(py)
    }

    /// Whether the loop has yet to come to it, cancelled or not; as `_when`.
    #[getter]
    fn _scheduled(&self) -> bool {
        !self.fired.load(Ordering::Acquire)
    }

    /// The context in which the callback runs.
    fn get_context(&self, py: Python<'_>) -> Py<PyContext> {
        self.state.context.clone_ref(py)
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get()
            .state
            .run(slf.py(), slf.clone().into_any().as_unbound())
    }

    #[getter]
    fn _callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.callback(py)
    }

    #[getter]
    fn _args<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        self.state.arguments(py)
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.source_traceback(py)
    }

    fn __lt__(&self, other: &Bound<'_, Self>) -> bool {
        self.when_seconds < other.get().when_seconds
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        self.describe(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.given)?;
        self.state.traverse(&visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        self.state.clear(py);
    }
}

impl Recycled for TimerHandle {
    fn free_list() -> &'static FreeList {
        static LIST: FreeList = FreeList::new();
        &LIST
    }

    fn release(self, py: Python<'_>) {
        if let Some(given) = self.given {
            given.drop_ref(py);
        }
        self.state.release(py);
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
    pub(crate) fn run(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Soon(handle) => handle.get().state.run(py, handle.as_any()),
            Self::Timer(handle) => {
                handle.get().fired.store(true, Ordering::Release);
                handle.get().state.run(py, handle.as_any())
            }
            Self::Ready(watched, interest) => watched.run(py, *interest),
        }
    }

    /// Drops it, on a thread that is known to be attached.
    pub(crate) fn release(self, py: Python<'_>) {
        self.leave_to_collector(py);
        match self {
            Self::Soon(handle) => handle.drop_ref(py),
            Self::Timer(handle) => handle.drop_ref(py),
            Self::Ready(watched, _) => watched.release(py),
        }
    }

    /// Lets the garbage collector know the handle, if there are others who refer to it.
    ///
    /// While a loop runs it holds its handles, and nothing that is reached from it can be
    /// collected. So a handle is made known when the loop lets go of it, and when it ends
    /// its run, which spares the collector most of them.
    pub(crate) fn leave_to_collector(&self, py: Python<'_>) {
        if let Self::Soon(handle) = self {
            free_list::track_shared(handle.bind(py));
        }
    }

    /// Lets the garbage collector know the handle.
    pub(crate) fn make_known(&self, py: Python<'_>) {
        if let Self::Soon(handle) = self {
            free_list::track(handle.bind(py));
        }
    }

    /// The Python object, if it is a handle.
    pub(crate) fn handle(&self) -> Option<&Py<PyAny>> {
        match self {
            Self::Ready(..) => None,
            handle => Some(handle.object()),
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
        // The driver asks for it, on the loop's thread. To attach could run finalizers, which
        // must not happen while the queues are in use.
        let py = thread_state::token(self);
        match self {
            Self::Soon(handle) => Self::Soon(handle.clone_ref(py)),
            Self::Timer(handle) => Self::Timer(handle.clone_ref(py)),
            Self::Ready(watched, interest) => Self::Ready(watched.clone_ref(py), *interest),
        }
    }
}
