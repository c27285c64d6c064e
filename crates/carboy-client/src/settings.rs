//! How long things may take and how much there may be, with the reasons for the defaults.

use std::time::Duration;

/// How long each part of a call may take; `None` is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name look-up, TCP, proxy and TLS together.
    pub connect: Option<Duration>,
    /// From the last byte of the request to the end of the response's head, and from one
    /// piece of content to the next.
    pub read: Option<Duration>,
    /// From one piece of the request that the peer takes to the next.
    pub write: Option<Duration>,
    /// The wait for a connection while all are in use, or all their streams (HTTP/2).
    pub pool: Option<Duration>,
    /// The whole call with its redirects and retries, to the last byte of the content. When
    /// the content is streamed, to the end of the head.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    /// A lost SYN is repeated after one and after three seconds, so three seconds suffice for a
    /// reachable host; ten are long for a service to think; thirty are how long a browser's
    /// user or a proxy in front waits as a rule.
    fn default() -> Self {
        Self {
            connect: Some(Duration::from_secs(3)),
            read: Some(Duration::from_secs(10)),
            write: Some(Duration::from_secs(10)),
            pool: Some(Duration::from_secs(3)),
            total: Some(Duration::from_secs(30)),
        }
    }
}

/// How many connections there may be, and for how long unused ones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections in total, in use or idle.
    pub connections: usize,
    /// Connections to one host (scheme, name, port and proxy).
    pub connections_per_host: usize,
    /// Connections that are kept while nobody uses them; beyond that, the one that is idle for the
    /// longest time is closed.
    pub idle_connections: usize,
    /// Requests at the same time on one HTTP/2 connection; RFC 9113 section 6.5.2 advises
    /// servers to allow at least 100.
    pub streams_per_connection: usize,
    /// How long an idle connection is kept. Shorter than what servers do by default (nginx 75 s,
    /// gunicorn 2 s behind a proxy, uvicorn 5 s), so that few are found dead.
    pub idle_timeout: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            connections: 500,
            connections_per_host: 100,
            idle_connections: usize::MAX,
            streams_per_connection: 100,
            idle_timeout: Duration::from_secs(15),
        }
    }
}

/// How much of a response is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseLimits {
    /// Bytes of the head.
    pub head_bytes: usize,
    /// Header fields.
    pub header_count: usize,
    /// Bytes of content after decoding, where the content is collected in memory.
    pub content_bytes: u64,
}

impl Default for ResponseLimits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            header_count: 100,
            content_bytes: 256 * 1024 * 1024,
        }
    }
}

/// Which versions of HTTP are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum HttpVersions {
    /// HTTP/2 where TLS negotiates it, else HTTP/1.1.
    #[default]
    Negotiated,
    /// HTTP/1.1 only.
    Http1Only,
    /// HTTP/2 only, without TLS too ("prior knowledge").
    Http2Only,
}

/// Which versions of TLS are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    Both,
    /// 1.2 only.
    Tls12Only,
    /// 1.3 only.
    Tls13Only,
}
