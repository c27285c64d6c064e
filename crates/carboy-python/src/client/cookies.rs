//! A session's cookies, for Python.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use url::Url;

/// The cookies of a session.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct CookieJar {
    pub(super) jar: Arc<carboy_client::CookieJar>,
}

#[pymethods]
impl CookieJar {
    #[new]
    fn new() -> Self {
        Self {
            jar: Arc::default(),
        }
    }

    /// Put a cookie there for the URL's host.
    fn set(&self, name: &str, value: &str, url: &str) -> PyResult<()> {
        let url = Url::parse(url).map_err(|error| PyValueError::new_err(error.to_string()))?;
        if self.jar.set(name, value, &url) {
            Ok(())
        } else {
            let message = format!("the cookie {name:?} can't be set for {url}");
            Err(PyValueError::new_err(message))
        }
    }

    /// Remove the cookies of this name, and return how many there were.
    fn remove(&self, name: &str) -> usize {
        self.jar.remove(name)
    }

    /// Remove all cookies.
    fn clear(&self) {
        self.jar.clear();
    }

    /// Return the cookies: name, value, domain and path of each.
    fn cookies(&self) -> Vec<(String, String, String, String)> {
        self.jar
            .cookies()
            .into_iter()
            .map(|cookie| (cookie.name, cookie.value, cookie.domain, cookie.path))
            .collect()
    }
}
