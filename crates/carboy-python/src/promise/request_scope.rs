//! The scope of a request: how it is found, and how it ends early.
//!
//! It is made with the first promise of a request, and kept at Flask's context of that, so that
//! every task and thread of the request finds the same. From then on the client is watched, if
//! the policy says so. Requests that have a deadline, or whose application has chosen a policy,
//! have one from their beginning (`RequestHead::needs_scope`). A request without a scope pays
//! for a look at a counter.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use carboy_event_loop::monotonic_seconds;
use carboy_promise::WeakPromise;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyWeakrefMethods, PyWeakrefReference};

use super::host::{Core, PromiseHost};
use super::native_loop::{Timer, call_later};
use super::scope::{Reason, Scope};
use super::scope_object::PromiseScope;
use crate::cancellation::{GivenUp, Policy};
use crate::event_loop::turns_here;
use crate::ffi::context::{get_variable, set_variable};
use crate::ffi::instance::attributes_of;
use crate::flask::{RequestContextBase, request_context};
use crate::names;
use crate::worker::{current_input, post_to_loop};
use crate::wsgi::{InputStream, RequestHead};

/// Scopes of requests that are not over.
static LIVE_SCOPES: AtomicUsize = AtomicUsize::new(0);

/// What the scope of a request has more than others.
pub(super) struct RequestScope {
    scope: Arc<Scope>,
    /// The request, if that came by a connection.
    head: Option<Arc<RequestHead>>,
    state: Mutex<State>,
    /// Whether the request is not over.
    is_live: AtomicBool,
    /// Whether the server has made it before there was a context of Flask's to keep it at.
    is_prepared: AtomicBool,
    /// Whether the request's client is watched.
    is_watching: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Cancels what goes on after the end, once the grace period is over.
    grace_timer: Option<Timer>,
    /// Ends the request when its time is up.
    deadline_timer: Option<Timer>,
    /// What stops when the client goes, though the request goes on.
    cancellable: Vec<WeakPromise<PromiseHost>>,
    /// The view's own policy for clients that go.
    policy: Option<Policy>,
    is_client_gone: bool,
}

