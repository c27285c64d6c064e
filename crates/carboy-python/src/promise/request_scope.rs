//! The scope of a request: how it is found, and how it ends early.
//!
//! It is made with the first promise of a request, and kept at Flask's context of that, so that
//! every task and thread of the request finds the same. From then on the client is watched, if
//! the policy says so. Requests that have a deadline, or whose application has chosen a policy,
//! have one from their beginning (`RequestHead::needs_scope`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use carboy_event_loop::monotonic_seconds;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyWeakrefMethods, PyWeakrefReference};

use super::host::{Core, Failure};
use super::native_loop::call_later;
use super::scope::PromiseScope;
use crate::cancellation::{GivenUp, Policy};
use crate::ffi::context::{get_variable, set_variable};
use crate::ffi::instance::attributes_of;
use crate::flask::{RequestContextBase, request_context};
use crate::names;
use crate::worker::{current_input, post_to_loop};
use crate::wsgi::{InputStream, RequestHead};

/// Scopes of requests that are not over.
static LIVE_SCOPES: AtomicUsize = AtomicUsize::new(0);

impl PromiseScope {
    /// The scope of the request that is served now, which is made if need be. `None` where
    /// there is no request of Flask's.
    pub(super) fn of_request(py: Python<'_>) -> PyResult<Option<Bound<'_, Self>>> {
        let Some(context) = request_context(py)? else {
            return Self::of_body(py);
        };
        let attribute = intern!(py, "_carboy_promise_scope");
        if let Some(scope) = attributes_of(&context)?.get_item(attribute)? {
            let message = "something else is kept where the scope of promises should be";
            let scope = scope.cast_into::<Self>();
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
        context.setattr(attribute, &scope)?;
        Ok(Some(scope))
    }

    /// The scope of the request whose body is sent now, after Flask's context of it, or that
    /// is served by another WSGI callable than Flask's.
    fn of_body(py: Python<'_>) -> PyResult<Option<Bound<'_, Self>>> {
        let known = in_context(py)?;
        if let Some(scope) = known
            && scope.get().is_of_live_request.load(Ordering::Relaxed)
        {
            return Ok(Some(scope));
        }
        let Some(request) = current_input(py).and_then(|it| it.get().request().map(Arc::clone))
        else {
            return Ok(None);
        };
        let scope = Self::begin(py, Some(request))?;
        scope.get().is_prepared.store(true, Ordering::Relaxed);
        Ok(Some(scope))
    }

    /// Makes the scope of a request whose context is entered.
    fn begin(py: Python<'_>, request: Option<Arc<RequestHead>>) -> PyResult<Bound<'_, Self>> {
        LIVE_SCOPES.fetch_add(1, Ordering::Relaxed);
        let is_of_server = request.is_some();
        let scope = Self::with(None, request);
        scope.is_of_live_request.store(true, Ordering::Relaxed);
        let scope = Bound::new(py, scope)?;
        let variable = names::scope_of_request(py)?;
        if is_of_server {
            // The server's context for the request, and what is made from it, holds the scope.
            set_variable(variable, &scope)?;
        } else {
            // Without a server, a context may last longer than the requests in it.
            set_variable(variable, PyWeakrefReference::new(&scope)?.as_any())?;
        }
        Self::watch(&scope)?;
        Ok(scope)
    }

    /// The policy for a client that goes.
    fn policy(&self) -> Policy {
        let own = self.state().policy;
        let of_app = || {
            self.request
                .as_ref()
                .map(|it| it.settings.cancellation.policy)
        };
        own.or_else(of_app).unwrap_or_default()
    }

    /// Begins to watch the client, if it matters to anything whether that goes.
    pub(super) fn watch(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(request) = &this.request else {
            return Ok(());
        };
        let policy = this.policy();
        let matters = policy.ends_request(request.life.is_safe())
            || policy != Policy::Never && !this.state().cancellable.is_empty();
        if !matters {
            return Ok(());
        }
        if this.state().is_client_gone {
            return Self::client_is_gone(slf);
        }
        if this.is_watching.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let (scope, request) = (slf.clone().unbind(), Arc::clone(request));
        let event_loop = request.settings.event_loop.clone_ref(py).into_bound(py);
        let begin = move |_: Python<'_>| {
            let half_closed = request.settings.cancellation.half_closed;
            let watch = request.life.watch_client();
            watch.when_gone(half_closed, move || {
                Python::attach(|py| note_departure(py, &request, scope));
            });
        };
        if names::get_running_loop(py)?.call0()?.is(&event_loop) {
            begin(py);
            Ok(())
        } else {
            post_to_loop(&event_loop, Box::new(begin))
        }
    }

    /// The client has gone: gives up what the policy says.
    fn client_is_gone(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let Some(request) = &this.request else {
            return Ok(());
        };
        this.state().is_client_gone = true;
        let policy = this.policy();
        let reason = names::client_gone(slf.py())?.call0()?;
        if policy.ends_request(request.life.is_safe()) {
            Self::give_up(slf, GivenUp::ClientGone, Failure::of(&reason));
        } else if policy != Policy::Never {
            let marked = std::mem::take(&mut this.state().cancellable);
            for promise in marked
                .iter()
                .filter_map(carboy_promise::WeakPromise::upgrade)
            {
                promise.mark_handled();
                promise.cancel(Failure::of(&reason));
            }
        }
        Ok(())
    }

    /// Ends the scope for a reason. If it is a request's, what its async code waits for
    /// otherwise is cancelled after a grace period.
    pub(super) fn give_up(slf: &Bound<'_, Self>, why: GivenUp, reason: Failure) {
        let py = slf.py();
        let this = slf.get();
        if let Some(request) = &this.request {
            request.life.give_up(why);
        }
        if !this.finish(py, Some(reason)) {
            return;
        }
        let Some(request) = &this.request else {
            return;
        };
        let grace = request.settings.cancellation.grace;
        let of_timer = Arc::clone(request);
        let cancel = move |py: Python<'_>| {
            if let Err(error) = of_timer.life.cancel_task(py) {
                error.write_unraisable(py, None);
            }
        };
        match call_later(py, grace, Box::new(cancel)) {
            Ok(timer) if this.is_of_live_request.load(Ordering::Relaxed) => {
                let before = this.state().grace_timer.replace(timer);
                drop(before);
            }
            Ok(timer) => drop(timer),
            Err(error) => error.write_unraisable(py, None),
        }
    }

    /// The request is over, if the scope is one's.
    pub(super) fn end_of_request(&self) {
        if self.is_of_live_request.swap(false, Ordering::Relaxed) {
            LIVE_SCOPES.fetch_sub(1, Ordering::Relaxed);
        }
        self.forget();
    }
}

/// The scope that the server has made for the request, if nobody has asked for it yet.
fn prepared(py: Python<'_>) -> PyResult<Option<Bound<'_, PromiseScope>>> {
    Ok(in_context(py)?.filter(|scope| scope.get().is_prepared.swap(false, Ordering::Relaxed)))
}

/// The scope that the context which is entered knows of.
fn in_context(py: Python<'_>) -> PyResult<Option<Bound<'_, PromiseScope>>> {
    let Some(known) = get_variable(names::scope_of_request(py)?)? else {
        return Ok(None);
    };
    let known = match known.cast_into::<PromiseScope>() {
        Ok(scope) => return Ok(Some(scope)),
        Err(error) => error.into_inner(),
    };
    let Ok(reference) = known.cast_into::<PyWeakrefReference>() else {
        return Ok(None);
    };
    let scope = reference.upgrade();
    Ok(scope.and_then(|scope| scope.cast_into::<PromiseScope>().ok()))
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
fn note_departure(py: Python<'_>, request: &Arc<RequestHead>, scope: Py<PromiseScope>) {
    let event_loop = request.settings.event_loop.bind(py);
    let noticed = move |py: Python<'_>| {
        if let Err(error) = PromiseScope::client_is_gone(scope.bind(py)) {
            error.write_unraisable(py, None);
        }
    };
    if let Err(error) = post_to_loop(event_loop, Box::new(noticed)) {
        error.write_unraisable(py, None);
    }
}

/// Lets a promise stop when the client goes, though its request goes on.
pub(super) fn mark_cancellable(py: Python<'_>, promise: &Core) -> PyResult<()> {
    let Some(scope) = PromiseScope::of_request(py)? else {
        return Ok(());
    };
    scope.get().state().cancellable.push(promise.downgrade());
    PromiseScope::watch(&scope)
}

/// Makes the scope of a request at its beginning, with the deadline that it has.
pub(crate) fn begin_scope_of_request(
    py: Python<'_>,
    request: &Arc<RequestHead>,
    flask_context: Option<&Py<PyAny>>,
) -> PyResult<()> {
    let scope = PromiseScope::begin(py, Some(Arc::clone(request)))?;
    match flask_context {
        Some(context) => context.setattr(py, intern!(py, "_carboy_promise_scope"), &scope)?,
        None => scope.get().is_prepared.store(true, Ordering::Relaxed),
    }
    if let Some(left) = request.life.time_left() {
        let at = (monotonic_seconds() + left.as_secs_f64()).into_pyobject(py)?;
        set_variable(names::deadline_at(py)?, &at)?;
        let message = "the time for the request is up";
        let error = names::deadline_exceeded(py)?.call1((message,))?;
        PromiseScope::end_after(&scope, left.as_secs_f64(), error)?;
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
        PromiseScope::of_request(py)?;
    }
    Ok(())
}

/// The scope of the request that is served now, which is made if need be.
#[pyfunction]
pub(crate) fn find_request_scope(py: Python<'_>) -> PyResult<Option<Bound<'_, PromiseScope>>> {
    PromiseScope::of_request(py)
}

/// Ends the scope of the request whose context is entered, if it has one: the request is over.
pub(crate) fn end_scope_of_request(py: Python<'_>) {
    if LIVE_SCOPES.load(Ordering::Relaxed) == 0 {
        return;
    }
    match in_context(py) {
        Ok(Some(scope)) => {
            scope.get().finish(py, None);
            scope.get().end_of_request();
        }
        Ok(None) => {}
        Err(error) => error.write_unraisable(py, None),
    }
}
