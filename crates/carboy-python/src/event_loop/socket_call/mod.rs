//! `loop.sock_recv` and its kin.
//!
//! Each is a coroutine in asyncio's sense, but a native one: its first step makes the system
//! call, and if the socket is not ready then, the loop makes it again whenever it is, and
//! settles the future that the task waits for. The behaviour is that of
//! `asyncio.selector_events.BaseSelectorEventLoop`.

mod coroutine;
mod methods;
mod operation;
mod plain_socket;

pub(crate) use coroutine::SocketCall;
