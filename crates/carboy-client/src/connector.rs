//! Opens connections: name, TCP, proxy, TLS.

use std::cell::OnceCell;
use std::io;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as RustlsError};

use crate::client::ClientSettings;
use crate::dial::dial;
use crate::resolver::Resolver;
use crate::settings::{HttpVersions, TlsVersions};
use crate::stream::Socket;
use crate::target::{Route, Target};
use crate::timings::Stopwatch;
use crate::tls::{self, Identity, Trust};
use crate::tunnel::{connect_by_http, connect_by_socks};
use crate::{Error, ErrorKind};

/// An open connection, and what was agreed on.
pub(crate) struct Connected {
    pub(crate) socket: Socket,
    pub(crate) speaks_http2: bool,
}

/// What is needed to open connections.
#[derive(Debug)]
pub(crate) struct Connector {
    resolver: Resolver,
    trust: Trust,
    identity: Option<Identity>,
    versions: HttpVersions,
    tls_versions: TlsVersions,
    /// The settings of TLS with servers and with proxies, made when first needed: it takes a
    /// while, and connections with the same settings can resume sessions.
    with_servers: OnceCell<Arc<ClientConfig>>,
    with_proxies: OnceCell<Arc<ClientConfig>>,
}

impl Connector {
    pub(crate) fn new(settings: &ClientSettings) -> Self {
        Self {
            resolver: settings.resolver.clone(),
            trust: settings.trust.clone(),
            identity: settings.identity.clone(),
            versions: settings.versions,
            tls_versions: settings.tls_versions,
            with_servers: OnceCell::new(),
            with_proxies: OnceCell::new(),
        }
    }

    /// # Errors
    ///
    /// `Tls` when certificates or the key can't be used.
    fn config(
        &self,
        known: &OnceCell<Arc<ClientConfig>>,
        versions: HttpVersions,
    ) -> Result<Arc<ClientConfig>, Error> {
        if let Some(config) = known.get() {
            return Ok(Arc::clone(config));
        }
        let identity = self.identity.as_ref();
        let config = tls::client_config(&self.trust, identity, versions, self.tls_versions)?;
        Ok(Arc::clone(known.get_or_init(|| config)))
    }

    /// Connects to the target.
    ///
    /// # Errors
    ///
    /// `Resolve`, `Connect`, `Proxy` or `Tls`.
    pub(crate) async fn connect(
        &self,
        target: &Target,
        stopwatch: &Stopwatch,
    ) -> Result<Connected, Error> {
        stopwatch.connect_began();
        let socket = self.reach(target, stopwatch).await?;
        stopwatch.connected();
        if !target.is_tls {
            return Ok(Connected {
                socket,
                speaks_http2: self.versions == HttpVersions::Http2Only,
            });
        }
        let config = self.config(&self.with_servers, self.versions)?;
        let stream = handshake(config, &target.host, socket).await?;
        stopwatch.tls_done();
        let speaks_http2 = match &stream {
            Socket::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
            _ => false,
        };
        if self.versions == HttpVersions::Http2Only && !speaks_http2 {
            let message = format!("{} does not speak HTTP/2", target.authority());
            return Err(Error::new(ErrorKind::RemoteProtocol, message));
        }
        Ok(Connected {
            socket: stream,
            speaks_http2,
        })
    }

    /// A stream to the target itself, below TLS, or to the proxy that forwards requests.
    async fn reach(&self, target: &Target, stopwatch: &Stopwatch) -> Result<Socket, Error> {
        let proxy = match &target.route {
            Route::Direct => {
                let stream = dial(&self.resolver, &target.host, target.port, stopwatch).await?;
                return Ok(Socket::Tcp(stream));
            }
            Route::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| {
                    let message = format!("no connection to {}", path.display());
                    Error::caused(ErrorKind::Connect, message, error)
                })?;
                return Ok(Socket::Unix(stream));
            }
            Route::Proxy(proxy) => proxy,
        };
        let stream = dial(&self.resolver, proxy.host(), proxy.port(), stopwatch)
            .await
            .map_err(|error| {
                let message = format!("the proxy can't be reached: {}", error.message());
                Error::new(ErrorKind::Proxy, message)
            })?;
        let mut socket = Socket::Tcp(stream);
        if proxy.is_tls() {
            let config = self.config(&self.with_proxies, HttpVersions::Http1Only)?;
            socket = handshake(config, proxy.host(), socket).await?;
        }
        if proxy.is_socks() {
            connect_by_socks(&mut socket, &self.resolver, proxy, target).await?;
        } else if !target.takes_absolute_form() {
            connect_by_http(&mut socket, proxy, target).await?;
        }
        Ok(socket)
    }
}

async fn handshake(config: Arc<ClientConfig>, host: &str, socket: Socket) -> Result<Socket, Error> {
    let failed = |reason: &str, error: Box<dyn std::error::Error + Send + Sync>| {
        let message = format!("no TLS connection to {host}{reason}");
        Error::caused(ErrorKind::Tls, message, error)
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed("", error.into()))?;
    let connecting = TlsConnector::from(config).connect(name, socket);
    let stream = connecting.await.map_err(|error| {
        let cause = error.get_ref();
        let of_tls = cause.and_then(|cause| cause.downcast_ref::<RustlsError>());
        let unknown = RustlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        if of_tls == Some(&unknown) {
            let reason = ", whose certificate is of nobody who is trusted here (verify= can name \
                          further authorities)";
            failed(reason, error.into())
        } else if of_tls.is_some() || error.kind() == io::ErrorKind::UnexpectedEof {
            failed("", error.into())
        } else {
            let message = format!("the connection to {host} broke during the TLS handshake");
            Error::caused(ErrorKind::Connect, message, error)
        }
    })?;
    Ok(Socket::Tls(Box::new(stream)))
}
