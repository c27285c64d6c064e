//! Who makes a call, for Python.

use std::sync::Arc;

use carboy_client::Authentication;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Credentials. Digest ones remember what the server has asked last.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct HttpAuthentication {
    pub(super) authentication: Arc<Authentication>,
}

impl HttpAuthentication {
    fn checked(authentication: Option<Authentication>) -> PyResult<Self> {
        match authentication {
            Some(authentication) => Ok(Self {
                authentication: Arc::new(authentication),
            }),
            None => Err(PyValueError::new_err(
                "the credentials have characters that can't be sent in a header",
            )),
        }
    }
}

#[pymethods]
impl HttpAuthentication {
    /// Name and password, sent with each request.
    #[staticmethod]
    fn basic(user: &[u8], password: &[u8]) -> PyResult<Self> {
        Self::checked(Authentication::basic(user, password))
    }

    /// A token, sent with each request.
    #[staticmethod]
    fn bearer(token: &str) -> PyResult<Self> {
        Self::checked(Authentication::bearer(token))
    }

    /// Name and password, of which only digests are sent.
    #[staticmethod]
    fn digest(user: &str, password: &str) -> PyResult<Self> {
        Self::checked(Some(Authentication::digest(user, password)))
    }
}
