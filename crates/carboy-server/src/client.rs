//! Whether the client of a request is still there.
//!
//! HTTP/1.1 has no word for giving a request up: a client closes its connection. While a
//! request is being answered nobody reads from that, so nobody would notice before the
//! response is written. Once somebody watches, the stream looks at the socket, without
//! taking a byte from it. What follows of it is the application's to decide.
//!
//! The end of what a client sends is no proof that it has gone: it may have closed its
//! sending side only, and wait (RFC 9112 section 9.6). TCP does not tell the two apart until
//! something is sent. So a client that ended is asked, if that matters to somebody
//! ([`HalfClosed::Waits`]):
//!
//! * before the response has begun, by `100 Continue`, which every client of HTTP/1.1 has to
//!   pass over (RFC 9110 section 15.2). One that has gone answers with a reset;
//! * a client of HTTP/1.0, which understands no such thing, is taken to wait if it ended
//!   right after its request, as one does that closes its sending side. If it ended later,
//!   it has gone;
//! * nobody closes the sending side of a connection while reading from it. A client that ends
//!   during the response has gone.
//!
//! What a watch knows moves forward only:
//!
//! | state  | what it means                                                  |
//! |--------|----------------------------------------------------------------|
//! | here   | nothing has been seen                                          |
//! | ended  | the client sends nothing more, and may still read              |
//! | lost   | nothing reaches the client any more                            |
//! | over   | the whole response was made while the client was there         |

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use crate::activity::Activity;

/// A client of HTTP/1.0 that ends within this time of the beginning of its watch is taken to
/// wait for its answer.
const EARLY_END: Duration = Duration::from_millis(100);

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

/// What a client is taken for that sends nothing more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HalfClosed {
    /// It may wait for its answer: it has gone once that is known.
    #[default]
    Waits,
    /// It has gone.
    HasGone,
}

/// The client of one request. It may be held by any thread, and watched from the loop's.
#[derive(Clone, Debug)]
pub struct Client {
    activity: Arc<Activity>,
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
    pub(crate) fn new(activity: &Arc<Activity>) -> Self {
        Self {
            activity: Arc::clone(activity),
            request: activity.requests_seen(),
        }
    }

    /// Begins to watch, on the loop's thread. Without this nothing is looked at, and a request
    /// costs nothing more.
    pub fn watch(&self) -> ClientWatch {
        ClientWatch(self.activity.watch_client(self.request))
    }

    /// Has the future of the request's answer polled, from any thread: something that it
    /// looks at has changed.
    pub fn wake_answer(&self) {
        self.activity.wake_task();
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

    /// Does something once the client has gone, on the loop's thread and in the midst of the
    /// connection's work: it should be short. Right now, if the client has gone already; never,
    /// if the whole response was made before it went. Of several actions the last one counts.
    pub fn when_gone(&self, half_closed: HalfClosed, action: impl FnOnce() + Send + 'static) {
        self.0.set_action(half_closed, Box::new(action));
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

/// What is done when a client has gone.
type Action = Box<dyn FnOnce() + Send>;

/// What the loop writes down and a watch reads.
pub(crate) struct ClientState {
    state: AtomicU8,
    changed: Notify,
    since: Instant,
    /// Whether a look has found the client there.
    was_here: AtomicBool,
    /// Whether it matters whether a client that ended still waits.
    asks: AtomicBool,
    /// What is done from which state on.
    action: Mutex<Option<(State, Action)>>,
}

impl fmt::Debug for ClientState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("ClientState")
            .field(&self.get())
            .finish()
    }
}

impl ClientState {
    pub(crate) fn new(state: State) -> Self {
        Self {
            state: AtomicU8::new(state as u8),
            changed: Notify::new(),
            since: Instant::now(),
            was_here: AtomicBool::new(false),
            asks: AtomicBool::new(false),
            action: Mutex::new(None),
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
            self.act(state);
        }
    }

    fn set_action(&self, half_closed: HalfClosed, action: Action) {
        let from = match half_closed {
            HalfClosed::Waits => State::Lost,
            HalfClosed::HasGone => State::Ended,
        };
        self.asks
            .store(half_closed == HalfClosed::Waits, Ordering::Relaxed);
        let before = self.action().replace((from, action));
        drop(before);
        self.act(self.get());
    }

    /// Does what is to be done in this state, if anything.
    fn act(&self, state: State) {
        if state == State::Here {
            return;
        }
        let action = {
            let mut action = self.action();
            match &*action {
                Some((from, _)) if state >= *from => action.take(),
                _ => None,
            }
        };
        if let Some((_, action)) = action
            && state != State::Over
        {
            action();
        }
    }

    fn action(&self) -> std::sync::MutexGuard<'_, Option<(State, Action)>> {
        self.action.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a look has found the client there.
    pub(crate) fn is_here(&self) {
        self.was_here.store(true, Ordering::Relaxed);
    }

    /// What is to be thought of a client that sends nothing more.
    pub(crate) fn judge_end(&self, answer: AnswerStage) -> End {
        let was_here = self.was_here.load(Ordering::Relaxed);
        match answer {
            _ if !self.asks.load(Ordering::Relaxed) => End::Unknown,
            AnswerStage::Awaited { may_ask: true } => End::ToBeAsked,
            AnswerStage::Begun if was_here => End::Gone,
            AnswerStage::Awaited { may_ask: false }
                if was_here && self.since.elapsed() > EARLY_END =>
            {
                End::Gone
            }
            AnswerStage::Begun | AnswerStage::Awaited { may_ask: false } => End::Unknown,
        }
    }
}

/// How far the answer to a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerStage {
    /// There is none, and an interim response may be sent before it, or not.
    Awaited { may_ask: bool },
    /// Its head was given to hyper.
    Begun,
}

/// What the end of a client's sending means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It may wait, or have gone; nobody asks, or nothing can be done to find out.
    Unknown,
    /// An interim response would show it.
    ToBeAsked,
    /// It has gone.
    Gone,
}
