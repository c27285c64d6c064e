//! What the application is given: one request and the connection it came by.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version};

use crate::{Admission, Client, RequestBody, TakeoverOffer};

/// One request whose head passed the gate.
#[derive(Debug)]
pub struct Request {
    /// The method, with its case as sent (RFC 9110 section 9.1).
    pub method: Method,
    /// The request target. The authority is present only in absolute form.
    pub uri: Uri,
    /// The target as it was sent, where `uri` has some of its characters percent-encoded
    /// because no URI has them: `"`, `<`, `>` and the backtick.
    pub raw_target: Option<Bytes>,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The header fields of the head. Trailer fields are never merged into them
    /// (RFC 9110 section 6.5.1).
    pub headers: HeaderMap,
    /// The content, not read yet.
    pub body: RequestBody,
    /// Who is at either end.
    pub connection: Rc<ConnectionInfo>,
    /// The client, to learn whether it leaves.
    pub client: Client,
    /// Present when the request asks for another protocol (RFC 9110 section 7.8).
    pub takeover: Option<TakeoverOffer>,
    /// To be kept until the application is done with the request, also when its client has
    /// gone: see [`ServerConfig::request_limit`](crate::ServerConfig::request_limit).
    pub admission: Admission,
}

/// The two ends of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The client's address.
    pub peer: Address,
    /// The address the client connected to.
    pub local: Address,
    /// Whether the bytes came through TLS.
    pub secure: bool,
}

/// Where a connection or a listener ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A Unix socket; clients usually have no path.
    Unix(Option<PathBuf>),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(Some(path)) => write!(formatter, "unix:{}", path.display()),
            Self::Unix(None) => formatter.write_str("unix:"),
        }
    }
}
