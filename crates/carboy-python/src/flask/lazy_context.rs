//! The native half of the contexts of a request on the loop: their attributes, made when
//! they are asked for.
//!
//! `carboy.flask.lazy_context` makes subclasses of these and of Flask's own context classes.
//! Each attribute is one of those that Flask's constructors set, and can be set as usual.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyAttributeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::pending_request::PendingRequest;
use crate::names;
use crate::wsgi::RequestHead;

type Object = Option<Py<PyAny>>;

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replaces a field; what was there is dropped without the lock.
fn replace<T>(state: &Mutex<T>, field: impl FnOnce(&mut T) -> &mut Object, value: Object) {
    let old = std::mem::replace(field(&mut lock(state)), value);
    drop(old);
}

/// Keeps a value that was made without the lock, unless another thread was faster.
fn keep_first<T>(
    state: &Mutex<T>,
    field: impl FnOnce(&mut T) -> &mut Object,
    value: &Bound<'_, PyAny>,
) -> Py<PyAny> {
    field(&mut lock(state))
        .get_or_insert_with(|| value.clone().unbind())
        .clone_ref(value.py())
}

fn missing(name: &'static str) -> PyErr {
    PyAttributeError::new_err(name)
}

/// Takes a request out of its environ: they would keep each other.
pub(super) fn release_from_environ(request: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = request.py();
    let environ = request.getattr(intern!(py, "environ"))?;
    environ.set_item(intern!(py, "werkzeug.request"), py.None())
}

/// The attributes of an app context.
#[derive(Default)]
pub(super) struct AppContextState {
    pub(super) app: Object,
    pub(super) globals: Object,
    pub(super) globals_class: Object,
    pub(super) url_adapter: Object,
    pub(super) tokens: Object,
    /// Where the variable goes back to when the context is popped.
    pub(super) own_token: Object,
}

/// The native half of `flask.ctx.AppContext`.
#[pyclass(frozen, subclass, module = "carboy._carboy")]
#[derive(Default)]
pub(crate) struct AppContextBase {
    state: Mutex<AppContextState>,
}

impl AppContextBase {
    pub(super) fn state(&self) -> MutexGuard<'_, AppContextState> {
        lock(&self.state)
    }

    /// Forgets that the context was pushed, and returns the token of the push.
    pub(super) fn take_token(&self) -> Object {
        let mut state = self.state();
        let tokens = state.tokens.take();
        let token = state.own_token.take();
        drop(state);
        drop(tokens);
        token
    }
}

#[pymethods]
impl AppContextBase {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    #[getter]
    fn app(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let app = self.state().app.as_ref().map(|app| app.clone_ref(py));
        app.ok_or_else(|| missing("app"))
    }

    #[setter]
    fn set_app(&self, app: Py<PyAny>) {
        replace(&self.state, |state| &mut state.app, Some(app));
    }

    #[getter]
    fn g(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let class = {
            let state = self.state();
            if let Some(globals) = &state.globals {
                return Ok(globals.clone_ref(py));
            }
            state
                .globals_class
                .as_ref()
                .map(|class| class.clone_ref(py))
        };
        let globals = class.ok_or_else(|| missing("g"))?.bind(py).call0()?;
        Ok(keep_first(
            &self.state,
            |state| &mut state.globals,
            &globals,
        ))
    }

    #[setter]
    fn set_g(&self, globals: Py<PyAny>) {
        replace(&self.state, |state| &mut state.globals, Some(globals));
    }

    #[getter]
    fn url_adapter(&self, py: Python<'_>) -> Object {
        let state = self.state();
        state
            .url_adapter
            .as_ref()
            .map(|adapter| adapter.clone_ref(py))
    }

    #[setter]
    fn set_url_adapter(&self, adapter: Object) {
        replace(&self.state, |state| &mut state.url_adapter, adapter);
    }

    #[getter(_cv_tokens)]
    fn tokens(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let own_token = {
            let state = self.state();
            if let Some(tokens) = &state.tokens {
                return Ok(tokens.clone_ref(py));
            }
            state.own_token.as_ref().map(|token| token.clone_ref(py))
        };
        let tokens = PyList::new(py, own_token)?.into_any();
        Ok(keep_first(&self.state, |state| &mut state.tokens, &tokens))
    }

