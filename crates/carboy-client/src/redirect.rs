//! Where a response sends the request to (RFC 9110 section 15.4), and what it takes along.

use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use url::Url;

use crate::{Error, ErrorKind};

/// Headers that describe content, and go with it.
const OF_CONTENT: [HeaderName; 5] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
];

/// Headers that are meant for one origin only.
const OF_ORIGIN: [HeaderName; 4] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::HOST,
    header::PROXY_AUTHORIZATION,
];

/// Whether the response is a redirect that can be followed.
pub(crate) fn is_redirect(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) && headers.contains_key(header::LOCATION)
}

/// The URL that a redirect leads to. Without a fragment of its own it keeps that of the request
/// (RFC 9110 section 10.2.2).
///
/// # Errors
///
/// `RemoteProtocol` when it can't be parsed.
pub(crate) fn location(current: &Url, headers: &HeaderMap) -> Result<Url, Error> {
    let value = headers
        .get(header::LOCATION)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default();
    let mut next = current.join(&value).map_err(|error| {
        let message = format!("the server redirects to {value:?}, which is no URL");
        Error::caused(ErrorKind::RemoteProtocol, message, error)
    })?;
    if next.fragment().is_none() {
        next.set_fragment(current.fragment());
    }
    Ok(next)
}

/// The method after a redirect. As browsers do, 301 and 302 make a GET of a POST, 303 makes a GET
/// of anything.
pub(crate) fn method_after(status: StatusCode, method: &Method) -> Method {
    let becomes_get = match status.as_u16() {
        301 | 302 => *method == Method::POST,
        303 => *method != Method::HEAD && *method != Method::GET,
        _ => false,
    };
    if becomes_get {
        Method::GET
    } else {
        method.clone()
    }
}

/// Whether a request may show the other URL's server what was meant for the first one's.
/// From `http` to `https` of the same host it may: the same server, more secret.
pub(crate) fn are_same_origin(current: &Url, next: &Url) -> bool {
    let is_upgrade = current.scheme() == "http"
        && next.scheme() == "https"
        && current.port().is_none()
        && next.port().is_none();
    current.host_str() == next.host_str()
        && (is_upgrade
            || (current.scheme() == next.scheme()
                && current.port_or_known_default() == next.port_or_known_default()))
}

/// Removes what describes content that is not sent again.
pub(crate) fn strip_content_headers(headers: &mut HeaderMap) {
    for name in &OF_CONTENT {
        headers.remove(name);
    }
}

/// Removes what was meant for another origin.
pub(crate) fn strip_origin_headers(headers: &mut HeaderMap) {
    for name in &OF_ORIGIN {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn methods_change_as_in_browsers() {
        let after = |status: u16, method: &Method| {
            method_after(StatusCode::from_u16(status).unwrap(), method)
        };
        assert_eq!(after(301, &Method::POST), Method::GET);
        assert_eq!(after(302, &Method::PUT), Method::PUT);
        assert_eq!(after(303, &Method::DELETE), Method::GET);
        assert_eq!(after(303, &Method::HEAD), Method::HEAD);
        assert_eq!(after(307, &Method::POST), Method::POST);
        assert_eq!(after(308, &Method::POST), Method::POST);
    }

    #[test]
    fn secrets_stay_at_their_origin() {
        let same = |a: &str, b: &str| are_same_origin(&url(a), &url(b));
        assert!(same("http://a/x", "http://a:80/y"));
        assert!(same("http://a/", "https://a/"));
        assert!(!same("https://a/", "http://a/"));
        assert!(!same("http://a:8000/", "https://a/"));
        assert!(!same("http://a/", "http://a:8000/"));
        assert!(!same("http://a/", "http://b.a/"));
    }

    #[test]
    fn locations_are_resolved() {
        let to = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, HeaderValue::from_static(value));
            location(&url("http://a/b/c?d#e"), &headers)
        };
        assert_eq!(to("../f").unwrap().as_str(), "http://a/f#e");
        assert_eq!(to("//g/h#i").unwrap().as_str(), "http://g/h#i");
        let error = to("http://[").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RemoteProtocol);
    }
}
