//! One request that is served on the loop's thread: the place where its context is pushed,
//! its view is called, and its answer is made.
//!
//! The task of the request runs `carboy.bridge.serve_on_loop(exchange)`, which calls
//! [`Exchange::begin`], awaits the view, and ends with [`Exchange::finish`] or
//! [`Exchange::fail`]. Where code of the application's own has to run that is not async
//! (an error handler, the body's generator), the rest is done on a worker, in the same
//! context.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyContext, PyDict, PyTuple};

use super::pushed_context::PushedContext;
use super::rest_on_worker::finish_on_worker;
use super::{DispatchPlan, RequestSource, Route};
use crate::cancellation::{RequestLife, explain_end};
use crate::event_loop::{NativeEventLoop, start_task};
use crate::names;
use crate::promise::{begin_scope_of_request, end_scope_of_request, promise_of_value};
use crate::worker::{Pool, Slot};
use crate::wsgi::{RequestHead, Responder, StartResponse, close, deliver_complete, fail};

/// Where the answer goes.
pub(crate) enum Sink {
    /// To a connection; the rest of a request, if need be, to a worker of the pool.
    Connection(Responder, Arc<Pool>),
    /// To a thread of this process that called the application itself.
    Caller(Py<Slot>),
}

/// A request on its way through its view.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct Exchange {
    plan: Arc<DispatchPlan>,
    event_loop: Py<NativeEventLoop>,
    /// What the request is made of, until Flask's context is pushed.
    source: Mutex<Option<RequestSource>>,
    /// The head, for a request that came by a connection.
    head: Option<Arc<RequestHead>>,
    route: Route,
    context: Py<PyContext>,
    /// Flask's context, once it is pushed.
    flask_context: OnceLock<PushedContext>,
    sink: Mutex<Option<Sink>>,
}

/// Serves a request on the loop's thread: makes its task and takes the first step.
///
/// Must be called on that thread, outside of any task.
pub(crate) fn start_on_loop_thread(
    event_loop: &Bound<'_, NativeEventLoop>,
    plan: &Arc<DispatchPlan>,
    source: RequestSource,
    route: Route,
    context: &Bound<'_, PyContext>,
    sink: Sink,
) -> PyResult<()> {
    let py = event_loop.py();
    let exchange = Exchange {
        plan: Arc::clone(plan),
        event_loop: event_loop.clone().unbind(),
        head: source.head().map(Arc::clone),
        source: Mutex::new(Some(source)),
        route,
        context: context.clone().unbind(),
        flask_context: OnceLock::new(),
        sink: Mutex::new(Some(sink)),
    };
    plan.requests_on_loop().fetch_add(1, Ordering::Relaxed);
    let exchange = Bound::new(py, exchange)?;
    let coroutine = names::serve_on_loop(py)?.call1((&exchange,))?;
    let name = exchange.get().route.endpoint.bind(py);
    let pulse = event_loop.get().pulse();
    let entered = pulse.enter();
    let started = start_task(event_loop, &coroutine, context, Some(name));
    NativeEventLoop::run_deferred(event_loop);
    pulse.leave(entered, || format!("the view of {name}"));
    match started {
        Ok(task) => exchange.get().note_task(task),
        Err(error) => exchange.get().break_off(py, error),
    }
    Ok(())
}

impl Exchange {
    fn try_to_finish(&self, py: Python<'_>, value: Bound<'_, PyAny>) -> PyResult<()> {
        let Some(flask_context) = self.flask_context.get() else {
            return Err(PyRuntimeError::new_err("finish() before begin()"));
        };
        if flask_context.has_after_request_functions(py)?
            || !self.plan.may_finish_natively(py, &self.route, &value)?
        {
            self.finish_elsewhere(py, "value", value.unbind());
        } else if !self.finish_natively(py, &value)? {
            self.finish_here(py, &value)?;
        }
        Ok(())
    }

