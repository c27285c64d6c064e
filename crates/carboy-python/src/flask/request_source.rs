//! Where the environ of a request comes from.

use std::sync::Arc;

use bytes::Bytes;
use http::header::COOKIE;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::wsgi::{InputStream, RequestHead, build_environ};

/// What a request is made of.
pub(crate) enum RequestSource {
    /// The environ of a caller in this process.
    Environ(Py<PyDict>),
    /// What a connection has read. Few async views look at it, so the environ is made when
    /// it is asked for.
    Connection(Arc<RequestHead>, Bytes),
    /// The same with a body that may still be arriving, for a worker.
    Arriving(Arc<RequestHead>, Py<InputStream>),
}

impl RequestSource {
    /// The caller's environ, or a new one.
    pub(crate) fn environ<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        match self {
            Self::Environ(environ) => Ok(environ.bind(py).clone()),
            Self::Connection(head, content) => {
                let input = Py::new(py, InputStream::complete(content.clone()).of(head))?;
                build_environ(py, head, &input)
            }
            Self::Arriving(head, input) => build_environ(py, head, input),
        }
    }

    /// The head that a connection has read.
    pub(crate) fn head(&self) -> Option<&Arc<RequestHead>> {
        match self {
            Self::Environ(_) => None,
            Self::Connection(head, _) | Self::Arriving(head, _) => Some(head),
        }
    }

    /// The caller's environ, if there is one.
    pub(super) fn given_environ(&self) -> Option<&Py<PyDict>> {
        match self {
            Self::Environ(environ) => Some(environ),
            Self::Connection(..) | Self::Arriving(..) => None,
        }
    }

    /// Whether the application is mounted below a path.
    pub(super) fn has_script_name(&self, py: Python<'_>) -> PyResult<bool> {
        match self {
            // A server's application is mounted at the root.
            Self::Connection(..) | Self::Arriving(..) => Ok(false),
            Self::Environ(environ) => environ
                .bind(py)
                .get_item(intern!(py, "SCRIPT_NAME"))?
                .map_or(Ok(false), |name| name.is_truthy()),
        }
    }

    /// Whether the name of a cookie occurs in the cookies.
    pub(super) fn may_have_cookie(&self, name: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = name.py();
        match self {
            Self::Connection(head, _) | Self::Arriving(head, _) => {
                if !head.headers.contains_key(COOKIE) {
                    return Ok(false);
                }
                let name = name.cast::<PyString>()?.to_str()?.as_bytes();
                let mut cookies = head.headers.get_all(COOKIE).iter();
                Ok(cookies.any(|cookies| contains(cookies.as_bytes(), name)))
            }
            Self::Environ(environ) => {
                match environ.bind(py).get_item(intern!(py, "HTTP_COOKIE"))? {
                    Some(cookies) => cookies.contains(name),
                    None => Ok(false),
                }
            }
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || haystack.windows(needle.len()).any(|part| part == needle)
}