impl RequestScope {
    /// The scope of the request that is served now, which is made if need be. `None` where
    /// there is no request of Flask's.
    pub(super) fn current(py: Python<'_>) -> PyResult<Option<Bound<'_, PromiseScope>>> {
        let Some(context) = request_context(py)? else {
            return Self::of_body(py);
        };
        let attribute = intern!(py, "_carboy_promise_scope");
        if let Some(scope) = attributes_of(&context)?.get_item(attribute)? {
            let message = "something else is kept where the scope of promises should be";
            let scope = scope.cast_into::<PromiseScope>();
            return scope
                .map(Some)
                .map_err(|_| PyRuntimeError::new_err(message));
        }
        // Flask 3.2 has one context for requests and for what is none.
        if let Some(has_request) = context.getattr_opt(intern!(py, "has_request"))?
            && !has_request.is_truthy()?
        {
            return Ok(None);
        }
        let scope = match prepared(py)? {
            Some(scope) => scope,
            None => Self::begin(py, request_of(&context)?)?,
        };
        keep_at(&scope, &context)?;
        Ok(Some(scope))
    }

    /// The scope of the request whose body is sent now, after Flask's context of it, or that
    /// is served by another WSGI callable than Flask's.
    fn of_body(py: Python<'_>) -> PyResult<Option<Bound<'_, PromiseScope>>> {
        // Without a server it is not known when a body ends: what comes after Flask's context is
        // nobody's, also if somebody keeps that.
        if let Some((scope, request)) = in_context(py)?
            && request.head.is_some()
            && request.is_live.load(Ordering::Relaxed)
        {
            return Ok(Some(scope));
        }
        let Some(head) = current_input(py).and_then(|it| it.get().request().map(Arc::clone)) else {
            return Ok(None);
        };
        let scope = Self::begin(py, Some(head))?;
        set_prepared(&scope);
        Ok(Some(scope))
    }

    /// Makes the scope of a request whose context is entered.
    fn begin(py: Python<'_>, head: Option<Arc<RequestHead>>) -> PyResult<Bound<'_, PromiseScope>> {
        LIVE_SCOPES.fetch_add(1, Ordering::Relaxed);
        let is_of_server = head.is_some();
        let request = Arc::new(Self {
            scope: Scope::of_request(),
            head,
            state: Mutex::default(),
            is_live: AtomicBool::new(true),
            is_prepared: AtomicBool::new(false),
            is_watching: AtomicBool::new(false),
        });
        let scope = Bound::new(py, PromiseScope::of_request(Arc::clone(&request)))?;
        let variable = names::scope_of_request(py)?;
        if is_of_server {
            // The server's context for the request, and what is made from it, holds the scope.
            set_variable(variable, &scope)?;
            request.watch(py)?;
            return Ok(scope);
        }
        // Without a server it ends when it is gone, and a context may last longer than the
        // requests in it.
        let scope = names::lonely_request_scope(py)?
            .call1((scope,))?
            .cast_into::<PromiseScope>()?;
        set_variable(variable, PyWeakrefReference::new(&scope)?.as_any())?;
        Ok(scope)
    }

    pub(super) fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    /// The request, if it came by a connection.
    pub(super) fn head(&self) -> Option<&RequestHead> {
        self.head.as_deref()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the view's own policy for clients that go.
    pub(super) fn set_policy(self: &Arc<Self>, py: Python<'_>, policy: Policy) -> PyResult<()> {
        self.state().policy = Some(policy);
        self.watch(py)
    }

    /// The policy for a client that goes.
    fn policy(&self) -> Policy {
        let own = self.state().policy;
        let of_app = || {
            let head = self.head.as_ref();
            head.map(|head| head.settings.cancellation.policy)
        };
        own.or_else(of_app).unwrap_or_default()
    }

    /// Begins to watch the client, if it matters to anything whether that goes.
    fn watch(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let Some(head) = &self.head else {
            return Ok(());
        };
        let policy = self.policy();
        let matters = policy.ends_request(head.life.is_safe())
            || policy != Policy::Never && !self.state().cancellable.is_empty();
        if !matters {
            return Ok(());
        }
        if self.state().is_client_gone {
            return self.client_is_gone(py);
        }
        if self.is_watching.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let event_loop = head.settings.event_loop.bind(py);
        let (scope, head) = (Arc::downgrade(self), Arc::clone(head));
        let begin = move |_: Python<'_>| {
            let half_closed = head.settings.cancellation.half_closed;
            let watch = head.life.watch_client();
            watch.when_gone(half_closed, move || {
                Python::attach(|py| note_departure(py, &head, scope));
            });
        };
        if turns_here(event_loop) {
            begin(py);
            Ok(())
        } else {
            post_to_loop(event_loop, Box::new(begin))
        }
    }

    /// The client has gone: gives up what the policy says.
    fn client_is_gone(&self, py: Python<'_>) -> PyResult<()> {
        let Some(head) = &self.head else {
            return Ok(());
        };
        self.state().is_client_gone = true;
        head.life.note_client_gone();
        let policy = self.policy();
        let reason = Reason::new(names::client_gone(py)?.call0()?.unbind());
        if policy.ends_request(head.life.is_safe()) {
            self.give_up(py, GivenUp::ClientGone, &reason);
        } else if policy != Policy::Never {
            let marked = std::mem::take(&mut self.state().cancellable);
            for promise in marked.iter().filter_map(WeakPromise::upgrade) {
                promise.mark_handled();
                promise.cancel(reason.failure(py, &promise));
            }
        }
        Ok(())
    }

    /// Ends the scope for a reason. What async code of the request waits for otherwise is
    /// cancelled after a grace period.
    fn give_up(&self, py: Python<'_>, why: GivenUp, reason: &Reason) {
        if let Some(head) = &self.head {
            head.life.give_up(why);
        }
        if !self.scope.finish(py, Some(reason)) {
            return;
        }
        let Some(head) = &self.head else {
            return;
        };
        let grace = head.settings.cancellation.grace;
        let of_timer = Arc::clone(head);
        let cancel = move |py: Python<'_>| {
            if let Err(error) = of_timer.life.cancel_task(py) {
                error.write_unraisable(py, None);
            }
        };
        match call_later(py, grace, Box::new(cancel)) {
            Ok(timer) if self.is_live.load(Ordering::Relaxed) => {
                let before = self.state().grace_timer.replace(timer);
                drop(before);
            }
            Ok(timer) => drop(timer),
            Err(error) => error.write_unraisable(py, None),
        }
    }

    /// The request is over.
    pub(super) fn note_end(&self) {
        if self.is_live.swap(false, Ordering::Relaxed) {
            LIVE_SCOPES.fetch_sub(1, Ordering::Relaxed);
        }
        let timers = {
            let mut state = self.state();
            (state.grace_timer.take(), state.deadline_timer.take())
        };
        drop(timers);
    }

    /// Ends the request after some time.
    fn end_after(self: &Arc<Self>, py: Python<'_>, time: Duration) -> PyResult<()> {
        let message = "the time for the request is up";
        let error = names::deadline_exceeded(py)?.call1((message,))?;
        let (request, reason) = (Arc::downgrade(self), Reason::new(error.unbind()));
        let action = move |py: Python<'_>| {
            if let Some(request) = request.upgrade() {
                request.give_up(py, GivenUp::TimeIsUp, &reason);
            }
        };
        let timer = call_later(py, time, Box::new(action))?;
        self.state().deadline_timer = Some(timer);
        Ok(())
    }
}

impl Drop for RequestScope {
    fn drop(&mut self) {
        self.note_end();
    }
}

/// Keeps a scope at Flask's context of its request, whose application gets its reports.
fn keep_at(scope: &Bound<'_, PromiseScope>, context: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = context.py();
    context.setattr(intern!(py, "_carboy_promise_scope"), scope)?;
    let Some(request) = scope.get().request() else {
        return Ok(());
    };
    let application = context.getattr(intern!(py, "app"))?;
    let is_strict = application.getattr(intern!(py, "debug"))?.is_truthy()?
        || application.getattr(intern!(py, "testing"))?.is_truthy()?;
    let reference = PyWeakrefReference::new(&application)?;
    request.scope.set_application(reference.unbind(), is_strict);
    if is_strict {
        names::fail_with_unhandled(py)?.call1((context, scope))?;
    }
    Ok(())
}

fn set_prepared(scope: &Bound<'_, PromiseScope>) {
    if let Some(request) = scope.get().request() {
        request.is_prepared.store(true, Ordering::Relaxed);
    }
}

/// The scope that the server has made for the request, if nobody has asked for it yet.
fn prepared(py: Python<'_>) -> PyResult<Option<Bound<'_, PromiseScope>>> {
    let known = in_context(py)?;
    let prepared = known.filter(|(_, it)| it.is_prepared.swap(false, Ordering::Relaxed));
    Ok(prepared.map(|(scope, _)| scope))
}

/// The scope that the context which is entered knows of.
fn in_context(py: Python<'_>) -> PyResult<Option<(Bound<'_, PromiseScope>, Arc<RequestScope>)>> {
    let Some(known) = get_variable(names::scope_of_request(py)?)? else {
        return Ok(None);
    };
    let scope = match known.cast_into::<PromiseScope>() {
        Ok(scope) => Some(scope),
        Err(error) => {
            let reference = error.into_inner().cast_into::<PyWeakrefReference>().ok();
            let scope = reference.and_then(|reference| reference.upgrade());
            scope.and_then(|scope| scope.cast_into::<PromiseScope>().ok())
        }
    };
    Ok(scope.and_then(|scope| {
        let request = scope.get().request().cloned();
        request.map(|request| (scope, request))
    }))
}

/// The request that a context of Flask's is of, if it came by a connection.
fn request_of(context: &Bound<'_, PyAny>) -> PyResult<Option<Arc<RequestHead>>> {
    let py = context.py();
    if let Ok(native) = context.cast::<RequestContextBase>()
        && let Some(head) = native.get().head()
    {
        return Ok(Some(head));
    }
    let environ = context
        .getattr(intern!(py, "request"))?
        .getattr(intern!(py, "environ"))?;
    if let Ok(environ) = environ.cast::<PyDict>()
        && let Some(input) = environ.get_item(intern!(py, "wsgi.input"))?
        && let Ok(input) = input.cast::<InputStream>()
    {
        return Ok(input.get().request().map(Arc::clone));
    }
    // A middleware may have put something of its own there.
    Ok(current_input(py).and_then(|input| input.get().request().map(Arc::clone)))
}

/// Sees to it that the loop gets to know of a client that has gone, when it is done with the
/// connection.
fn note_departure(py: Python<'_>, head: &Arc<RequestHead>, request: Weak<RequestScope>) {
    let event_loop = head.settings.event_loop.bind(py);
    let noticed = move |py: Python<'_>| {
        if let Some(request) = request.upgrade()
            && let Err(error) = request.client_is_gone(py)
        {
            error.write_unraisable(py, None);
        }
    };
    if let Err(error) = post_to_loop(event_loop, Box::new(noticed)) {
        error.write_unraisable(py, None);
    }
}

/// Lets a promise stop when the client goes, though its request goes on.
pub(super) fn mark_cancellable(py: Python<'_>, promise: &Core) -> PyResult<()> {
    let scope = RequestScope::current(py)?;
    let Some(request) = scope.as_ref().and_then(|scope| scope.get().request()) else {
        return Ok(());
    };
    {
        let mut state = request.state();
        // A long request marks many, of which few are pending at a time.
        if state.cancellable.len() == state.cancellable.capacity() {
            state.cancellable.retain(WeakPromise::is_pending);
        }
        state.cancellable.push(promise.downgrade());
    }
    request.watch(py)
}

/// Makes the scope of a request at its beginning, with the deadline that it has.
pub(crate) fn begin_scope_of_request(
    py: Python<'_>,
    request: &Arc<RequestHead>,
    flask_context: Option<&Py<PyAny>>,
) -> PyResult<()> {
    let scope = RequestScope::begin(py, Some(Arc::clone(request)))?;
    match flask_context {
        Some(context) => keep_at(&scope, context.bind(py))?,
        None => set_prepared(&scope),
    }
    if let Some(left) = request.life.time_left() {
        let at = (monotonic_seconds() + left.as_secs_f64()).into_pyobject(py)?;
        set_variable(names::deadline_at(py)?, &at)?;
        if let Some(request) = scope.get().request() {
            request.end_after(py, left)?;
        }
    }
    Ok(())
}

/// Sees to it that the request which is served now has a scope, before async code of it runs:
/// if it is to have one from the beginning, or if Flask is done with it and what runs is its
/// body, which is nothing that plain Flask has.
pub(crate) fn prepare_scope_for_async_code(
    py: Python<'_>,
    request: &Arc<RequestHead>,
) -> PyResult<()> {
    if request.needs_scope() || request_context(py)?.is_none() {
        RequestScope::current(py)?;
    }
    Ok(())
}

/// The scope of the request that is served now, which is made if need be.
#[pyfunction]
pub(crate) fn find_request_scope(py: Python<'_>) -> PyResult<Option<Bound<'_, PromiseScope>>> {
    RequestScope::current(py)
}

/// Ends the scope of the request whose context is entered, if it has one: the request is over.
pub(crate) fn end_scope_of_request(py: Python<'_>) {
    if LIVE_SCOPES.load(Ordering::Relaxed) == 0 {
        return;
    }
    match in_context(py) {
        Ok(Some((scope, _))) => scope.get().end(py, None),
        Ok(None) => {}
        Err(error) => error.write_unraisable(py, None),
    }
}
