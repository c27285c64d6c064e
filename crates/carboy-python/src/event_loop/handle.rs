//! `asyncio.Handle` and `asyncio.TimerHandle`: what `call_soon` and `call_later` return.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyFloat, PyTuple};

use super::handle_state::HandleState;
use crate::ffi::free_list::{FreeList, Recycled};

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
