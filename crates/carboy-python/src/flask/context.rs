//! Makes Flask's request and contexts for a request on the loop, without the code that
//! only prepares what most views never look at.
//!
//! What is made are instances of the app's own request class and of Flask's own context
//! classes, with the attributes that their constructors set. The URL adapter and the
//! session are made when they are asked for, by `carboy.flask.lazy_context`. Only for
//! Flask 3.1: 3.2 has other contexts, whose own constructors are called.

use pyo3::exceptions::PyKeyError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple, PyType};

use super::Route;
use crate::ffi::instance::new_instance;
use crate::names;

/// The classes and context variables of the installed Flask.
pub(crate) struct ContextParts {
    request_context_class: Py<PyType>,
    app_context_class: Py<PyType>,
    app_variable: Py<PyAny>,
    request_variable: Py<PyAny>,
    headers_class: Py<PyType>,
}

/// The contexts of a request, pushed.
pub(crate) struct PushedContext {
    pub(crate) request_context: Py<PyAny>,
    /// The attributes of the request object, where it keeps its files.
    request_attributes: Py<PyDict>,
    app_token: Py<PyAny>,
    request_token: Py<PyAny>,
}

/// An instance of `class` whose attributes are `attributes`, the dict itself.
fn instance_with<'py>(
    class: &Bound<'py, PyType>,
    attributes: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let instance = new_instance(class)?;
    instance.setattr(intern!(class.py(), "__dict__"), attributes)?;
    Ok(instance)
}

impl PushedContext {
    /// Whether the session was looked at.
    pub(crate) fn has_open_session(&self, py: Python<'_>) -> PyResult<bool> {
        let opened = self
            .request_context
            .bind(py)
            .getattr(intern!(py, "_opened_session"))?;
        Ok(!opened.is_none())
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.request_context)?;
        visit.call(&self.request_attributes)?;
        visit.call(&self.app_token)?;
        visit.call(&self.request_token)
    }
}

fn item<'py>(
    environ: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    environ
        .get_item(key)?
        .ok_or_else(|| PyKeyError::new_err(key.clone().unbind()))
}

