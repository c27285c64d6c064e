//! A connection: asyncio's transport of a stream socket.
//!
//! The behaviour is that of `asyncio.selector_events._SelectorSocketTransport`. Reading,
//! writing and flow control happen without a Python frame but those of the protocol.

mod closing;
mod interface;
mod reading;
mod state;
mod writing;

pub(crate) use state::StreamTransport;
