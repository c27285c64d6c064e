//! The WSGI environ of a request: a real dict, as PEP 3333 and Werkzeug's server make it.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use carboy_server::{Address, Client, ConnectionInfo};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::InputStream;
use crate::cancellation::{CancellationSettings, RequestLife};
use crate::event_loop::NativeEventLoop;
use crate::names;

/// The name of the server. Applications that look for gunicorn before they read a chunked
/// body (httpbin, for one) find what they look for: a body here ends where it ends, too.
const SERVER_SOFTWARE: &str = concat!(
    "gunicorn/23.0.0 (compatible; carboy/",
    env!("CARGO_PKG_VERSION"),
    ")"
);

/// What the environ takes from the server instead of the request.
pub(crate) struct EnvironSettings {
    /// Whether several threads may call the application at once.
    multithread: bool,
    /// When requests are given up.
    pub(crate) cancellation: CancellationSettings,
    /// The loop that serves.
    pub(crate) event_loop: Py<NativeEventLoop>,
    /// The constant part of the last request, which as a rule is that of all.
    constant: Mutex<Option<(Address, bool, Py<PyDict>)>>,
}

impl EnvironSettings {
    pub(crate) fn new(
        multithread: bool,
        cancellation: CancellationSettings,
        event_loop: Py<NativeEventLoop>,
    ) -> Self {
        Self {
            multithread,
            cancellation,
            event_loop,
            constant: Mutex::new(None),
        }
    }

    fn constant_part(&self, py: Python<'_>, head: &RequestHead) -> PyResult<Py<PyDict>> {
        {
            let known = self.constant.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((local, secure, part)) = &*known
                && *local == head.local
                && *secure == head.secure
            {
                return Ok(part.clone_ref(py));
            }
        }
        let part = constant_part(py, head)?;
        let fresh = Some((head.local.clone(), head.secure, part.clone_ref(py)));
        let old = {
            let mut known = self.constant.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *known, fresh)
        };
        drop(old);
        Ok(part)
    }
}

/// The head of a request, apart from its connection's thread.
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// The target as it was sent, where that is no URI.
    raw_target: Option<Bytes>,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) peer: Address,
    pub(crate) local: Address,
    pub(crate) secure: bool,
    pub(crate) settings: Arc<EnvironSettings>,
    /// What may end the request early.
    pub(crate) life: RequestLife,
}

impl RequestHead {
    pub(crate) fn new(
        (method, uri, raw_target, version, headers): (
            Method,
            Uri,
            Option<Bytes>,
            Version,
            HeaderMap,
        ),
        connection: &Rc<ConnectionInfo>,
        client: Client,
        settings: Arc<EnvironSettings>,
    ) -> Self {
        let life = RequestLife::new(client, &method, &headers, &settings.cancellation);
        Self {
            life,
            method,
            uri,
            raw_target,
            version,
            headers,
            peer: connection.peer.clone(),
            local: connection.local.clone(),
            secure: connection.secure,
            settings,
        }
    }

    /// Whether the request has a scope from its beginning, and not only once it needs one: it
    /// has a deadline, or the application wants its client watched.
    pub(crate) fn needs_scope(&self) -> bool {
        let settings = &self.settings.cancellation;
        self.life.time_left().is_some()
            || settings.is_policy_chosen && settings.policy.ends_request(self.life.is_safe())
    }

    /// The path with its percent-escapes decoded.
    pub(crate) fn decoded_path(&self) -> Cow<'_, [u8]> {
        percent_decode(self.uri.path())
    }

    /// The target as it was sent.
    fn target(&self) -> Cow<'_, [u8]> {
        if let Some(raw_target) = &self.raw_target {
            return Cow::Borrowed(raw_target);
        }
        match self.uri.path_and_query() {
            // Except for the form with a scheme and an authority, which is put together.
            Some(target) if self.uri.authority().is_none() => {
                Cow::Borrowed(target.as_str().as_bytes())
            }
            _ => Cow::Owned(self.uri.to_string().into_bytes()),
        }
    }

    /// The query as it was sent.
    fn query(&self) -> &[u8] {
        match &self.raw_target {
            Some(target) => {
                let mut parts = target.splitn(2, |byte| *byte == b'?');
                parts.nth(1).unwrap_or_default()
            }
            None => self.uri.query().unwrap_or_default().as_bytes(),
        }
    }
}

