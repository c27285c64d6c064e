//! Whereto a connection leads: what connections are pooled by.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use url::{Host, Url};

use crate::proxy::Proxy;
use crate::{Error, ErrorKind, for_display};

/// A server, and the way to it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The hash of what follows: each call looks several times for what its target has.
    hash: u64,
    pub(crate) is_tls: bool,
    /// A name in ASCII, or an address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) route: Route,
}

/// The way to a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    Direct,
    /// A socket of this machine, whatever the URL's host.
    Unix(PathBuf),
    Proxy(Arc<Proxy>),
}

impl Hash for Target {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Target {
    /// Where a URL leads.
    ///
    /// # Errors
    ///
    /// `UnsupportedProtocol` and `InvalidUrl`.
    pub(crate) fn of(url: &Url, route: Route) -> Result<Self, Error> {
        let is_tls = is_tls(url)?;
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => {
                return Err(Error::new(
                    ErrorKind::InvalidUrl,
                    format!("the URL {} has no host", for_display(url.as_str())),
                ));
            }
        };
        let port = url.port().unwrap_or(if is_tls { 443 } else { 80 });
        let mut hasher = DefaultHasher::new();
        (is_tls, &host, port, &route).hash(&mut hasher);
        Ok(Self {
            hash: hasher.finish(),
            is_tls,
            host,
            port,
            route,
        })
    }

    /// Whether requests name the whole URL, because a proxy forwards them one by one.
    pub(crate) fn takes_absolute_form(&self) -> bool {
        !self.is_tls && matches!(&self.route, Route::Proxy(proxy) if !proxy.is_socks())
    }

    /// Host and port, for messages and for `CONNECT`.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Whether a URL is `https`.
///
/// # Errors
///
/// `UnsupportedProtocol` when it is neither that nor `http`.
pub(crate) fn is_tls(url: &Url) -> Result<bool, Error> {
    match url.scheme() {
        "http" => Ok(false),
        "https" => Ok(true),
        other => Err(Error::new(
            ErrorKind::UnsupportedProtocol,
            format!("the URL's scheme is {other:?}: only http and https can be requested"),
        )),
    }
}
