//! The native half of `carboy.http.Session`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use carboy_client::{
    Client, ClientSettings, Error, ErrorKind, HttpVersions, Identity, PoolLimits, Proxy,
    ProxyRules, Request, RequestBody, ResponseLimits, Retries, Timeouts, Trust, Way,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use tokio::sync::oneshot;
use url::Url;

use super::authentication::HttpAuthentication;
use super::content::ContentStream;
use super::cookies::CookieJar;
use super::error::exception;
use super::home;
use super::response::ResponseData;
use super::upload::{Upload, begin};
use crate::ffi::thread_state;
use crate::promise::{PendingPromise, Promise, native_loop};
use crate::runtime;
use crate::worker::post_to_loop;

/// A client's settings. Its connections belong to the loops that it is used on.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct HttpClient {
    settings: Arc<ClientSettings>,
    is_closed: AtomicBool,
}

/// How often to retry, for which statuses, the first wait and the longest one, any method.
type RetryTuple = (u32, Vec<u16>, f64, f64, bool);

/// Connect, read, write, pool and total, in seconds.
type TimeoutTuple = (
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
);

pub(super) fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{seconds} is not a time to wait, in seconds")))
}

fn invalid(error: &Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

#[pymethods]
impl HttpClient {
    #[new]
    #[pyo3(signature = (
        *, connections, connections_per_host, idle_timeout, content_bytes, http_versions,
        trust = None, authorities = None, identity = None, proxies = None,
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
            settings: Arc::new(ClientSettings {
                pool: PoolLimits {
                    connections: connections.max(1),
                    connections_per_host: connections_per_host.max(1),
                    idle_timeout: duration(idle_timeout)?,
                    ..PoolLimits::default()
                },
                response: ResponseLimits {
                    content_bytes,
                    ..ResponseLimits::default()
                },
                trust,
                identity,
                versions,
                proxies,
            }),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Begin a call, and return the promise of its response.
    #[pyo3(signature = (
        request, response_class, method, url, headers, body, timeouts, redirects, authentication,
        retries, cookies, way, is_plain, is_streamed,
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
    ) -> PyResult<Py<Promise>> {
        let label = format!("{method} {url}");
        let (promise, pending) = PendingPromise::new(py, &label)?;
        let mut call = match Self::prepare(method, url, way) {
            Ok(call) => call,
            Err(error) => {
                pending.reject(py, exception(py, &error, &request));
                return Ok(promise);
            }
        };
        if self.is_closed.load(Ordering::Acquire) {
            let error = Error::new(ErrorKind::Closed, "the session was closed");
            pending.reject(py, exception(py, &error, &request));
            return Ok(promise);
        }
        call.headers = header_map(headers)?;
        call.body = content(body)?;
        call.redirects = redirects;
        call.is_plain = is_plain;
        call.is_streamed = is_streamed;
        call.authentication = authentication.map(|one| Arc::clone(&one.get().authentication));
        call.cookies = cookies.map(|cookies| Arc::clone(&cookies.get().jar));
        if let Some((connect, read, write, pool, total)) = timeouts {
            call.timeouts = Timeouts {
                connect: connect.map(duration).transpose()?,
                read: read.map(duration).transpose()?,
                write: write.map(duration).transpose()?,
                pool: pool.map(duration).transpose()?,
                total: total.map(duration).transpose()?,
            };
        }
        if let Some((attempts, statuses, backoff, longest_wait, any_method)) = retries {
            call.retries = Retries {
                attempts,
                statuses,
                backoff: duration(backoff)?,
                longest_wait: duration(longest_wait)?,
                any_method,
            };
        }
        let (cancel, cancelled) = oneshot::channel();
        pending.on_cancel(move || {
            // A call that has ended has nothing to cancel.
            cancel.send(()).ok();
        });
        let settings = Arc::clone(&self.settings);
        let made = Call {
            request,
            response_class,
            pending,
        };
        let event_loop = native_loop(py)?;
        if thread_state::is_driving() {
            runtime::spawn(run(settings, call, cancelled, made));
        } else {
            let begin = move |_: Python<'_>| runtime::spawn(run(settings, call, cancelled, made));
            post_to_loop(&event_loop, Box::new(begin))?;
        }
        Ok(promise)
    }

    /// Close idle connections of the loop that is used here, and refuse further calls.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let settings = Arc::clone(&self.settings);
        begin(
            &native_loop(py)?,
            async move { home::close_here(&settings) },
        )
    }

    /// Return the promise of the numbers of connections, idle ones, and waiting calls, on the
    /// loop that is used here.
    fn statistics(&self, py: Python<'_>) -> PyResult<Py<Promise>> {
        let (promise, pending) = PendingPromise::new(py, "the statistics of a pool")?;
        let settings = Arc::clone(&self.settings);
        begin(&native_loop(py)?, async move {
            let numbers = home::client_here(&settings).statistics();
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
    pub(super) fn settings(&self) -> &Arc<ClientSettings> {
        &self.settings
    }

    fn prepare(method: &str, url: &str, way: Option<&str>) -> Result<Request, Error> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| {
            let message = format!("{method:?} is no method");
            Error::new(ErrorKind::InvalidRequest, message)
        })?;
        let url = Url::parse(url).map_err(|error| {
            let message = format!("the URL {url:?} can't be used: {error}");
            Error::new(ErrorKind::InvalidUrl, message)
        })?;
        let way = match way {
            None => Way::Default,
            Some("") => Way::Direct,
            Some(text) => match text.strip_prefix("unix:") {
                Some(path) => Way::Unix(path.into()),
                None => Way::Proxy(Arc::new(Proxy::parse(text)?)),
            },
        };
        Ok(Request {
            way,
            ..Request::new(method, url)
        })
    }
}