    /// The environ of the request.
    fn environ<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        if let Some(flask_context) = self.flask_context.get() {
            return flask_context.environ(py);
        }
        match &*self.source() {
            Some(source) => source.environ(py),
            None => Err(PyRuntimeError::new_err("the request has no environ yet")),
        }
    }

    /// What may end the request early, if it has a client.
    fn life(&self) -> Option<&RequestLife> {
        self.head.as_ref().map(|head| &head.life)
    }

    /// Remembers the task of a view that goes on, so that it can be cancelled.
    fn note_task(&self, task: Bound<'_, PyAny>) {
        if let Some(life) = self.life()
            && self.sink().is_some()
        {
            life.set_task(Some(task.unbind()));
        }
    }

    fn sink(&self) -> MutexGuard<'_, Option<Sink>> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn source(&self) -> MutexGuard<'_, Option<RequestSource>> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place where the answer goes: from here on the request is somebody else's, or
    /// done. A traceback may keep this object for longer.
    fn take_sink(&self) -> Option<Sink> {
        let sink = self.sink().take();
        if sink.is_some() {
            self.plan.requests_on_loop().fetch_sub(1, Ordering::Relaxed);
            if let Some(life) = self.life() {
                life.set_task(None);
            }
        }
        sink
    }

    /// Pushes Flask's context by its own method, and puts up with what that finds wrong.
    fn push_own_context(
        &self,
        application: &Bound<'_, PyAny>,
        source: &RequestSource,
    ) -> PyResult<()> {
        let py = application.py();
        let environ = source.environ(py)?;
        let entered = names::enter(py)?.call1((application, &environ))?;
        let (context, routing_exception): (Py<PyAny>, Option<Bound<'_, PyAny>>) =
            entered.extract()?;
        let environ = environ.unbind();
        self.flask_context
            .set(PushedContext::Own { context, environ })
            .ok();
        match routing_exception {
            Some(exception) => Err(PyErr::from_value(exception)),
            None => Ok(()),
        }
    }

    fn flask_context(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.flask_context.get().map(|context| context.object(py))
    }

    /// Answers a request that failed outside of Flask's own error handling.
    fn break_off(&self, py: Python<'_>, error: PyErr) {
        match self.take_sink() {
            Some(Sink::Connection(mut responder, _)) => match self.environ(py) {
                Ok(environ) => fail(py, &environ, error, &mut responder),
                Err(_) => error.write_unraisable(py, None),
            },
            Some(Sink::Caller(slot)) => slot.get().settle(Err(error)),
            None => error.write_unraisable(py, None),
        }
    }

    /// Makes the response of a plain value natively, if nobody gets to see more of it than
    /// its bytes; says whether it did.
    fn finish_natively(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(PushedContext::Native(pushed)) = self.flask_context.get() else {
            return Ok(false);
        };
        let goes_to_connection = matches!(*self.sink(), Some(Sink::Connection(..)));
        if !goes_to_connection {
            return Ok(false);
        }
        let is_finished = self
            .plan
            .finish_plainly(pushed.get(), value, |head, content| {
                if let Some(Sink::Connection(mut responder, _)) = self.take_sink() {
                    responder.send_whole(head, content);
                }
            })?;
        if is_finished {
            end_scope_of_request(py);
        }
        Ok(is_finished)
    }

    /// Makes the response with Flask's own code, which is all that is needed for a plain
    /// value, and pops the context.
    fn finish_here(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let flask_context = self.flask_context(py);
        let application = self.plan.application(py)?;
        let response = match names::finalize(py)?.call1((&application, &flask_context, value)) {
            Ok(response) => response,
            Err(error) => {
                self.finish_elsewhere(py, "unhandled", error.into_value(py).into_any());
                return Ok(());
            }
        };
        let environ = self.environ(py)?;
        match self.take_sink() {
            Some(Sink::Connection(responder, _)) => {
                let start_response = Bound::new(py, StartResponse::new(responder))?;
                let iterable = names::leave(py)?.call1((
                    &application,
                    &flask_context,
                    &environ,
                    response,
                    &start_response,
                ));
                let delivered = iterable.and_then(|iterable| {
                    let delivered = deliver_complete(&iterable, &start_response);
                    let closed = close(&iterable);
                    delivered.and(closed)
                });
                if let Err(error) = delivered {
                    let (_, mut responder) = start_response.get().take();
                    fail(py, &environ, error, &mut responder);
                }
                end_scope_of_request(py);
            }
            Some(Sink::Caller(slot)) => {
                let rest = ("response", response).into_pyobject(py)?;
                self.settle_after_step(py, slot, rest);
            }
            None => {}
        }
        Ok(())
    }

    /// Does the rest of the request on a worker, or on the calling thread.
    fn finish_elsewhere(&self, py: Python<'_>, stage: &'static str, value: Py<PyAny>) {
        match self.take_sink() {
            Some(Sink::Connection(responder, pool)) => {
                let Ok(application) = self.plan.application(py) else {
                    return;
                };
                let application = application.unbind();
                let flask_context = self.flask_context(py);
                let environ = match self.environ(py) {
                    Ok(environ) => environ.unbind(),
                    Err(error) => return error.write_unraisable(py, None),
                };
                let context = self.context.clone_ref(py);
                let job = Box::new(move |py: Python<'_>| {
                    let environ = environ.bind(py);
                    let arguments = (application, flask_context, environ, stage, value);
                    finish_on_worker(py, context.bind(py), arguments, responder);
                });
                // Only after the task's step has left the context may a worker enter it.
                let deferred = Box::new(move |_: Python<'_>| pool.dispatch(job));
                self.event_loop.get().defer(deferred);
            }
            Some(Sink::Caller(slot)) => {
                if let Ok(rest) = (stage, value).into_pyobject(py) {
                    self.settle_after_step(py, slot, rest);
                }
            }
            None => {}
        }
    }

    /// Gives the calling thread what is left to do, once the task's step has left the
    /// context that the thread will enter.
    fn settle_after_step(&self, py: Python<'_>, slot: Py<Slot>, rest: Bound<'_, PyTuple>) {
        let flask_context = self.flask_context(py);
        let rest = (flask_context, rest)
            .into_pyobject(py)
            .map(|rest| rest.into_any().unbind());
        let deferred = Box::new(move |_: Python<'_>| slot.get().settle(rest));
        self.event_loop.get().defer(deferred);
    }
}

/// Flask refuses changes of its setup once a request was served.
pub(super) fn note_first_request(application: &Bound<'_, PyAny>) -> PyResult<()> {
    let name = intern!(application.py(), "_got_first_request");
    if application.getattr(name)?.is_truthy()? {
        return Ok(());
    }
    application.setattr(name, true)
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // A caller must not wait for ever. A connection's responder answers when dropped.
        if let Some(Sink::Caller(slot)) = self.take_sink() {
            let error = PyRuntimeError::new_err("the request was given up");
            slot.get().settle(Err(error));
        }
    }
}