/// A path of the environ as text: what `werkzeug._internal._wsgi_decoding_dance` gives.
fn decoded<'py>(path: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    let path = path.cast::<PyString>()?;
    if path.to_str()?.is_ascii() {
        return Ok(path.clone());
    }
    Ok(names::wsgi_decoding_dance(path.py())?
        .call1((path,))?
        .cast_into::<PyString>()?)
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
        environ: &Bound<'_, PyDict>,
    ) -> PyResult<bool> {
        let py = application.py();
        let active = self
            .app_variable
            .bind(py)
            .call_method1(intern!(py, "get"), (py.None(),))?;
        if !active.is_none() {
            return Ok(false);
        }
        let config = application.getattr(intern!(py, "config"))?;
        let config = config.cast::<PyDict>()?;
        if !item(config, intern!(py, "SERVER_NAME"))?.is_none()
            || !item(environ, intern!(py, "SCRIPT_NAME"))?
                .cast::<PyString>()?
                .is_empty()?
        {
            return Ok(false);
        }
        let Some(cookies) = environ.get_item(intern!(py, "HTTP_COOKIE"))? else {
            return Ok(true);
        };
        let session_name = item(config, intern!(py, "SESSION_COOKIE_NAME"))?;
        Ok(!cookies.contains(session_name)?)
    }

    /// Makes the request and the contexts and pushes them.
    pub(crate) fn push(
        &self,
        application: &Bound<'_, PyAny>,
        environ: &Bound<'_, PyDict>,
        route: &Route,
    ) -> PyResult<PushedContext> {
        let py = application.py();
        let (request, request_attributes) = self.new_request(application, environ, route)?;
        let set = intern!(py, "set");

        let attributes = PyDict::new(py);
        attributes.set_item(intern!(py, "app"), application)?;
        attributes.set_item(intern!(py, "url_adapter"), py.None())?;
        let globals = application
            .getattr(intern!(py, "app_ctx_globals_class"))?
            .call0()?;
        attributes.set_item(intern!(py, "g"), globals)?;
        let app_context = instance_with(self.app_context_class.bind(py), &attributes)?;
        let app_token = self
            .app_variable
            .bind(py)
            .call_method1(set, (&app_context,))?;
        let app_tokens = PyList::new(py, [&app_token])?;
        attributes.set_item(intern!(py, "_cv_tokens"), app_tokens)?;

        let attributes = PyDict::new(py);
        attributes.set_item(intern!(py, "app"), application)?;
        attributes.set_item(intern!(py, "request"), request)?;
        attributes.set_item(intern!(py, "flashes"), py.None())?;
        attributes.set_item(intern!(py, "_after_request_functions"), PyList::empty(py))?;
        // As Flask would open it now: the interface may be another when the session is needed.
        let interface = application.getattr(intern!(py, "session_interface"))?;
        let open_session = interface.getattr(intern!(py, "open_session"))?;
        attributes.set_item(intern!(py, "_open_session"), open_session)?;
        let request_context = instance_with(self.request_context_class.bind(py), &attributes)?;
        let request_token = self
            .request_variable
            .bind(py)
            .call_method1(set, (&request_context,))?;
        let request_tokens = PyList::new(py, [PyTuple::new(py, [&request_token, &app_context])?])?;
        attributes.set_item(intern!(py, "_cv_tokens"), request_tokens)?;
        Ok(PushedContext {
            request_context: request_context.unbind(),
            request_attributes: request_attributes.unbind(),
            app_token: app_token.unbind(),
            request_token: request_token.unbind(),
        })
    }

    /// The request and its attributes: what `werkzeug.wrappers.Request.__init__` and Flask's
    /// contexts set.
    fn new_request<'py>(
        &self,
        application: &Bound<'py, PyAny>,
        environ: &Bound<'py, PyDict>,
        route: &Route,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyDict>)> {
        let py = application.py();
        let headers_attributes = PyDict::new(py);
        headers_attributes.set_item(intern!(py, "_list"), PyList::empty(py))?;
        headers_attributes.set_item(intern!(py, "environ"), environ)?;
        let headers = instance_with(self.headers_class.bind(py), &headers_attributes)?;

        let server_name = item(environ, intern!(py, "SERVER_NAME"))?;
        let port = item(environ, intern!(py, "SERVER_PORT"))?;
        let port = port.cast::<PyString>()?.to_str()?.parse::<u16>().ok();
        let query = item(environ, intern!(py, "QUERY_STRING"))?;
        let query = query.cast::<PyString>()?;
        let query = if query.to_str()?.is_ascii() {
            PyBytes::new(py, query.to_str()?.as_bytes()).into_any()
        } else {
            query.call_method1(intern!(py, "encode"), (intern!(py, "latin1"),))?
        };
        let path = item(environ, intern!(py, "PATH_INFO"))?;

        let attributes = PyDict::new(py);
        let method = item(environ, intern!(py, "REQUEST_METHOD"))?;
        attributes.set_item(intern!(py, "method"), method)?;
        let scheme = item(environ, intern!(py, "wsgi.url_scheme"))?;
        attributes.set_item(intern!(py, "scheme"), scheme)?;
        attributes.set_item(intern!(py, "server"), (server_name, port))?;
        attributes.set_item(intern!(py, "root_path"), intern!(py, ""))?;
        attributes.set_item(intern!(py, "path"), decoded(&path)?)?;
        attributes.set_item(intern!(py, "query_string"), query)?;
        attributes.set_item(intern!(py, "headers"), headers)?;
        let peer = environ.get_item(intern!(py, "REMOTE_ADDR"))?;
        attributes.set_item(intern!(py, "remote_addr"), peer)?;
        attributes.set_item(intern!(py, "environ"), environ)?;
        attributes.set_item(intern!(py, "shallow"), false)?;
        let json = application.getattr(intern!(py, "json"))?;
        attributes.set_item(intern!(py, "json_module"), json)?;
        attributes.set_item(intern!(py, "url_rule"), &route.rule)?;
        attributes.set_item(intern!(py, "view_args"), &route.view_args)?;
        let request_class = application.getattr(intern!(py, "request_class"))?;
        let request = instance_with(request_class.cast::<PyType>()?, &attributes)?;
        environ.set_item(intern!(py, "werkzeug.request"), &request)?;
        Ok((request, attributes))
    }

    /// Pops the contexts, where no function and no signal receiver is to be called.
    pub(crate) fn pop(
        &self,
        py: Python<'_>,
        pushed: &PushedContext,
        environ: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let request_context = pushed.request_context.bind(py);
        // Request.close() has something to do only if there are files.
        if pushed
            .request_attributes
            .bind(py)
            .contains(intern!(py, "files"))?
        {
            let request = request_context.getattr(intern!(py, "request"))?;
            request.call_method0(intern!(py, "close"))?;
        }
        let reset = intern!(py, "reset");
        self.request_variable
            .bind(py)
            .call_method1(reset, (&pushed.request_token,))?;
        environ.set_item(intern!(py, "werkzeug.request"), py.None())?;
        self.app_variable
            .bind(py)
            .call_method1(reset, (&pushed.app_token,))?;
        // Without them the context is free as soon as nobody looks at it.
        request_context.setattr(intern!(py, "_cv_tokens"), PyList::empty(py))?;
        Ok(())
    }
}
