//! Makes the response of a plain return value without a response object.
//!
//! Only for what `Flask.make_response` would turn into a 200 with two headers, and only
//! where no code of the application gets to see the response object.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyString, PyTuple, PyType};

use crate::ffi::type_version::{assigned_version_tag, version_tag};
use crate::names;
use crate::wsgi::Head;

/// Flask's own response class and JSON provider, as they were installed.
pub(crate) struct ResponseParts {
    response_class: Py<PyType>,
    response_class_tag: u32,
    json_provider_class: Py<PyType>,
    json_provider_class_tag: u32,
}

impl ResponseParts {
    pub(crate) fn new(py: Python<'_>) -> PyResult<Self> {
        let response_class = names::response_class(py)?.cast::<PyType>()?;
        let json_provider_class = names::json_provider_class(py)?.cast::<PyType>()?;
        // Classes that somebody has changed before get none here.
        let are_plain = names::are_plain_response_classes(py)?
            .call0()?
            .is_truthy()?;
        let tag = |class| {
            if are_plain {
                assigned_version_tag(class)
            } else {
                0
            }
        };
        Ok(Self {
            response_class: response_class.clone().unbind(),
            response_class_tag: tag(response_class),
            json_provider_class: json_provider_class.clone().unbind(),
            json_provider_class_tag: tag(json_provider_class),
        })
    }

    /// Whether the app's response class and JSON provider are Flask's own.
    pub(crate) fn are_flasks_own(&self, application: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = application.py();
        let response_class = application.getattr(intern!(py, "response_class"))?;
        let provider = application.getattr(intern!(py, "json"))?;
        Ok(response_class.is(&self.response_class)
            && provider.get_type().is(&self.json_provider_class)
            && self.are_plain(py))
    }

    /// Whether Flask's response class and JSON provider are as they were installed.
    pub(crate) fn are_plain(&self, py: Python<'_>) -> bool {
        self.response_class_tag != 0
            && version_tag(self.response_class.bind(py)) == self.response_class_tag
            && self.json_provider_class_tag != 0
            && version_tag(self.json_provider_class.bind(py)) == self.json_provider_class_tag
    }

    /// Whether Flask makes a response of a view's return value without running any code of
    /// the application: no generator, no callable, no class of its own.
    pub(crate) fn runs_only_flask(value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let body = match value.cast_exact::<PyTuple>() {
            Ok(parts) if !parts.is_empty() => parts.get_item(0)?,
            _ => value.clone(),
        };
        if body.is_exact_instance_of::<PyString>()
            || body.is_exact_instance_of::<PyBytes>()
            || body.is_exact_instance_of::<PyByteArray>()
        {
            return Ok(true);
        }
        if body.is_exact_instance_of::<PyDict>() || body.is_exact_instance_of::<PyList>() {
            return Ok(true);
        }
        names::is_complete_response(value.py())?
            .call1((body,))?
            .is_truthy()
    }

    /// The head and the body of the response, or none if Flask has to make it.
    pub(crate) fn convert(
        &self,
        application: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<Option<(Head, Bytes)>> {
        if !self.are_flasks_own(application)? {
            return Ok(None);
        }
        if let Ok(text) = value.cast_exact::<PyString>() {
            let Ok(text) = text.to_str() else {
                return Ok(None);
            };
            return Ok(Some(html(Bytes::copy_from_slice(text.as_bytes()))));
        }
        if let Ok(content) = value.cast_exact::<PyBytes>() {
            return Ok(Some(html(Bytes::copy_from_slice(content.as_bytes()))));
        }
        if value.is_exact_instance_of::<PyDict>() || value.is_exact_instance_of::<PyList>() {
            return Self::convert_json(application, value);
        }
        Ok(None)
    }

    fn convert_json(
        application: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<Option<(Head, Bytes)>> {
        let py = application.py();
        let provider = application.getattr(intern!(py, "json"))?;
        let Some(encode) = names::json_encoder(py)?
            .call1((application, &provider))?
            .into_option()
        else {
            return Ok(None);
        };
        // What can't be encoded raises; Flask then finds out for itself, and handles it.
        let Ok(text) = encode.call1((value,)) else {
            return Ok(None);
        };
        let text = text.cast_into::<PyString>()?;
        let Ok(text) = text.to_str() else {
            return Ok(None);
        };
        let mut content = Vec::with_capacity(text.len() + 1);
        content.extend_from_slice(text.as_bytes());
        content.push(b'\n');
        Ok(Some(with_type(
            HeaderValue::from_static("application/json"),
            content.into(),
        )))
    }
}

fn html(content: Bytes) -> (Head, Bytes) {
    with_type(
        HeaderValue::from_static("text/html; charset=utf-8"),
        content,
    )
}

fn with_type(content_type: HeaderValue, content: Bytes) -> (Head, Bytes) {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
    (Head::new(StatusCode::OK, headers), content)
}

/// None for Python's `None`.
trait IntoOption<'py> {
    fn into_option(self) -> Option<Bound<'py, PyAny>>;
}

impl<'py> IntoOption<'py> for Bound<'py, PyAny> {
    fn into_option(self) -> Option<Bound<'py, PyAny>> {
        if self.is_none() { None } else { Some(self) }
    }
}
