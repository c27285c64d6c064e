//! A request as it goes over the wire.

use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};
use url::Position;

use crate::decoding::ACCEPTED;
use crate::request::Request;
use crate::sending::Upload;
use crate::target::{Route, Target};
use crate::{Error, ErrorKind, for_display};

const USER_AGENT: &str = concat!("carboy/", env!("CARGO_PKG_VERSION"));

/// The message as it goes over the wire.
pub(crate) fn assemble(
    request: &Request,
    target: &Target,
    is_http2: bool,
    upload: Upload,
) -> Result<hyper::Request<Upload>, Error> {
    let url = &request.url;
    let is_absolute = is_http2 || target.takes_absolute_form();
    let start = if is_absolute {
        Position::BeforeScheme
    } else {
        Position::BeforePath
    };
    let unusable = |error: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::InvalidUrl,
            format!(
                "the URL {} can't be requested: {error}",
                for_display(url.as_str())
            ),
        )
    };
    let uri: Uri = match &request.target {
        None => url[start..Position::AfterQuery]
            .parse()
            .map_err(|error: http::uri::InvalidUri| unusable(&error))?,
        Some(exact) if is_absolute => Uri::builder()
            .scheme(url.scheme())
            .authority(&url[Position::BeforeHost..Position::AfterPort])
            .path_and_query(exact.clone())
            .build()
            .map_err(|error| unusable(&error))?,
        Some(exact) => Uri::from(exact.clone()),
    };
    let mut message = hyper::Request::new(upload);
    *message.method_mut() = request.method.clone();
    *message.uri_mut() = uri;
    let mut headers = HeaderMap::clone(&request.headers);
    // hyper writes both to fit the content; that there is none it leaves to others to say.
    let says_none = headers
        .get(header::CONTENT_LENGTH)
        .is_some_and(|it| it == "0");
    let is_empty = message.body().is_empty();
    if !(says_none && is_empty) {
        headers.remove(header::CONTENT_LENGTH);
    }
    headers.remove(header::TRANSFER_ENCODING);
    if is_http2 {
        *message.version_mut() = Version::HTTP_2;
        // RFC 9113 section 8.2.2: these mean nothing there and are errors.
        for name in [header::CONNECTION, header::HOST, header::UPGRADE] {
            headers.remove(name);
        }
        headers.remove("keep-alive");
    } else if !headers.contains_key(header::HOST) {
        let host = &url[Position::BeforeHost..Position::AfterPort];
        let host = HeaderValue::from_str(host).map_err(|error| unusable(&error))?;
        headers.insert(header::HOST, host);
    }
    if !request.is_plain {
        add_defaults(&mut headers);
        if is_empty && may_have_content(&request.method) {
            // RFC 9110 section 8.6; there are servers that refuse it without.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    }
    if !headers.contains_key(header::AUTHORIZATION)
        && let Some(authentication) = &request.authentication
        && let Some(value) = authentication.value(&request.method, url)
    {
        headers.insert(header::AUTHORIZATION, value);
    }
    if let Some(jar) = &request.cookies
        && let Some(cookies) = jar.header(url, headers.get_all(header::COOKIE))
    {
        headers.append(header::COOKIE, cookies);
        join_cookies(&mut headers);
    }
    if let Route::Proxy(proxy) = &target.route
        && target.takes_absolute_form()
        && let Some(value) = proxy.authorization()
        && let Ok(value) = HeaderValue::from_str(&value)
    {
        headers.insert(header::PROXY_AUTHORIZATION, value);
    }
    *message.headers_mut() = headers;
    Ok(message)
}

/// Whether content has a meaning in requests of this method (RFC 9110 section 9.3, RFC 5789).
fn may_have_content(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

fn add_defaults(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::USER_AGENT, USER_AGENT),
        (header::ACCEPT, "*/*"),
        (header::ACCEPT_ENCODING, ACCEPTED),
    ] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
}

/// RFC 6265 section 5.4: there is one `Cookie` header.
fn join_cookies(headers: &mut HeaderMap) {
    let values: Vec<_> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&values.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}
