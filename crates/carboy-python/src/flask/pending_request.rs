//! The request object, made when somebody asks for it.

use pyo3::exceptions::PyKeyError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyType};

use super::RequestSource;
use crate::ffi::instance::new_instance;
use crate::names;

/// What the request object will be made of: what `RequestContext.__init__` would have used
/// when the request began.
pub(super) struct PendingRequest {
    pub(super) source: RequestSource,
    pub(super) request_class: Py<PyAny>,
    pub(super) headers_class: Py<PyType>,
    pub(super) json: Py<PyAny>,
    pub(super) rule: Py<PyAny>,
    /// None for a rule without a variable part.
    pub(super) view_args: Option<Py<PyDict>>,
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

impl PendingRequest {
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.source.given_environ())?;
        visit.call(&self.request_class)?;
        visit.call(&self.headers_class)?;
        visit.call(&self.json)?;
        visit.call(&self.rule)?;
        visit.call(&self.view_args)
    }

    /// Makes the request and puts it into its environ: what
    /// `werkzeug.wrappers.Request.__init__` and Flask's contexts set.
    pub(super) fn make<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let environ = self.source.environ(py)?;
        let headers_attributes = PyDict::new(py);
        headers_attributes.set_item(intern!(py, "_list"), PyList::empty(py))?;
        headers_attributes.set_item(intern!(py, "environ"), &environ)?;
        let headers = instance_with(self.headers_class.bind(py), &headers_attributes)?;

        let server_name = item(&environ, intern!(py, "SERVER_NAME"))?;
        let port = item(&environ, intern!(py, "SERVER_PORT"))?;
        let port = port.cast::<PyString>()?.to_str()?.parse::<u16>().ok();
        let query = item(&environ, intern!(py, "QUERY_STRING"))?;
        let query = query.cast::<PyString>()?;
        let query = if query.to_str()?.is_ascii() {
            PyBytes::new(py, query.to_str()?.as_bytes()).into_any()
        } else {
            query.call_method1(intern!(py, "encode"), (intern!(py, "latin1"),))?
        };
        let path = item(&environ, intern!(py, "PATH_INFO"))?;
        let view_args = match &self.view_args {
            Some(view_args) => view_args.bind(py).clone(),
            None => PyDict::new(py),
        };

        let attributes = PyDict::new(py);
        let method = item(&environ, intern!(py, "REQUEST_METHOD"))?;
        attributes.set_item(intern!(py, "method"), method)?;
        let scheme = item(&environ, intern!(py, "wsgi.url_scheme"))?;
        attributes.set_item(intern!(py, "scheme"), scheme)?;
        attributes.set_item(intern!(py, "server"), (server_name, port))?;
        attributes.set_item(intern!(py, "root_path"), intern!(py, ""))?;
        attributes.set_item(intern!(py, "path"), decoded(&path)?)?;
        attributes.set_item(intern!(py, "query_string"), query)?;
        attributes.set_item(intern!(py, "headers"), headers)?;
        let peer = environ.get_item(intern!(py, "REMOTE_ADDR"))?;
        attributes.set_item(intern!(py, "remote_addr"), peer)?;
        attributes.set_item(intern!(py, "environ"), &environ)?;
        attributes.set_item(intern!(py, "shallow"), false)?;
        attributes.set_item(intern!(py, "json_module"), &self.json)?;
        attributes.set_item(intern!(py, "url_rule"), &self.rule)?;
        attributes.set_item(intern!(py, "view_args"), view_args)?;
        let request_class = self.request_class.bind(py).cast::<PyType>()?;
        let request = instance_with(request_class, &attributes)?;
        environ.set_item(intern!(py, "werkzeug.request"), &request)?;
        Ok(request)
    }
}