    #[setter(_cv_tokens)]
    fn set_tokens(&self, tokens: Py<PyAny>) {
        replace(&self.state, |state| &mut state.tokens, Some(tokens));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Whoever holds the lock runs no Python code, so that it is free during a collection.
        let Ok(state) = self.state.try_lock() else {
            return Ok(());
        };
        visit.call(&state.app)?;
        visit.call(&state.globals)?;
        visit.call(&state.globals_class)?;
        visit.call(&state.url_adapter)?;
        visit.call(&state.tokens)?;
        visit.call(&state.own_token)
    }

    fn __clear__(&self) {
        let state = std::mem::take(&mut *self.state());
        drop(state);
    }
}

/// The attributes of a request context.
#[derive(Default)]
pub(super) struct RequestContextState {
    pub(super) app: Object,
    /// What the request is made of, until it is made.
    pub(super) pending: Option<Arc<PendingRequest>>,
    pub(super) request: Object,
    pub(super) url_adapter: UrlAdapter,
    pub(super) flashes: Object,
    pub(super) session: Object,
    /// The session interface's method when the context was pushed.
    pub(super) open_session: Object,
    pub(super) after_request_functions: Object,
    pub(super) tokens: Object,
    /// Where the variable goes back to when the context is popped.
    pub(super) own_token: Object,
    pub(super) app_context: Option<Py<AppContextBase>>,
}

/// The adapter for building URLs.
#[derive(Default)]
pub(super) enum UrlAdapter {
    /// Not asked for yet.
    #[default]
    Pending,
    Made(Object),
}

/// The native half of `flask.ctx.RequestContext`.
#[pyclass(frozen, subclass, module = "carboy._carboy")]
#[derive(Default)]
pub(crate) struct RequestContextBase {
    state: Mutex<RequestContextState>,
}

impl RequestContextBase {
    pub(super) fn state(&self) -> MutexGuard<'_, RequestContextState> {
        lock(&self.state)
    }

    /// Whether the session was looked at.
    pub(super) fn has_open_session(&self) -> bool {
        self.state().session.is_some()
    }

    /// Whether the view has asked for functions to be called after it.
    pub(super) fn has_after_request_functions(&self, py: Python<'_>) -> PyResult<bool> {
        let functions = {
            let state = self.state();
            let functions = state.after_request_functions.as_ref();
            functions.map(|functions| functions.clone_ref(py))
        };
        functions.map_or(Ok(false), |functions| functions.bind(py).is_truthy())
    }

    /// The request, if somebody has looked at it.
    pub(super) fn made_request<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let state = self.state();
        state
            .request
            .as_ref()
            .map(|request| request.bind(py).clone())
    }

    /// The head of the request, as long as the request was not made of it.
    pub(crate) fn head(&self) -> Option<Arc<RequestHead>> {
        let state = self.state();
        state.pending.as_ref()?.source.head().map(Arc::clone)
    }

    /// The request's environ, which is that of its request object.
    pub(super) fn environ<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let request = self.request(py)?;
        let environ = request.bind(py).getattr(intern!(py, "environ"))?;
        Ok(environ.cast_into::<PyDict>()?)
    }

    /// Forgets that the context was pushed, and returns the token of the push and the app
    /// context that was pushed with it.
    pub(super) fn take_token(&self) -> (Object, Option<Py<AppContextBase>>) {
        let mut state = self.state();
        let tokens = state.tokens.take();
        let taken = (state.own_token.take(), state.app_context.take());
        drop(state);
        drop(tokens);
        taken
    }
}

#[pymethods]
impl RequestContextBase {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    #[getter]
    fn app(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let app = self.state().app.as_ref().map(|app| app.clone_ref(py));
        app.ok_or_else(|| missing("app"))
    }

    #[setter]
    fn set_app(&self, app: Py<PyAny>) {
        replace(&self.state, |state| &mut state.app, Some(app));
    }

    #[getter]
    fn request(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (pending, is_popped) = {
            let state = self.state();
            if let Some(request) = &state.request {
                return Ok(request.clone_ref(py));
            }
            (state.pending.clone(), state.own_token.is_none())
        };
        let pending = pending.ok_or_else(|| missing("request"))?;
        let request = pending.make(py)?;
        if is_popped {
            release_from_environ(&request)?;
        }
        let request = keep_first(&self.state, |state| &mut state.request, &request);
        let made = self.state().pending.take();
        drop((made, pending));
        Ok(request)
    }

