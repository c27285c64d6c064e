//! The native half of `carboy.http.Session`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use carboy_client::{
    ClientSettings, Error, ErrorKind, HttpVersions, Identity, PoolLimits, ProxyRules, Request,
    Resolver, ResponseLimits, TlsVersions, Trust, for_display,
};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::arguments::{self, RetryTuple, TimeoutTuple, duration};
use super::authentication::HttpAuthentication;
use super::call::{Call, CallRequest};
use super::cookies::CookieJar;
use super::home::{self, Household};
use super::upload::begin;
use crate::promise::{PendingPromise, Promise, native_loop};

/// A client's settings. Its connections belong to the loops that it is used on.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct HttpClient {
    household: Arc<Household>,
    is_closed: AtomicBool,
}

fn invalid(error: &Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

#[pymethods]
impl HttpClient {
    #[new]
    #[pyo3(signature = (
        *, connections, connections_per_host, idle_timeout, content_bytes, http_versions,
        trust = None, authorities = None, identity = None, proxies = None, idle_connections = None,
        tls_versions = None,
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "Python passes them by name, from its own classes of settings"
    )]
    fn new(
        connections: usize,
        connections_per_host: usize,
        idle_timeout: f64,
        content_bytes: u64,
        http_versions: &str,
        trust: Option<&str>,
        authorities: Option<Vec<u8>>,
        identity: Option<(Vec<u8>, Vec<u8>)>,
        proxies: Option<(Option<String>, Option<String>, String)>,
        idle_connections: Option<usize>,
        tls_versions: Option<&str>,
    ) -> PyResult<Self> {
        let authorities = |name: &str| match &authorities {
            Some(pem) => Trust::from_pem(pem).map_err(|error| invalid(&error)),
            None => Err(PyValueError::new_err(format!("{name} needs certificates"))),
        };
        let trust = match trust {
            None | Some("platform") => Trust::Platform,
            Some("everybody") => Trust::Everybody,
            Some("authorities") => authorities("authorities")?,
            Some("any-name") => match authorities("any-name")? {
                Trust::Authorities(certificates) => Trust::AnyName(certificates),
                other => other,
            },
            Some(other) => {
                let message = format!("whom to trust is unknown: {other:?}");
                return Err(PyValueError::new_err(message));
            }
        };
        let versions = match http_versions {
            "negotiated" => HttpVersions::Negotiated,
            "1.1" => HttpVersions::Http1Only,
            "2" => HttpVersions::Http2Only,
            other => {
                let message = format!("the HTTP version {other:?} is none of negotiated, 1.1, 2");
                return Err(PyValueError::new_err(message));
            }
        };
        let tls_versions = match tls_versions {
            None | Some("1.2 and 1.3") => TlsVersions::Both,
            Some("1.2") => TlsVersions::Tls12Only,
            Some("1.3") => TlsVersions::Tls13Only,
            Some(other) => {
                let message = format!("the TLS versions {other:?} are none of 1.2, 1.3, both");
                return Err(PyValueError::new_err(message));
            }
        };
        let identity = identity
            .map(|(chain, key)| Identity::from_pem(&chain, &key))
            .transpose()
            .map_err(|error| invalid(&error))?;
        let proxies = match proxies {
            None => ProxyRules::from_environment(),
            Some((http, https, no_proxy)) => {
                ProxyRules::new(http.as_deref(), https.as_deref(), &no_proxy)
                    .map_err(|error| invalid(&error))?
            }
        };
        Ok(Self {
            household: Arc::new(Household::new(ClientSettings {
                pool: PoolLimits {
                    connections: connections.max(1),
                    connections_per_host: connections_per_host.max(1),
                    idle_timeout: duration(idle_timeout)?,
                    idle_connections: idle_connections.unwrap_or(usize::MAX),
                    ..PoolLimits::default()
                },
                response: ResponseLimits {
                    content_bytes,
                    ..ResponseLimits::default()
                },
                trust,
                identity,
                versions,
                tls_versions,
                proxies,
                resolver: Resolver::default(),
            })),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Begin a call, and return the promise of its response.
    #[pyo3(signature = (
        request, response_class, method, url, headers, body, timeouts, redirects, authentication,
        retries, cookies, way, is_plain, is_streamed, repeats_stale = true,
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "one call from Python; positions cost less than an object would"
    )]
    fn send(
        &self,
        py: Python<'_>,
        request: Py<PyAny>,
        response_class: Py<PyAny>,
        method: &str,
        url: &str,
        headers: &Bound<'_, PyList>,
        body: Option<&Bound<'_, PyAny>>,
        timeouts: Option<TimeoutTuple>,
        redirects: Option<usize>,
        authentication: Option<&Bound<'_, HttpAuthentication>>,
        retries: Option<RetryTuple>,
        cookies: Option<&Bound<'_, CookieJar>>,
        way: Option<&str>,
        is_plain: bool,
        is_streamed: bool,
        repeats_stale: bool,
    ) -> PyResult<Py<Promise>> {
        // What is wrong with the arguments is raised here, before there is a promise that nobody
        // would see.
        let headers = Arc::new(arguments::header_map(headers)?);
        let timeouts = timeouts.map(arguments::timeouts).transpose()?;
        let retries = arguments::retries(retries, repeats_stale)?;
        let (promise, pending) =
            PendingPromise::new(py, &format!("{method} {}", for_display(url)))?;
        if pending.notes_call() {
            pending.set_call(&request.bind(py).getattr(intern!(py, "call"))?)?;
        }
        let made = Call {
            request: CallRequest::Made(request),
            response_class,
            pending,
        };
        let call = self.check_open().and_then(|()| {
            Ok(Request {
                way: arguments::way(way)?,
                ..Request::new(arguments::method(method)?, arguments::url(url)?)
            })
        });
        let mut call = match call {
            Ok(call) => call,
            Err(error) => {
                made.refuse(py, &error);
                return Ok(promise);
            }
        };
        call.headers = headers;
        call.body = arguments::content(body)?;
        call.redirects = redirects;
        call.is_plain = is_plain;
        call.is_streamed = is_streamed;
        call.authentication = authentication.map(|one| Arc::clone(&one.get().authentication));
        call.cookies = cookies.map(|cookies| Arc::clone(&cookies.get().jar));
        call.keeps_own_cookies = !is_plain;
        if let Some(timeouts) = timeouts {
            call.timeouts = timeouts;
        }
        call.retries = Arc::new(retries);
        made.begin(py, Arc::clone(&self.household), call)?;
        Ok(promise)
    }

    /// Close idle connections, on whichever loop, and refuse further calls.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.household.close(py)
    }

    /// Return the promise of the numbers of connections, idle ones, and waiting calls, on the
    /// loop that is used here.
    fn statistics(&self, py: Python<'_>) -> PyResult<Py<Promise>> {
        let (promise, pending) = PendingPromise::new(py, "the statistics of a pool")?;
        let household = Arc::clone(&self.household);
        begin(&native_loop(py)?, async move {
            let numbers = home::client_here(&household).statistics();
            Python::attach(|py| {
                let numbers = [numbers.connections, numbers.idle, numbers.waiting];
                match PyTuple::new(py, numbers) {
                    Ok(numbers) => pending.fulfil(py, numbers.into_any().unbind()),
                    Err(error) => pending.reject(py, error),
                }
            });
        })?;
        Ok(promise)
    }
}

impl HttpClient {
    /// # Errors
    ///
    /// `Closed` after `close()`.
    pub(super) fn check_open(&self) -> Result<(), Error> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the session was closed"));
        }
        Ok(())
    }

    pub(super) fn household(&self) -> &Arc<Household> {
        &self.household
    }
}
