//! Why the content of a request could not be read to its end.

use std::error::Error;
use std::io;

/// Why the content of a request could not be read to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The connection ended first (RFC 9112 section 8).
    #[error("the client closed the connection before the whole request body had arrived")]
    Incomplete,
    /// The chunked framing is wrong (RFC 9112 section 7.1).
    #[error("the request body is not correctly chunked")]
    Malformed,
    /// More content than [`Limits::body_bytes`](crate::Limits::body_bytes).
    #[error("the request body is larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The limit that was exceeded.
        limit_bytes: u64,
    },
    /// Nothing arrived for [`Timeouts::body_read_idle`](crate::Timeouts::body_read_idle).
    #[error("no part of the request body arrived in time")]
    TimedOut,
}

impl BodyError {
    /// Finds the reason at the bottom of hyper's chain of causes.
    pub(crate) fn from_hyper(error: &hyper::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(current) = cause {
            if let Some(io_error) = current.downcast_ref::<io::Error>() {
                return match io_error.kind() {
                    io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Self::Malformed,
                    _ => Self::Incomplete,
                };
            }
            cause = current.source();
        }
        Self::Incomplete
    }
}
