//! Which proxy a request goes through.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::{Error, ErrorKind};

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Protocol {
    Http,
    /// HTTP inside of TLS.
    Https,
    /// SOCKS 5 (RFC 1928); the names of servers are looked up here.
    Socks5,
    /// SOCKS 5; the proxy looks names up.
    Socks5h,
}

/// A proxy server.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    protocol: Protocol,
    host: String,
    port: u16,
    credentials: Option<(String, String)>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the password.
        write!(
            formatter,
            "Proxy({:?}, {}:{})",
            self.protocol, self.host, self.port
        )
    }
}

impl Proxy {
    /// The proxy of a URL like `http://user:password@proxy:3128` or `socks5h://127.0.0.1:1080`.
    ///
    /// # Errors
    ///
    /// `Proxy` when it can't be parsed or has another scheme.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let failed = |reason: &str| {
            // The URL may hold a password, so it is not repeated.
            Error::new(
                ErrorKind::Proxy,
                format!("the proxy's URL can't be used: {reason}"),
            )
        };
        let url = Url::parse(&with_scheme).map_err(|error| failed(&error.to_string()))?;
        let (protocol, port) = match url.scheme() {
            "http" => (Protocol::Http, 80),
            "https" => (Protocol::Https, 443),
            "socks5" => (Protocol::Socks5, 1080),
            "socks5h" => (Protocol::Socks5h, 1080),
            _ => return Err(failed("its scheme is none of http, https, socks5, socks5h")),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| failed("it has no host"))?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let has_credentials = !url.username().is_empty() || url.password().is_some();
        Ok(Self {
            protocol,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(port),
            credentials: has_credentials.then(|| {
                (
                    decoded(url.username()),
                    decoded(url.password().unwrap_or_default()),
                )
            }),
        })
    }

    pub(crate) fn is_socks(&self) -> bool {
        matches!(self.protocol, Protocol::Socks5 | Protocol::Socks5h)
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.protocol == Protocol::Https
    }

    pub(crate) fn resolves_names(&self) -> bool {
        self.protocol == Protocol::Socks5h
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn credentials(&self) -> Option<&(String, String)> {
        self.credentials.as_ref()
    }

    /// The value of `Proxy-Authorization` (RFC 7617).
    pub(crate) fn authorization(&self) -> Option<String> {
        let (user, password) = self.credentials.as_ref()?;
        let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
        Some(format!("Basic {encoded}"))
    }
}

/// Says for each URL which proxy it goes through.
#[derive(Debug, Default)]
pub struct ProxyRules {
    matcher: Option<Matcher>,
}

impl ProxyRules {
    /// No proxy for anything.
    pub fn none() -> Self {
        Self::default()
    }

    /// `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case, as curl reads
    /// them.
    pub fn from_environment() -> Self {
        let excepted = ["no_proxy", "NO_PROXY"].map(std::env::var);
        if excepted.iter().flatten().any(|hosts| excepts_all(hosts)) {
            return Self::none();
        }
        Self {
            matcher: Some(Matcher::from_env()),
        }
    }

    /// One proxy for `http` URLs and one for `https` URLs, and the hosts that need none: a
    /// list with commas of names, which stand for their subdomains too, and of networks.
    ///
    /// # Errors
    ///
    /// `Proxy` when a URL can't be used.
    pub fn new(http: Option<&str>, https: Option<&str>, no_proxy: &str) -> Result<Self, Error> {
        if excepts_all(no_proxy) {
            return Ok(Self::none());
        }
        let mut builder = Matcher::builder();
        if let Some(url) = http {
            Proxy::parse(url)?;
            builder = builder.http(url.to_owned());
        }
        if let Some(url) = https {
            Proxy::parse(url)?;
            builder = builder.https(url.to_owned());
        }
        Ok(Self {
            matcher: Some(builder.no(no_proxy.to_owned()).build()),
        })
    }

    /// The proxy for a URL.
    ///
    /// # Errors
    ///
    /// `Proxy` when the environment names one that can't be used.
    pub(crate) fn find(&self, url: &Url) -> Result<Option<Arc<Proxy>>, Error> {
        let Some(matcher) = &self.matcher else {
            return Ok(None);
        };
        let Ok(uri) = url[..url::Position::AfterPort].parse::<http::Uri>() else {
            return Ok(None);
        };
        let Some(found) = matcher.intercept(&uri) else {
            return Ok(None);
        };
        let mut proxy = Proxy::parse(&found.uri().to_string())?;
        if let Some((user, password)) = found.raw_auth() {
            proxy.credentials = Some((user.to_owned(), password.to_owned()));
        } else if let Some(basic) = found.basic_auth() {
            proxy.credentials = decode_basic(basic.as_bytes());
        }
        Ok(Some(Arc::new(proxy)))
    }
}

/// Whether a list of hosts that need no proxy says so of all of them.
fn excepts_all(hosts: &str) -> bool {
    hosts.split(',').any(|host| host.trim() == "*")
}

fn decode_basic(value: &[u8]) -> Option<(String, String)> {
    let encoded = value.strip_prefix(b"Basic ")?;
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(rules: &ProxyRules, url: &str) -> Option<String> {
        let proxy = rules.find(&Url::parse(url).unwrap()).unwrap();
        proxy.map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn chooses_by_scheme_and_leaves_out_what_needs_none() {
        let rules = ProxyRules::new(
            Some("http://plain:3128"),
            Some("socks5h://secret"),
            "localhost,.internal,10.0.0.0/8",
        )
        .unwrap();
        assert_eq!(
            find(&rules, "http://example.com/x"),
            Some("plain:3128".into())
        );
        assert_eq!(
            find(&rules, "https://example.com/"),
            Some("secret:1080".into())
        );
        assert_eq!(find(&rules, "http://localhost:8000/"), None);
        assert_eq!(find(&rules, "http://a.internal/"), None);
        assert_eq!(find(&rules, "http://10.1.2.3/"), None);
        assert_eq!(find(&ProxyRules::none(), "http://example.com"), None);
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let rules = ProxyRules::new(Some("http://user:p%40ss@plain:3128"), None, "").unwrap();
        let url = Url::parse("http://example.com").unwrap();
        let proxy = rules.find(&url).unwrap().unwrap();
        assert_eq!(
            proxy.credentials(),
            Some(&("user".to_owned(), "p@ss".to_owned()))
        );
        assert_eq!(proxy.authorization().as_deref(), Some("Basic dXNlcjpwQHNz"));
        assert!(!format!("{proxy:?}").contains("p@ss"));
    }

    #[test]
    fn unusable_proxies_are_refused() {
        for url in ["ftp://proxy", "http://", "http://[::1"] {
            assert_eq!(Proxy::parse(url).unwrap_err().kind(), ErrorKind::Proxy);
        }
    }
}
