//! Resolving a promise with whatever Python code has returned: a value, another promise, or
//! something to be awaited.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use carboy_promise::Resolver;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyContext, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::host::{Core, PromiseHost, Value, reject};
use super::native_loop::native_loop;
use super::object::Promise;
use super::resolver::PromiseResolver;
use super::scope::Scope;
use super::scope_object;
use crate::ffi::context;
use crate::names;
use crate::worker::post_to_loop;

/// Whether something can be awaited. Objects with a `then` method are values.
pub(super) fn is_awaitable(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let is_plain = value.is_none()
        || value.is_exact_instance_of::<PyDict>()
        || value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyList>()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_exact_instance_of::<PyBytes>()
        || value.is_exact_instance_of::<PyTuple>()
        || value.is_exact_instance_of::<PyFloat>();
    if is_plain {
        return Ok(false);
    }
    names::is_awaitable(value.py())?
        .call1((value,))?
        .is_truthy()
}

/// Resolves a promise with what is returned or passed by Python code.
pub(super) fn resolve(
    py: Python<'_>,
    resolver: &Resolver<PromiseHost>,
    value: &Bound<'_, PyAny>,
    context: Option<&Py<PyContext>>,
) {
    if let Ok(promise) = value.cast::<Promise>() {
        let source = promise.get().core();
        resolver
            .promise()
            .origin()
            .causes
            .add(&source.origin().causes);
        resolver.follow(source);
        return;
    }
    let resolved = is_awaitable(value).and_then(|is_awaitable| {
        if is_awaitable {
            adopt(py, resolver, value, context)
        } else {
            Ok(resolver.fulfil(Value(value.clone().unbind())))
        }
    });
    if let Err(error) = resolved {
        reject(py, resolver, error);
    }
}

/// Takes a value that comes too late: a coroutine that nobody runs would be warned about.
pub(super) fn refuse(value: &Bound<'_, PyAny>) {
    if !value.is_instance_of::<Promise>() && is_awaitable(value).unwrap_or(false) {
        value.call_method0(intern!(value.py(), "close")).ok();
    }
}

/// Awaits something on an event loop and settles the promise with the outcome.
fn adopt(
    py: Python<'_>,
    resolver: &Resolver<PromiseHost>,
    awaitable: &Bound<'_, PyAny>,
    context: Option<&Py<PyContext>>,
) -> PyResult<bool> {
    let Some(resolver) = resolver.pass_on() else {
        // Decided otherwise.
        refuse(awaitable);
        return Ok(false);
    };
    let context = match context {
        Some(context) => context.bind(py).call_method0(intern!(py, "copy"))?,
        None => context::copy_current(py)?.into_bound(py).into_any(),
    };
    let context = context.cast_into::<PyContext>()?;
    let running = names::get_running_loop(py)?.call0()?;
    let event_loop = match awaitable.getattr_opt(intern!(py, "get_loop"))? {
        // A future belongs to a loop.
        Some(get_loop) => get_loop.call0()?,
        None if !running.is_none() => running.clone(),
        None => native_loop(py)?.into_any(),
    };
    let promise = resolver.promise();
    own_work(py, promise, &context)?;
    scope_object::join(py, promise);
    let work = Arc::new(Work::default());
    let for_hook = Arc::clone(&work);
    let home = event_loop.clone().unbind();
    if promise.is_settled() {
        // Its scope has ended. What was never begun is told so.
        give_up(awaitable);
        return Ok(true);
    }
    promise.on_cancel(Box::new(move || {
        Python::attach(|py| for_hook.cancel(home.bind(py)));
    }));
    let python_resolver = Bound::new(py, PromiseResolver::new(resolver))?;
    let context = context.into_any();
    let coroutine = names::settle(py)?.call1((awaitable, python_resolver))?;
    if running.is(&event_loop) {
        work.start(&event_loop, awaitable, &coroutine, &context)?;
    } else {
        let (home, awaitable, coroutine, context) = (
            event_loop.clone().unbind(),
            awaitable.clone().unbind(),
            coroutine.unbind(),
            context.unbind(),
        );
        let start = move |py: Python<'_>| {
            let started = work.start(
                home.bind(py),
                awaitable.bind(py),
                coroutine.bind(py),
                context.bind(py),
            );
            if let Err(error) = started {
                error.write_unraisable(py, None);
            }
        };
        post(&event_loop, Box::new(start))?;
    }
    Ok(true)
}

/// Gives the work for a promise a scope of its own, which is cut off when it is detached.
fn own_work(py: Python<'_>, promise: &Core, context: &Bound<'_, PyContext>) -> PyResult<()> {
    let origin = promise.origin();
    let scope = match origin.scope() {
        _ if origin.is_detached() => Scope::detached(py),
        Some(outer) => Scope::within(py, Some(outer)),
        None => return Ok(()),
    };
    origin.set_work(Arc::clone(&scope));
    context::enter(context)?;
    let set = scope_object::set_current(py, scope);
    context::exit(context)?;
    set
}

/// Tells something to be awaited that nobody will. A coroutine would be warned about.
fn give_up(awaitable: &Bound<'_, PyAny>) {
    let py = awaitable.py();
    if awaitable.call_method0(intern!(py, "close")).is_err() {
        awaitable.call_method0(intern!(py, "cancel")).ok();
    }
}

/// Does something on the thread of a loop of any make.
fn post(event_loop: &Bound<'_, PyAny>, action: crate::event_loop::Deferred) -> PyResult<()> {
    if let Ok(native) = event_loop.cast::<crate::event_loop::NativeEventLoop>() {
        return post_to_loop(native, action);
    }
    let py = event_loop.py();
    let posted = Bound::new(py, Posted(Mutex::new(Some(action))))?.into_any();
    super::owner::call_soon(event_loop, posted, PyTuple::empty(py), None)
}

#[pyclass(frozen)]
struct Posted(Mutex<Option<crate::event_loop::Deferred>>);

#[pymethods]
impl Posted {
    fn __call__(&self, py: Python<'_>) {
        let action = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(action) = action {
            action(py);
        }
    }
}

/// The task that awaits something for a promise.
#[derive(Default)]
struct Work {
    task: Mutex<Option<Py<PyAny>>>,
    is_cancelled: AtomicBool,
}

impl Work {
    fn start(
        &self,
        event_loop: &Bound<'_, PyAny>,
        awaitable: &Bound<'_, PyAny>,
        coroutine: &Bound<'_, PyAny>,
        context: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = event_loop.py();
        if self.is_cancelled.load(Ordering::Acquire) {
            // What was never begun is told so.
            coroutine.call_method0(intern!(py, "close"))?;
            give_up(awaitable);
            return Ok(());
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), context)?;
        let task =
            event_loop.call_method(intern!(py, "create_task"), (coroutine,), Some(&keywords))?;
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.clone().unbind());
        if self.is_cancelled.load(Ordering::Acquire) {
            task.call_method0(intern!(py, "cancel"))?;
        }
        Ok(())
    }

    /// Cancels the task, on its loop's thread.
    fn cancel(&self, event_loop: &Bound<'_, PyAny>) {
        let py = event_loop.py();
        self.is_cancelled.store(true, Ordering::Release);
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task
            && let Ok(cancel) = task.bind(py).getattr(intern!(py, "cancel"))
        {
            // A loop that is closed has nothing to cancel any more.
            super::owner::call_soon(event_loop, cancel, PyTuple::empty(py), None).ok();
        }
    }
}
