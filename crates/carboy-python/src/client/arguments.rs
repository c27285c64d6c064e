//! What Python's arguments mean in Rust.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use carboy_client::{Error, ErrorKind, Proxy, RequestBody, Retries, Timeouts, Way, for_display};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use url::{ParseError, Url};

use super::upload::{Upload, UploadSource};
use crate::promise::{LONGEST_TIMEOUT, checked_timeout};

/// How often to retry, for which statuses, the first wait and the longest one, any method.
pub(super) type RetryTuple = (u32, Vec<u16>, f64, f64, bool);

/// Connect, read, write, pool and total, in seconds.
pub(super) type TimeoutTuple = (
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
);

/// A time, of which more than a century is as good as for ever.
pub(super) fn duration(seconds: f64) -> PyResult<Duration> {
    Ok(checked_timeout(seconds)?.unwrap_or(LONGEST_TIMEOUT))
}

/// A limit. None is no limit, and so is what is longer than anything lasts.
fn limit(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    Ok(seconds.map(checked_timeout).transpose()?.flatten())
}

pub(super) fn timeouts(tuple: TimeoutTuple) -> PyResult<Timeouts> {
    let (connect, read, write, pool, total) = tuple;
    Ok(Timeouts {
        connect: limit(connect)?,
        read: limit(read)?,
        write: limit(write)?,
        pool: limit(pool)?,
        total: limit(total)?,
    })
}

pub(super) fn retries(tuple: Option<RetryTuple>, repeats_stale: bool) -> PyResult<Retries> {
    let retries = match tuple {
        None => Retries::default(),
        Some((attempts, statuses, backoff, longest_wait, any_method)) => Retries {
            attempts,
            statuses,
            backoff: duration(backoff)?,
            longest_wait: duration(longest_wait)?,
            any_method,
            ..Retries::default()
        },
    };
    Ok(Retries {
        repeats_stale,
        ..retries
    })
}

/// # Errors
///
/// `InvalidRequest` when it can't be a method.
pub(super) fn method(text: &str) -> Result<Method, Error> {
    Method::from_bytes(text.as_bytes()).map_err(|_| {
        let message = format!("{text:?} is no method");
        Error::new(ErrorKind::InvalidRequest, message)
    })
}

/// # Errors
///
/// `InvalidUrl` when it can't be parsed.
pub(super) fn url(text: &str) -> Result<Url, Error> {
    if let Some(url) = url_of_known_origin(text) {
        return Ok(url);
    }
    let refused = |reason: &str| {
        let message = format!("the URL {:?} can't be used: {reason}", for_display(text));
        Error::new(ErrorKind::InvalidUrl, message)
    };
    // Browsers take what comes after further slashes for the host.
    let after_scheme = text.split_once("://").map(|(_, rest)| rest);
    if after_scheme.is_some_and(|rest| rest.starts_with(['/', '\\'])) {
        return Err(refused("it has no host"));
    }
    Url::parse(text).map_err(|error| match error {
        ParseError::RelativeUrlWithoutBase if text.trim().is_empty() => refused("it is empty"),
        ParseError::RelativeUrlWithoutBase => {
            refused("it begins with neither http:// nor https://")
        }
        other => refused(&other.to_string()),
    })
}

thread_local! {
    /// Origins that were called, parsed.
    static ORIGINS: RefCell<HashMap<Box<str>, Url>> = RefCell::default();
}

/// Who calls more origins than this has them parsed again.
const MOST_KNOWN_ORIGINS: usize = 256;

/// The URL, if its path can be appended to an origin that was parsed before. Names of hosts take
/// the most time to parse, and are few.
fn url_of_known_origin(text: &str) -> Option<Url> {
    let authority = text.find("://")? + 3;
    let path = authority + text[authority..].find(['/', '\\', '?', '#'])?;
    let (origin, path) = text.split_at(path);
    let is_plain = text.starts_with("http")
        && path.starts_with('/')
        // These would be the beginning of another authority.
        && !path[1..].starts_with(['/', '\\', '\t', '\n', '\r']);
    if !is_plain {
        return None;
    }
    ORIGINS.with_borrow_mut(|origins| {
        if let Some(known) = origins.get(origin) {
            return known.join(path).ok();
        }
        let parsed = Url::parse(origin).ok()?;
        let url = parsed.join(path).ok();
        if origins.len() >= MOST_KNOWN_ORIGINS {
            origins.clear();
        }
        origins.insert(origin.into(), parsed);
        url
    })
}

/// Which way: the session's, none but the direct one, `unix:` and a path, or a proxy's URL.
///
/// # Errors
///
/// `Proxy` when that URL can't be used.
pub(super) fn way(text: Option<&str>) -> Result<Way, Error> {
    Ok(match text {
        None => Way::Default,
        Some("") => Way::Direct,
        Some(text) => match text.strip_prefix("unix:") {
            Some(path) => Way::Unix(path.into()),
            None => Way::Proxy(Arc::new(Proxy::parse(text)?)),
        },
    })
}

/// Headers whose values are not shown.
const SECRET_HEADERS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

pub(super) fn header_map(headers: &Bound<'_, PyList>) -> PyResult<HeaderMap> {
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
        let parsed_value = parsed_value.map_err(|_| {
            if SECRET_HEADERS.contains(&parsed_name.as_str()) {
                let message = format!("[secret] can't be the value of the header {parsed_name}");
                return PyValueError::new_err(message);
            }
            refuse(&value, "the value")
        })?;
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
    if let Ok(source) = body.cast::<UploadSource>() {
        return Ok(source.get().body(body.py()));
    }
    let upload = body.cast::<Upload>()?;
    upload.get().take_body().ok_or_else(|| {
        PyTypeError::new_err("an upload belongs to one request, and this one was sent already")
    })
}