    #[setter]
    fn set_request(&self, request: Py<PyAny>) {
        replace(&self.state, |state| &mut state.request, Some(request));
    }

    #[getter]
    fn url_adapter(slf: &Bound<'_, Self>) -> PyResult<Object> {
        let py = slf.py();
        if let UrlAdapter::Made(adapter) = &slf.get().state().url_adapter {
            return Ok(adapter.as_ref().map(|adapter| adapter.clone_ref(py)));
        }
        let adapter = names::create_url_adapter(py)?.call1((slf,))?;
        let adapter: Object = adapter.extract()?;
        slf.get()
            .set_url_adapter(adapter.as_ref().map(|adapter| adapter.clone_ref(py)));
        Ok(adapter)
    }

    #[setter]
    fn set_url_adapter(&self, adapter: Object) {
        let made = UrlAdapter::Made(adapter);
        let old = std::mem::replace(&mut self.state().url_adapter, made);
        drop(old);
    }

    #[getter]
    fn flashes(&self, py: Python<'_>) -> Object {
        let state = self.state();
        state.flashes.as_ref().map(|flashes| flashes.clone_ref(py))
    }

    #[setter]
    fn set_flashes(&self, flashes: Object) {
        replace(&self.state, |state| &mut state.flashes, flashes);
    }

    #[getter(_session)]
    fn session(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let open_session = {
            let state = slf.get().state();
            if let Some(session) = &state.session {
                return Ok(session.clone_ref(py));
            }
            state.open_session.as_ref().map(|open| open.clone_ref(py))
        };
        let session = names::open_session(py)?.call1((slf, open_session))?;
        Ok(keep_first(
            &slf.get().state,
            |state| &mut state.session,
            &session,
        ))
    }

    #[setter(_session)]
    fn set_session(&self, session: Object) {
        replace(&self.state, |state| &mut state.session, session);
    }

    #[getter(_after_request_functions)]
    fn after_request_functions(&self, py: Python<'_>) -> Py<PyAny> {
        if let Some(functions) = &self.state().after_request_functions {
            return functions.clone_ref(py);
        }
        let functions = PyList::empty(py).into_any();
        keep_first(
            &self.state,
            |state| &mut state.after_request_functions,
            &functions,
        )
    }

    #[setter(_after_request_functions)]
    fn set_after_request_functions(&self, functions: Py<PyAny>) {
        replace(
            &self.state,
            |state| &mut state.after_request_functions,
            Some(functions),
        );
    }

    #[getter(_cv_tokens)]
    fn tokens(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let own = {
            let state = self.state();
            if let Some(tokens) = &state.tokens {
                return Ok(tokens.clone_ref(py));
            }
            let token = state.own_token.as_ref().map(|token| token.clone_ref(py));
            let context = state.app_context.as_ref();
            token.map(|token| (token, context.map(|context| context.clone_ref(py))))
        };
        let tokens = PyList::new(py, own)?.into_any();
        Ok(keep_first(&self.state, |state| &mut state.tokens, &tokens))
    }

    #[setter(_cv_tokens)]
    fn set_tokens(&self, tokens: Py<PyAny>) {
        replace(&self.state, |state| &mut state.tokens, Some(tokens));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Whoever holds the lock runs no Python code, so that it is free during a collection.
        let Ok(state) = self.state.try_lock() else {
            return Ok(());
        };
        visit.call(&state.app)?;
        if let Some(pending) = &state.pending {
            pending.traverse(&visit)?;
        }
        visit.call(&state.request)?;
        if let UrlAdapter::Made(adapter) = &state.url_adapter {
            visit.call(adapter)?;
        }
        visit.call(&state.flashes)?;
        visit.call(&state.session)?;
        visit.call(&state.open_session)?;
        visit.call(&state.after_request_functions)?;
        visit.call(&state.tokens)?;
        visit.call(&state.own_token)?;
        visit.call(&state.app_context)
    }

    fn __clear__(&self) {
        let state = std::mem::take(&mut *self.state());
        drop(state);
    }
}
