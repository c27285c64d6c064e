//! How much a peer may send and how long it may take, and why.
//!
//! Every number that tunes the server's patience lives here.

use std::time::Duration;

use crate::AccessLog;

/// Upper bounds for one request. Exceeding one is answered, not punished.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of the request line, line ending included; more is a 414.
    ///
    /// 16 KiB: RFC 9112 section 3 asks for 8000 octets at least, and single
    /// sign-on redirects are known to exceed 8 KiB.
    pub request_line_bytes: usize,
    /// Bytes of all header lines together; more is a 431.
    ///
    /// 64 KiB: twice what browsers let cookies grow to, and small enough that
    /// ten thousand half-sent heads fit into memory.
    pub header_bytes: usize,
    /// Number of header lines; more is a 431.
    ///
    /// 100: up to this number hyper keeps its parse table on the stack.
    pub header_count: usize,
    /// Bytes of content; more is a 413. `None` leaves it to the application.
    ///
    /// 1 GiB: content is streamed, so this guards disks rather than memory.
    pub body_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line_bytes: 16 * 1024,
            header_bytes: 64 * 1024,
            header_count: 100,
            body_bytes: Some(1024 * 1024 * 1024),
        }
    }
}

/// How long the server waits, one knob for each thing waited for.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From the first byte of a head to its last; then a 408.
    ///
    /// 30 s: slow enough for bad mobile links. It is never extended, so a client
    /// that trickles bytes gains nothing.
    pub header_read: Duration,
    /// Between two requests, or before the first.
    ///
    /// 75 s: longer than the 60 s of common load balancers, so that it is the
    /// balancer that closes and no request meets a closing connection. Measured
    /// with a tolerance of an eighth, so that busy connections set no timers.
    pub keep_alive_idle: Duration,
    /// Between two pieces of content, while the application waits for one.
    pub body_read_idle: Duration,
    /// While the peer takes none of the bytes waiting for it.
    pub write_stall: Duration,
    /// From the start of a graceful shutdown to the breaking off of what is left.
    pub drain: Duration,
    /// How long idle connections stay readable after a shutdown began, so that a
    /// request already under way is answered.
    pub drain_linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header_read: Duration::from_secs(30),
            keep_alive_idle: Duration::from_secs(75),
            body_read_idle: Duration::from_secs(60),
            write_stall: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            drain_linger: Duration::from_secs(1),
        }
    }
}

/// Everything a server is told when it is made.
#[derive(Debug, Default)]
pub struct ServerConfig {
    /// How much a peer may send.
    pub limits: Limits,
    /// How long a peer may take.
    pub timeouts: Timeouts,
    /// Where requests are written down, if anywhere.
    pub access_log: Option<AccessLog>,
    /// Connections open at once; more wait in the kernel's queue.
    pub connection_limit: Option<usize>,
    /// Requests in progress at once; more are answered with a 503 at once.
    ///
    /// None by default: which number a server can bear is a matter of its application.
    /// Idle connections don't count, or the keep-alive connections of a load balancer would
    /// use the limit up.
    pub request_limit: Option<usize>,
}
