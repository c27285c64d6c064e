//! What all calls of a session have in common, made ready once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use carboy_client::{Authentication, Request, RequestBody, Retries, Timeouts, Way, for_display};
use http::HeaderMap;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use super::arguments::{self, RetryTuple, TimeoutTuple};
use super::authentication::HttpAuthentication;
use super::call::{Call, CallRequest, TemplateRequest};
use super::cookies::CookieJar;
use super::native_client::HttpClient;
use crate::ffi::context::get_variable;
use crate::flask::is_debugging;
use crate::names;
use crate::promise::{PendingPromise, Promise};

/// For how long it is taken for granted that the user has no `.netrc`.
const TRUSTED_TIME: Duration = Duration::from_secs(1);

/// What all calls of a session have in common: a call that says nothing but a method and a URL
/// needs no other Python code. A session makes a new one when one of its settings has changed.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct CallTemplate {
    client: Py<HttpClient>,
    base_url: String,
    headers: Arc<HeaderMap>,
    pairs: Py<PyList>,
    timeouts: Timeouts,
    redirects: Option<usize>,
    authentication: Option<Arc<Authentication>>,
    retries: Arc<Retries>,
    cookies: Option<Arc<carboy_client::CookieJar>>,
    way: Way,
    request_class: Py<PyAny>,
    response_class: Py<PyAny>,
    made: Instant,
}

#[pymethods]
impl CallTemplate {
    #[new]
    #[pyo3(signature = (
        *, client, base_url, headers, timeouts, redirects, authentication, retries,
        repeats_stale, cookies, way, request_class, response_class,
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "Python passes them by name, from its own classes of settings"
    )]
    fn new(
        client: Py<HttpClient>,
        base_url: String,
        headers: Bound<'_, PyList>,
        timeouts: TimeoutTuple,
        redirects: Option<usize>,
        authentication: Option<&Bound<'_, HttpAuthentication>>,
        retries: Option<RetryTuple>,
        repeats_stale: bool,
        cookies: Option<&Bound<'_, CookieJar>>,
        way: Option<&str>,
        request_class: Py<PyAny>,
        response_class: Py<PyAny>,
    ) -> PyResult<Self> {
        let way = arguments::way(way)
            .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
        Ok(Self {
            client,
            base_url,
            headers: Arc::new(arguments::header_map(&headers)?),
            pairs: headers.unbind(),
            timeouts: arguments::timeouts(timeouts)?,
            redirects,
            authentication: authentication.map(|one| Arc::clone(&one.get().authentication)),
            retries: Arc::new(arguments::retries(retries, repeats_stale)?),
            cookies: cookies.map(|cookies| Arc::clone(&cookies.get().jar)),
            way,
            request_class,
            response_class,
            made: Instant::now(),
        })
    }

    /// Begin a call, and return the promise of its response; or ``None`` if this call needs more
    /// than that: the template is old, calls are to be noted, or the URL is no text.
    pub(super) fn begin(
        slf: &Bound<'_, Self>,
        method: &Bound<'_, PyString>,
        url: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Py<Promise>>> {
        let py = slf.py();
        let this = slf.get();
        if this.made.elapsed() > TRUSTED_TIME || is_debugging(py)? || has_deadline(py)? {
            return Ok(None);
        }
        let Ok(url) = url.cast_exact::<PyString>() else {
            return Ok(None);
        };
        let url = this.absolute(url)?;
        let (method_text, url_text) = (method.to_str()?, url.to_str()?);
        let label = [method_text, " ", &for_display(url_text)].concat();
        let (promise, pending) = PendingPromise::new(py, &label)?;
        let call = Call {
            request: CallRequest::OfTemplate(TemplateRequest {
                template: slf.clone().unbind(),
                method: method.clone().unbind(),
                url: url.clone().unbind(),
            }),
            response_class: this.response_class.clone_ref(py),
            pending,
        };
        let client = this.client.get();
        let parsed = client.check_open().and_then(|()| {
            let method = arguments::method(method_text)?;
            Ok((method, arguments::url(url_text)?))
        });
        match parsed {
            Ok((method, url)) => {
                let request = this.request(method, url);
                call.begin(py, Arc::clone(client.household()), request)?;
            }
            Err(error) => call.refuse(py, &error),
        }
        Ok(Some(promise))
    }
}

/// Whether services may have to be told how long they have.
fn has_deadline(py: Python<'_>) -> PyResult<bool> {
    let at = get_variable(names::deadline_at(py)?)?;
    Ok(at.is_some_and(|at| !at.is_none()))
}

impl CallTemplate {
    /// A URL, appended to the base if there is one and it is not a whole one itself.
    fn absolute<'py>(&self, url: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyString>> {
        if self.base_url.is_empty() {
            return Ok(url.clone());
        }
        let text = url.to_str()?;
        let before_query = text.split_once('?').map_or(text, |(before, _)| before);
        if before_query.contains("://") {
            return Ok(url.clone());
        }
        let py = url.py();
        if text.is_empty() {
            return Ok(PyString::new(py, &self.base_url));
        }
        let base = self.base_url.trim_end_matches('/');
        let path = text.trim_start_matches('/');
        Ok(PyString::new(py, &[base, "/", path].concat()))
    }

    fn request(&self, method: http::Method, url: url::Url) -> Request {
        Request {
            method,
            url,
            target: None,
            headers: Arc::clone(&self.headers),
            body: RequestBody::Empty,
            timeouts: self.timeouts,
            redirects: self.redirects,
            authentication: self.authentication.clone(),
            retries: Arc::clone(&self.retries),
            cookies: self.cookies.clone(),
            keeps_own_cookies: true,
            way: self.way.clone(),
            is_plain: false,
            is_streamed: false,
        }
    }

    /// The request as Python knows it.
    pub(super) fn make_request(
        &self,
        py: Python<'_>,
        method: &Py<PyString>,
        url: &Py<PyString>,
    ) -> PyResult<Py<PyAny>> {
        let pairs = self.pairs.bind(py);
        let pairs = pairs.get_slice(0, pairs.len());
        self.request_class.call1(py, (method, url, pairs))
    }
}