/// Decodes percent-escapes; one that is not two hexadecimal digits stays as it is.
fn percent_decode(path: &str) -> Cow<'_, [u8]> {
    let bytes = path.as_bytes();
    if !bytes.contains(&b'%') {
        return Cow::Borrowed(bytes);
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%'
            && let [high, low, after @ ..] = tail
            && let (Some(high), Some(low)) = (hexadecimal(*high), hexadecimal(*low))
        {
            decoded.push(high << 4 | low);
            rest = after;
        } else {
            decoded.push(*first);
            rest = tail;
        }
    }
    Cow::Owned(decoded)
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// A string with one character per byte, as PEP 3333 asks for.
fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => PyString::new(py, text),
        _ => {
            let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
            PyString::new(py, &text)
        }
    }
}

/// The key of a header: `HTTP_` and the name in capitals, with underscores.
fn header_key<'py>(py: Python<'py>, name: &HeaderName) -> Bound<'py, PyString> {
    let known = match name.as_str() {
        "host" => intern!(py, "HTTP_HOST"),
        "user-agent" => intern!(py, "HTTP_USER_AGENT"),
        "accept" => intern!(py, "HTTP_ACCEPT"),
        "accept-encoding" => intern!(py, "HTTP_ACCEPT_ENCODING"),
        "accept-language" => intern!(py, "HTTP_ACCEPT_LANGUAGE"),
        "connection" => intern!(py, "HTTP_CONNECTION"),
        "cookie" => intern!(py, "HTTP_COOKIE"),
        "authorization" => intern!(py, "HTTP_AUTHORIZATION"),
        "referer" => intern!(py, "HTTP_REFERER"),
        "cache-control" => intern!(py, "HTTP_CACHE_CONTROL"),
        "x-forwarded-for" => intern!(py, "HTTP_X_FORWARDED_FOR"),
        "x-forwarded-proto" => intern!(py, "HTTP_X_FORWARDED_PROTO"),
        "transfer-encoding" => intern!(py, "HTTP_TRANSFER_ENCODING"),
        other => {
            let mut key = String::with_capacity(other.len() + 5);
            key.push_str("HTTP_");
            key.extend(other.chars().map(|character| match character {
                '-' => '_',
                other => other.to_ascii_uppercase(),
            }));
            return PyString::new(py, &key);
        }
    };
    known.clone()
}

/// Whether a header must not reach the application.
///
/// An underscore would make `X_Name` and `X-Name` the same key, so that a client could
/// forge what a proxy sets; `Proxy` would become `HTTP_PROXY`, which libraries take for a
/// setting of the process.
fn is_dangerous(name: &HeaderName) -> bool {
    name.as_str().contains('_') || name.as_str() == "proxy"
}

fn set_headers(environ: &Bound<'_, PyDict>, headers: &HeaderMap) -> PyResult<()> {
    let py = environ.py();
    for name in headers.keys() {
        if name == CONTENT_TYPE {
            if let Some(value) = headers.get(name) {
                environ.set_item(intern!(py, "CONTENT_TYPE"), latin1(py, value.as_bytes()))?;
            }
        } else if name == CONTENT_LENGTH {
            if let Some(value) = headers.get(name) {
                environ.set_item(intern!(py, "CONTENT_LENGTH"), latin1(py, value.as_bytes()))?;
            }
        } else if !is_dangerous(name) {
            let mut values = headers.get_all(name).iter();
            let first = values.next().map_or(&[][..], HeaderValue::as_bytes);
            let key = header_key(py, name);
            match values.next() {
                None => environ.set_item(key, latin1(py, first))?,
                Some(second) => {
                    // RFC 9110 section 5.3; cookies are a list of their own kind (RFC 9113
                    // section 8.2.3).
                    let separator: &[u8] = if name == COOKIE { b"; " } else { b"," };
                    let mut joined = first.to_vec();
                    for value in std::iter::once(second).chain(values) {
                        joined.extend_from_slice(separator);
                        joined.extend_from_slice(value.as_bytes());
                    }
                    environ.set_item(key, latin1(py, &joined))?;
                }
            }
        }
    }
    Ok(())
}

