//! Why a request failed: one kind for each thing that a caller may want to tell apart.

use std::error::Error as StdError;
use std::fmt;

/// What went wrong. The binding makes one exception class of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The URL can't be parsed or has no host.
    InvalidUrl,
    /// The URL's scheme is neither `http` nor `https`.
    UnsupportedProtocol,
    /// The request can't be sent as it is.
    InvalidRequest,
    /// No connection was there in time: name look-up, TCP, proxy and TLS together.
    ConnectTimeout,
    /// The peer was silent for too long.
    ReadTimeout,
    /// The peer took no bytes for too long.
    WriteTimeout,
    /// All connections were in use for too long.
    PoolTimeout,
    /// The whole call took too long.
    TotalTimeout,
    /// The host's name has no address.
    Resolve,
    /// No connection could be made.
    Connect,
    /// The TLS handshake failed: the certificate, the name, or the protocol.
    Tls,
    /// The connection broke while the response was awaited or read.
    Read,
    /// The connection broke while the request was written.
    Write,
    /// What the peer sent is not HTTP, or breaks off.
    RemoteProtocol,
    /// The proxy refused or can't be spoken to.
    Proxy,
    /// The content's coding is broken.
    Decoding,
    /// The content is larger than allowed, or a decompression bomb.
    BodyTooLarge,
    /// More redirects than allowed.
    TooManyRedirects,
    /// What was to be uploaded could not be read.
    BodySource,
    /// The client was closed.
    Closed,
}

/// A failed request: its kind, and a sentence that names what was tried.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error without a cause of its own.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// An error that something else has caused; the message ends with the innermost cause.
    pub fn caused(
        kind: ErrorKind,
        message: impl fmt::Display,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        let mut innermost: &dyn StdError = source.as_ref();
        while let Some(deeper) = innermost.source() {
            innermost = deeper;
        }
        Self {
            kind,
            message: format!("{message}: {innermost}"),
            source: Some(source),
        }
    }

    /// The same error with something more to say.
    pub(crate) fn and(mut self, addition: &str) -> Self {
        self.message.push_str(addition);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}({})", self.kind, self.message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}
