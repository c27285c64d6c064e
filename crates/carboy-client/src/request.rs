//! What a caller wants.

use std::path::PathBuf;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use url::Url;

use crate::authentication::Authentication;
use crate::cookie_jar::CookieJar;
use crate::proxy::Proxy;
use crate::retry::Retries;
use crate::settings::Timeouts;
use crate::upload::RequestBody;

/// A request, and how it is to be made.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The URL, whose user and password are used if there is no authentication.
    pub url: Url,
    /// The path and the query to the letter, instead of those of the URL.
    pub target: Option<PathAndQuery>,
    /// The caller's headers. What is missing is added: `Host`, `User-Agent`, `Accept`,
    /// `Accept-Encoding`, `Content-Length`.
    pub headers: Arc<HeaderMap>,
    /// The content.
    pub body: RequestBody,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// How many redirects are followed; `None` leaves them to the caller.
    pub redirects: Option<usize>,
    /// Who sends it. Kept from other origins when redirected.
    pub authentication: Option<Arc<Authentication>>,
    /// When it is made again.
    pub retries: Arc<Retries>,
    /// Cookies to send and to store.
    pub cookies: Option<Arc<CookieJar>>,
    /// Whether cookies that a redirect sets are sent along by the requests that follow from it,
    /// if there are no others.
    pub keeps_own_cookies: bool,
    /// Which way it takes.
    pub way: Way,
    /// Whether it is another library's: no header is added, content codings are left alone, and
    /// the head of the response is kept as it came.
    pub is_plain: bool,
    /// Whether the content is read later: then `total` is for the head alone.
    pub is_streamed: bool,
}

impl Request {
    /// A request with the defaults.
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            target: None,
            headers: Arc::default(),
            body: RequestBody::Empty,
            timeouts: Timeouts::default(),
            redirects: Some(MOST_REDIRECTS),
            authentication: None,
            retries: Arc::default(),
            cookies: None,
            keeps_own_cookies: false,
            way: Way::Default,
            is_plain: false,
            is_streamed: false,
        }
    }
}

/// How many redirects are followed by default: more than any honest chain has.
pub const MOST_REDIRECTS: usize = 20;

/// Which way a request takes.
#[derive(Clone, Debug, Default)]
pub enum Way {
    /// As the client's proxy rules say.
    #[default]
    Default,
    /// No proxy.
    Direct,
    /// This proxy.
    Proxy(Arc<Proxy>),
    /// A socket of this machine.
    Unix(PathBuf),
}