/// The part of the environ that is the same for all requests to one address.
fn constant_part(py: Python<'_>, head: &RequestHead) -> PyResult<Py<PyDict>> {
    let environ = PyDict::new(py);
    environ.set_item(intern!(py, "SCRIPT_NAME"), intern!(py, ""))?;
    environ.set_item(intern!(py, "SERVER_SOFTWARE"), SERVER_SOFTWARE)?;
    match &head.local {
        Address::Tcp(address) => {
            environ.set_item(intern!(py, "SERVER_NAME"), address.ip().to_string())?;
            environ.set_item(intern!(py, "SERVER_PORT"), address.port().to_string())?;
        }
        // As gunicorn has it for a Unix socket: the name is the path, the port is empty.
        Address::Unix(path) => {
            let name = path
                .as_ref()
                .map_or(Cow::Borrowed("unix"), |path| path.to_string_lossy());
            environ.set_item(intern!(py, "SERVER_NAME"), name)?;
            environ.set_item(intern!(py, "SERVER_PORT"), "")?;
        }
    }
    let scheme = if head.secure {
        intern!(py, "https")
    } else {
        intern!(py, "http")
    };
    environ.set_item(intern!(py, "wsgi.version"), names::wsgi_version(py))?;
    environ.set_item(intern!(py, "wsgi.url_scheme"), scheme)?;
    environ.set_item(intern!(py, "wsgi.input_terminated"), true)?;
    environ.set_item(intern!(py, "wsgi.multithread"), head.settings.multithread)?;
    environ.set_item(intern!(py, "wsgi.multiprocess"), false)?;
    environ.set_item(intern!(py, "wsgi.run_once"), false)?;
    environ.set_item(intern!(py, "wsgi.file_wrapper"), names::file_wrapper(py)?)?;
    Ok(environ.unbind())
}

fn set_peer(environ: &Bound<'_, PyDict>, peer: &Address) -> PyResult<()> {
    let py = environ.py();
    match peer {
        Address::Tcp(address) => {
            environ.set_item(intern!(py, "REMOTE_ADDR"), ip_text(py, address.ip()))?;
            environ.set_item(intern!(py, "REMOTE_PORT"), address.port().to_string())
        }
        Address::Unix(_) => environ.set_item(intern!(py, "REMOTE_ADDR"), ""),
    }
}

/// An address as text. The loopback address is that of every reverse proxy on the machine.
fn ip_text(py: Python<'_>, address: IpAddr) -> Bound<'_, PyString> {
    if address == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        intern!(py, "127.0.0.1").clone()
    } else {
        PyString::new(py, &address.to_string())
    }
}

/// Makes the environ of a request.
pub(crate) fn build_environ<'py>(
    py: Python<'py>,
    head: &RequestHead,
    input: &Py<InputStream>,
) -> PyResult<Bound<'py, PyDict>> {
    let environ = head.settings.constant_part(py, head)?.bind(py).copy()?;
    let method = match head.method.as_str() {
        "GET" => intern!(py, "GET").clone(),
        "POST" => intern!(py, "POST").clone(),
        other => PyString::new(py, other),
    };
    environ.set_item(intern!(py, "REQUEST_METHOD"), method)?;
    let path = latin1(py, &head.decoded_path());
    let query = head.query();
    let target = head.target();
    // The usual request has nothing encoded in its path and no query.
    let target = if path.to_str().is_ok_and(|path| path.as_bytes() == &*target) {
        path.clone()
    } else {
        latin1(py, &target)
    };
    environ.set_item(intern!(py, "PATH_INFO"), path)?;
    let query = if query.is_empty() {
        intern!(py, "").clone()
    } else {
        latin1(py, query)
    };
    environ.set_item(intern!(py, "QUERY_STRING"), query)?;
    environ.set_item(intern!(py, "RAW_URI"), &target)?;
    environ.set_item(intern!(py, "REQUEST_URI"), &target)?;
    let protocol = match head.version {
        Version::HTTP_10 => intern!(py, "HTTP/1.0"),
        Version::HTTP_2 => intern!(py, "HTTP/2"),
        _ => intern!(py, "HTTP/1.1"),
    };
    environ.set_item(intern!(py, "SERVER_PROTOCOL"), protocol)?;
    set_peer(&environ, &head.peer)?;
    set_headers(&environ, &head.headers)?;
    // RFC 9112 section 3.2.2: a target with an authority overrides the Host header.
    if let Some(authority) = head.uri.authority() {
        let host = authority.host();
        let host = match authority.port_u16() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        environ.set_item(intern!(py, "HTTP_HOST"), host)?;
    }
    environ.set_item(intern!(py, "wsgi.input"), input)?;
    environ.set_item(intern!(py, "wsgi.errors"), names::standard_error(py)?)?;
    Ok(environ)
}
