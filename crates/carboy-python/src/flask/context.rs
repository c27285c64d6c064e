//! Pushes and pops Flask's contexts for a request on whose way only the view is not Flask's,
//! without the code that only prepares what most views never look at.
//!
//! What is pushed are instances of Flask's own context classes, with the attributes that
//! their constructors set; see `lazy_context` for how each comes about. Only for Flask 3.1:
//! 3.2 has other contexts, whose own constructors are called.

use std::sync::Arc;

use pyo3::PyClass;
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use super::lazy_context::{AppContextBase, RequestContextBase, release_from_environ};
use super::pending_request::PendingRequest;
use super::{RequestSource, Route};
use crate::ffi::context::{get_variable, reset_variable, set_variable};
use crate::ffi::instance::new_native_instance;
use crate::names;

/// The classes and context variables of the installed Flask.
pub(crate) struct ContextParts {
    request_context_class: Py<PyType>,
    app_context_class: Py<PyType>,
    app_variable: Py<PyAny>,
    request_variable: Py<PyAny>,
    headers_class: Py<PyType>,
}

fn new_context<'py, T: PyClass>(
    class: &Py<PyType>,
    py: Python<'py>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, T>)> {
    let context = new_native_instance(class.bind(py))?;
    let native = context.cast::<T>().map_err(|_| {
        PyTypeError::new_err("a context class does not inherit the native half it was made with")
    })?;
    Ok((context.clone(), native.clone()))
}

impl ContextParts {
    /// The parts of the installed Flask, or none if it is not as known.
    pub(crate) fn new(py: Python<'_>) -> PyResult<Option<Self>> {
        let parts = names::context_parts(py)?.call0()?;
        if parts.is_none() {
            return Ok(None);
        }
        let (
            request_context_class,
            app_context_class,
            app_variable,
            request_variable,
            headers_class,
        ) = parts.extract()?;
        Ok(Some(Self {
            request_context_class,
            app_context_class,
            app_variable,
            request_variable,
            headers_class,
        }))
    }

    /// Whether this request's contexts can be made here: no app context is active that
    /// Flask 3.1 would use again, none has an own URL adapter, and there is no session that
    /// has to be refreshed even if nobody looks at it.
    pub(crate) fn applies_to(
        &self,
        application: &Bound<'_, PyAny>,
        source: &RequestSource,
    ) -> PyResult<bool> {
        let py = application.py();
        if get_variable(self.app_variable.bind(py))?.is_some() {
            return Ok(false);
        }
        let config = application.getattr(intern!(py, "config"))?;
        let config = config.cast::<PyDict>()?;
        let setting = |name| {
            let value = config.get_item(name)?;
            value.ok_or_else(|| PyKeyError::new_err("a setting of Flask's own is missing"))
        };
        if !setting(intern!(py, "SERVER_NAME"))?.is_none() || source.has_script_name(py)? {
            return Ok(false);
        }
        Ok(!source.may_have_cookie(&setting(intern!(py, "SESSION_COOKIE_NAME"))?)?)
    }

    /// Makes the contexts of a request and pushes them.
    pub(crate) fn push(
        &self,
        application: &Bound<'_, PyAny>,
        source: RequestSource,
        route: &Route,
    ) -> PyResult<Py<RequestContextBase>> {
        let py = application.py();
        let (app_context, native_app_context) =
            new_context::<AppContextBase>(&self.app_context_class, py)?;
        let globals_class = application.getattr(intern!(py, "app_ctx_globals_class"))?;
        let app_token = set_variable(self.app_variable.bind(py), &app_context)?;
        {
            let mut state = native_app_context.get().state();
            state.app = Some(application.clone().unbind());
            state.globals_class = Some(globals_class.unbind());
            state.own_token = Some(app_token.unbind());
        }

        let (request_context, native_request_context) =
            new_context::<RequestContextBase>(&self.request_context_class, py)?;
        let pending = Arc::new(PendingRequest {
            source,
            request_class: application.getattr(intern!(py, "request_class"))?.unbind(),
            headers_class: self.headers_class.clone_ref(py),
            json: application.getattr(intern!(py, "json"))?.unbind(),
            rule: route.rule.clone_ref(py),
            view_args: route
                .view_args
                .as_ref()
                .map(|arguments| arguments.clone_ref(py)),
        });
        // As Flask would open it now: the interface may be another when the session is needed.
        let interface = application.getattr(intern!(py, "session_interface"))?;
        let open_session = interface.getattr(intern!(py, "open_session"))?;
        let request_token = set_variable(self.request_variable.bind(py), &request_context)?;
        {
            let mut state = native_request_context.get().state();
            state.app = Some(application.clone().unbind());
            state.pending = Some(pending);
            state.open_session = Some(open_session.unbind());
            state.own_token = Some(request_token.unbind());
            state.app_context = Some(native_app_context.unbind());
        }
        Ok(native_request_context.unbind())
    }

    /// Pops the contexts, where no function and no signal receiver is to be called.
    pub(crate) fn pop(&self, py: Python<'_>, context: &RequestContextBase) -> PyResult<()> {
        let request = context.made_request(py);
        if let Some(request) = &request {
            let attributes = request.getattr(intern!(py, "__dict__"))?;
            // Request.close() has something to do only if there are files.
            if attributes.contains(intern!(py, "files"))? {
                request.call_method0(intern!(py, "close"))?;
            }
        }
        let (request_token, app_context) = context.take_token();
        if let Some(token) = request_token {
            reset_variable(self.request_variable.bind(py), token.bind(py))?;
        }
        if let Some(request) = &request {
            release_from_environ(request)?;
        }
        if let Some(token) = app_context.and_then(|context| context.get().take_token()) {
            reset_variable(self.app_variable.bind(py), token.bind(py))?;
        }
        Ok(())
    }
}
