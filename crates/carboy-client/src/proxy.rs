//! Which proxy a request goes through.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::no_proxy::NoProxy;
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
    http: Option<Setting>,
    https: Option<Setting>,
    no_proxy: NoProxy,
}

/// A proxy, or what is wrong with the one that the environment names.
type Setting = Result<Arc<Proxy>, String>;

impl ProxyRules {
    /// No proxy for anything.
    pub fn none() -> Self {
        Self::default()
    }

    /// `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`. In lower case they come first, and
    /// turn the others off if they are empty, as for Python's own `urllib`.
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        // In a CGI program HTTP_PROXY is a header of the request: https://httpoxy.org.
        if variable("REQUEST_METHOD").is_some() {
            return Self::none();
        }
        let find = |name: &str| {
            let upper = name.to_ascii_uppercase();
            variable(name)
                .map(|value| (name.to_owned(), value))
                .or_else(|| variable(&upper).map(|value| (upper, value)))
                .filter(|(_, value)| !value.trim().is_empty())
        };
        let setting = |name: &str| {
            let (name, value) = find(name).or_else(|| find("all_proxy"))?;
            let proxy = Proxy::parse(value.trim());
            Some(
                proxy
                    .map(Arc::new)
                    .map_err(|error| format!("{name}: {error}")),
            )
        };
        Self {
            http: setting("http_proxy"),
            https: setting("https_proxy"),
            no_proxy: NoProxy::parse(&find("no_proxy").unwrap_or_default().1),
        }
    }

    /// One proxy for `http` URLs and one for `https` URLs, and the hosts that need none: a
    /// list with commas of names, which stand for their subdomains too, and of networks.
    ///
    /// # Errors
    ///
    /// `Proxy` when a URL can't be used.
    pub fn new(http: Option<&str>, https: Option<&str>, no_proxy: &str) -> Result<Self, Error> {
        let setting = |url: Option<&str>| {
            let proxy = url.map(Proxy::parse).transpose()?;
            Ok::<_, Error>(proxy.map(|proxy| Ok(Arc::new(proxy))))
        };
        Ok(Self {
            http: setting(http)?,
            https: setting(https)?,
            no_proxy: NoProxy::parse(no_proxy),
        })
    }

    /// The proxy for a URL.
    ///
    /// # Errors
    ///
    /// `Proxy` when the environment names one that can't be used.
    pub(crate) fn find(&self, url: &Url) -> Result<Option<Arc<Proxy>>, Error> {
        let setting = if url.scheme() == "https" {
            &self.https
        } else {
            &self.http
        };
        match setting {
            Some(setting) if !self.no_proxy.contains(url) => match setting {
                Ok(proxy) => Ok(Some(Arc::clone(proxy))),
                Err(message) => Err(Error::new(ErrorKind::Proxy, message.clone())),
            },
            _ => Ok(None),
        }
    }
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
    fn the_environment_is_read_as_python_reads_it() {
        let rules = |variables: &[(&str, &str)]| {
            ProxyRules::from_variables(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let of_http = |variables: &[(&str, &str)]| find(&rules(variables), "http://a.example/");
        let proxy = Some("plain:80".to_owned());
        assert_eq!(of_http(&[("HTTP_PROXY", "plain")]), proxy);
        assert_eq!(
            of_http(&[("http_proxy", "plain"), ("HTTP_PROXY", "other")]),
            proxy
        );
        assert_eq!(of_http(&[("ALL_PROXY", "http://plain")]), proxy);
        assert_eq!(
            of_http(&[("http_proxy", ""), ("all_proxy", "plain")]),
            proxy
        );
        assert_eq!(
            of_http(&[("http_proxy", ""), ("HTTP_PROXY", "plain")]),
            None
        );
        assert_eq!(of_http(&[("HTTPS_PROXY", "plain")]), None);
        assert_eq!(
            of_http(&[("HTTP_PROXY", "plain"), ("REQUEST_METHOD", "GET")]),
            None
        );
        let but = |list| of_http(&[("HTTP_PROXY", "plain"), ("NO_PROXY", list)]);
        assert_eq!(but("example"), None);
        assert_eq!(but("a.example:81"), proxy);
        for unusable in ["foo://plain", "http://[::1", "socks4://plain"] {
            let error = rules(&[("ALL_PROXY", unusable)])
                .find(&Url::parse("http://a.example/").unwrap())
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Proxy);
            assert!(error.to_string().starts_with("ALL_PROXY: "), "{error}");
        }
    }

    #[test]
    fn unusable_proxies_are_refused() {
        for url in ["ftp://proxy", "http://", "http://[::1"] {
            assert_eq!(Proxy::parse(url).unwrap_err().kind(), ErrorKind::Proxy);
        }
    }
}
