//! asyncio's event loop on `carboy-event-loop`: the native half of `carboy.EventLoop`.

mod buffered_protocol;
mod call;
mod child;
mod datagram;
mod endpoint;
mod factories;
mod flow_signal;
mod handle;
mod host;
mod listener;
mod native_loop;
mod networking;
mod payload;
mod pipe;
mod scheduling;
mod signals;
mod socket_address;
mod socket_call;
mod socket_owner;
mod stream;
mod system_error;
mod task;
mod tls;
mod unclosed;
mod watchdog;
mod watched;
mod watched_object;
mod write_limits;

pub(crate) use datagram::DatagramTransport;
pub(crate) use handle::{Handle, QueuedHandle, TimerHandle};
pub(crate) use native_loop::{Deferred, NativeEventLoop, running_loop};
pub(crate) use scheduling::install;
pub(crate) use stream::StreamTransport;
pub(crate) use task::start_task;
pub(crate) use tls::{TlsProtocol, TlsTransport};