#[pymethods]
impl Exchange {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Tracebacks keep this object, and what it holds may keep the traceback: the
        // collector has to see the way. It breaks the cycle at one of the others.
        if let Ok(source) = self.source.try_lock()
            && let Some(source) = &*source
        {
            visit.call(source.given_environ())?;
        }
        visit.call(&self.route.view)?;
        visit.call(&self.route.view_args)?;
        visit.call(&self.context)?;
        if let Some(life) = self.life() {
            life.traverse(&visit)?;
        }
        if let Some(flask_context) = self.flask_context.get() {
            flask_context.traverse(&visit)?;
        }
        Ok(())
    }

    /// Pushes Flask's context and calls the view. Returns what is to be awaited.
    fn begin<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let application = self.plan.application(py)?;
        let source = self.source().take();
        let Some(source) = source else {
            return Err(PyRuntimeError::new_err("begin() was called before"));
        };
        if let Some(contexts) = self.plan.contexts()
            && contexts.applies_to(&application, &source)?
        {
            let pushed = contexts.push(&application, source, &self.route)?;
            self.flask_context.set(PushedContext::Native(pushed)).ok();
            note_first_request(&application)?;
        } else {
            self.push_own_context(&application, &source)?;
        }
        if let Some(head) = &self.head
            && head.needs_scope()
        {
            let flask_context = self.flask_context(py);
            begin_scope_of_request(py, head, flask_context.as_ref())?;
        }
        self.route.call_view(py)
    }

    /// Answers with what the view returned. If there are promises in it, returns the promise
    /// of what it is to be called with again.
    fn finish<'py>(
        &self,
        py: Python<'py>,
        value: Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(promise) = promise_of_value(&value)? {
            return Ok(Some(promise));
        }
        if let Err(error) = self.try_to_finish(py, value) {
            // Not the view's failure, but it must not lose the request.
            self.finish_elsewhere(py, "unhandled", error.into_value(py).into_any());
        }
        Ok(None)
    }

    /// Answers after an exception: Flask's error handling runs on a worker, because error
    /// handlers may be sync.
    fn fail(&self, py: Python<'_>, error: Py<PyAny>) {
        let error = PyErr::from_value(error.into_bound(py));
        let error = explain_end(py, self.life(), error)
            .into_value(py)
            .into_any();
        if self.flask_context(py).is_some() {
            self.finish_elsewhere(py, "error", error);
        } else {
            self.break_off(py, PyErr::from_value(error.into_bound(py)));
        }
    }
}
