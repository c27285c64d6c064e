//! TLS: a protocol that lies between a transport and the application's protocol.
//!
//! The behaviour is that of `asyncio.sslproto`: its states, timeouts, limits and errors. The
//! cryptography is that of Python's `ssl` module, so that every setting of an
//! `ssl.SSLContext` holds; what is native is the way of the bytes between the transports.

mod closing;
mod engine;
mod handshake;
mod protocol;
mod reading;
mod state;
mod transport;
mod watermarks;
mod writing;

pub(crate) use protocol::TlsProtocol;
pub(crate) use transport::TlsTransport;
