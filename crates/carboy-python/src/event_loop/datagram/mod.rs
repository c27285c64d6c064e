//! A socket for datagrams: asyncio's transport of one.
//!
//! The behaviour is that of `asyncio.selector_events._SelectorDatagramTransport`. A datagram is
//! sent at once if the socket takes it, and the queue of those that wait is bounded by flow
//! control. Answers of the network to single datagrams go to the protocol's `error_received`;
//! anything else that goes wrong ends the transport.

mod closing;
mod interface;
mod receiving;
mod sending;
mod state;

pub(crate) use state::DatagramTransport;
