//! What a handle and a timer handle have in common: the call, its context, and its end.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyDict, PyTuple};

use super::NativeEventLoop;
use super::call::Call;
use super::system_error::ends_the_loop;
use crate::ffi::attached_cell::AttachedCell;
use crate::ffi::context;
use crate::names;

/// What a handle and a timer handle have in common.
pub(crate) struct HandleState {
    /// What is to be called, until it is cancelled.
    call: AttachedCell<Option<Call>>,
    pub(super) context: Py<PyContext>,
    cancelled: AtomicBool,
    pub(super) event_loop: Py<NativeEventLoop>,
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
    pub(super) fn cancel(
        &self,
        py: Python<'_>,
        describe: impl FnOnce() -> PyResult<String>,
    ) -> bool {
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
    pub(super) fn run(&self, py: Python<'_>, handle: &Py<PyAny>) -> PyResult<()> {
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

    pub(super) fn callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let call = self.call(py)?;
        Some(call.callback().clone_ref(py))
    }

    pub(super) fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let call = self.call(py);
        call.map(|call| call.arguments(py)).transpose()
    }

    pub(super) fn source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
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
    pub(super) fn repr(
        &self,
        py: Python<'_>,
        name: &str,
        when: Option<Bound<'_, PyAny>>,
    ) -> PyResult<String> {
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

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
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

    pub(super) fn clear(&self, py: Python<'_>) {
        // Taken out first and dropped after: dropping may run anything.
        if let Some(call) = self.call.with(py, Option::take) {
            call.release(py);
        }
    }

    pub(super) fn release(self, py: Python<'_>) {
        self.clear(py);
        self.context.drop_ref(py);
        self.event_loop.drop_ref(py);
        if let Some(origin) = self.origin {
            origin.source_traceback.drop_ref(py);
        }
    }
}
