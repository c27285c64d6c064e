//! Whether the client of a request is still there.
//!
//! HTTP/1.1 has no word for giving a request up: a client closes its connection. While a
//! request is being answered nobody reads from that, so nobody would notice before the
//! response is written. Once somebody watches, the stream looks at the socket, without
//! taking a byte from it. What follows of it is the application's to decide.
//!
//! What a watch knows moves forward only:
//!
//! | state  | what it means                                                  |
//! |--------|----------------------------------------------------------------|
//! | here   | nothing has been seen                                          |
//! | ended  | the client sends nothing more, and may still read              |
//! | lost   | nothing reaches the client any more                            |
//! | over   | the whole response was made while the client was there         |

use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

use crate::connection_context::ConnectionContext;

/// How a client has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It has closed its sending side, and as a rule the connection: the two look the same
    /// until something is sent. One that closed its sending side alone waits for its answer
    /// (RFC 9112 section 9.6).
    Ended,
    /// Its connection was reset or broken off. Nothing reaches it.
    Lost,
}

/// The client of one request, on the loop's thread.
#[derive(Debug)]
pub struct Client {
    connection: Weak<ConnectionContext>,
    /// The number of the request among those of its connection.
    request: u32,
}

/// Watches the client of one request, from any thread. Clones watch the same one.
///
/// A client that has sent more than its request, a pipelined one or a body that nobody has
/// read, is seen to leave only once that was read or a response can't be written.
#[derive(Clone, Debug)]
pub struct ClientWatch(Arc<ClientState>);

impl Client {
    pub(crate) fn new(connection: &Rc<ConnectionContext>) -> Self {
        Self {
            connection: Rc::downgrade(connection),
            request: connection.activity.requests_seen(),
        }
    }

    /// Begins to watch. Without this nothing is looked at, and a request costs nothing more.
    pub fn watch(&self) -> ClientWatch {
        let state = match self.connection.upgrade() {
            Some(connection) => connection.activity.watch_client(self.request),
            None => Arc::new(ClientState::new(State::Over)),
        };
        ClientWatch(state)
    }
}

impl ClientWatch {
    /// How the client has left, as far as is known. `None` while it is there, and when the
    /// whole response was made before it left.
    pub fn departure(&self) -> Option<Departure> {
        match self.0.get() {
            State::Here | State::Over => None,
            State::Ended => Some(Departure::Ended),
            State::Lost => Some(Departure::Lost),
        }
    }

    /// Waits until the client has left; `None` when the whole response was made before.
    pub async fn left(&self) -> Option<Departure> {
        self.reached(State::Ended).await;
        self.departure()
    }

    /// Waits until nothing reaches the client any more, and says so; `false` when the whole
    /// response was made before.
    pub async fn lost(&self) -> bool {
        self.reached(State::Lost).await;
        self.departure() == Some(Departure::Lost)
    }

    async fn reached(&self, state: State) {
        let mut changed = pin!(self.0.changed.notified());
        loop {
            // In this order, so that no change is missed.
            changed.as_mut().enable();
            if self.0.get() >= state {
                return;
            }
            changed.as_mut().await;
            changed.set(self.0.changed.notified());
        }
    }
}

/// What is known of a client. Later states compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Here,
    Ended,
    Lost,
    Over,
}

/// What the loop writes down and a watch reads.
#[derive(Debug)]
pub(crate) struct ClientState {
    state: AtomicU8,
    changed: Notify,
}

impl ClientState {
    pub(crate) fn new(state: State) -> Self {
        Self {
            state: AtomicU8::new(state as u8),
            changed: Notify::new(),
        }
    }

    fn get(&self) -> State {
        const ENDED: u8 = State::Ended as u8;
        const LOST: u8 = State::Lost as u8;
        const OVER: u8 = State::Over as u8;
        match self.state.load(Ordering::Acquire) {
            ENDED => State::Ended,
            LOST => State::Lost,
            OVER => State::Over,
            _ => State::Here,
        }
    }

    /// Moves on. One thread does so. A client that is lost stays so: that its request is
    /// over then says nothing more.
    pub(crate) fn advance(&self, state: State) {
        let before = self.get();
        if state > before && before != State::Lost {
            self.state.store(state as u8, Ordering::Release);
            self.changed.notify_waiters();
        }
    }
}