fn header_map(headers: &Bound<'_, PyList>) -> PyResult<HeaderMap> {
    let mut map = HeaderMap::with_capacity(headers.len() + 6);
    for pair in headers.iter() {
        let pair = pair.cast::<PyTuple>()?;
        let (name, value) = (pair.get_item(0)?, pair.get_item(1)?);
        let refuse = |part: &Bound<'_, PyAny>, what: &str| {
            PyValueError::new_err(format!("{part:?} can't be {what} of a header"))
        };
        let parsed_name = with_bytes(&name, HeaderName::from_bytes)?;
        let parsed_name = parsed_name.map_err(|_| refuse(&name, "the name"))?;
        let parsed_value = with_bytes(&value, HeaderValue::from_bytes)?;
        let parsed_value = parsed_value.map_err(|_| refuse(&value, "the value"))?;
        map.append(parsed_name, parsed_value);
    }
    Ok(map)
}

/// Text as UTF-8, or bytes as they are.
fn with_bytes<T>(part: &Bound<'_, PyAny>, function: impl FnOnce(&[u8]) -> T) -> PyResult<T> {
    if let Ok(text) = part.cast::<PyString>() {
        Ok(function(text.to_str()?.as_bytes()))
    } else {
        Ok(function(part.cast::<PyBytes>()?.as_bytes()))
    }
}

pub(super) fn content(body: Option<&Bound<'_, PyAny>>) -> PyResult<RequestBody> {
    let Some(body) = body else {
        return Ok(RequestBody::Empty);
    };
    if let Ok(bytes) = body.cast::<PyBytes>() {
        return Ok(RequestBody::Full(bytes.as_bytes().to_vec().into()));
    }
    let upload = body.cast::<Upload>()?;
    upload.get().take_body().ok_or_else(|| {
        PyTypeError::new_err("an upload belongs to one request, and this one was sent already")
    })
}

/// A call, for Python.
struct Call {
    request: Py<PyAny>,
    response_class: Py<PyAny>,
    pending: PendingPromise,
}

/// Makes a call, unless it is cancelled, and settles its promise.
async fn run(
    settings: Arc<ClientSettings>,
    request: Request,
    cancelled: oneshot::Receiver<()>,
    call: Call,
) {
    let client = home::client_here(&settings);
    let limit = settings.response.content_bytes;
    let is_streamed = request.is_streamed;
    tokio::select! {
        biased;
        Ok(()) = cancelled => {}
        outcome = make(client, request, limit, is_streamed) => {
            Python::attach(|py| call.settle(py, outcome));
        }
    }
}

/// What a call has brought: a response, with its content unless that is streamed.
type Made = (carboy_client::Response, Option<bytes::Bytes>);

async fn make(
    client: Client,
    request: Request,
    limit: u64,
    is_streamed: bool,
) -> Result<Made, Error> {
    let mut response = client.send(request).await?;
    if is_streamed {
        return Ok((response, None));
    }
    let content = response.body.collect(limit).await?;
    Ok((response, Some(content)))
}

impl Call {
    fn settle(self, py: Python<'_>, outcome: Result<Made, Error>) {
        let Self {
            request,
            response_class,
            pending,
        } = self;
        let made = match outcome {
            Ok(made) => Self::response(py, request, &response_class, made),
            Err(error) => Err(exception(py, &error, &request)),
        };
        match made {
            Ok(response) => pending.fulfil(py, response),
            Err(error) => pending.reject(py, error),
        }
    }

    fn response(
        py: Python<'_>,
        request: Py<PyAny>,
        response_class: &Py<PyAny>,
        (response, content): Made,
    ) -> PyResult<Py<PyAny>> {
        let timings = response.body.timings();
        let stream = match content {
            Some(_) => None,
            None => {
                let (stream, reader) = ContentStream::new(response.body, request.clone_ref(py));
                runtime::spawn(reader);
                Some(Py::new(py, stream)?)
            }
        };
        let (head, history) = (response.head, response.history);
        let data = ResponseData::new(py, head, history, content, stream, timings)?;
        response_class.call1(py, (request, data))
    }
}
