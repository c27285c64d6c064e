//! What is known of one connection, shared by the parts that see it.
//!
//! The stream sees bytes, the service sees requests and the connection sees time:
//! each writes down here what the others must know. hyper wants a stream that
//! could move to another thread, hence atomics, although one thread uses them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::Refusal;
use crate::access_log::RequestLine;
use crate::client::{AnswerStage, ClientState, End, State};

/// What is known of one connection.
#[derive(Debug)]
pub(crate) struct Activity {
    opened: Instant,
    heads_passed: AtomicU32,
    heads_taken: AtomicU32,
    in_flight: AtomicU32,
    /// When the first byte of an unfinished head came.
    pub(crate) head_started: Stamp,
    /// Since when the peer takes no bytes.
    pub(crate) write_blocked: Stamp,
    /// Since when the stream is read only to keep the peer from a reset.
    pub(crate) lingering: Stamp,
    head_timed_out: AtomicBool,
    close_wanted: AtomicBool,
    content_broken: AtomicBool,
    refused: OnceLock<RefusedHead>,
    has_raw_targets: AtomicBool,
    /// Targets as they were sent, by the numbers of their heads.
    raw_targets: Mutex<VecDeque<(u32, Bytes)>>,
    /// The client of the request in flight, if it is watched.
    client: Mutex<Option<Arc<ClientState>>>,
    is_client_watched: AtomicBool,
    /// Whether the last request ended without its whole response.
    is_client_lost: AtomicBool,
    /// Whether the head of the response in flight was made.
    answer_begun: AtomicBool,
    /// Whether the client in flight understands an interim response.
    may_ask_client: AtomicBool,
    /// Wakes the connection's task.
    task: OnceLock<Waker>,
    /// A `Look`.
    look: AtomicU8,
    takeover: AtomicU8,
    takeover_waker: Mutex<Option<Waker>>,
}

/// A head that was refused before hyper saw it.
#[derive(Debug)]
pub(crate) struct RefusedHead {
    /// The number of this head among those of the connection.
    pub(crate) number: u32,
    pub(crate) reason: Refusal,
    pub(crate) line: Mutex<Option<RequestLine>>,
}

/// Whether a request that asked for another protocol gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeoverDecision {
    /// The application has not answered.
    Open,
    /// The bytes that follow are HTTP.
    Declined,
    /// The bytes that follow are another protocol's.
    Accepted,
}

/// How the client comes to be looked at when somebody begins to watch it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Look {
    /// The connection's task has to be woken for it.
    HasToBeWoken,
    /// The task is being polled. As a rule the look comes by itself with the rest of the poll.
    InPoll,
    /// Somebody has begun to watch in this poll, and there was no look since.
    Due,
    /// Nothing had come from the client when it was asked last, and what comes wakes the task.
    WakesItself,
}

/// Marks the task of a connection as being polled.
pub(crate) struct PollGuard<'a>(&'a Activity);

impl Drop for PollGuard<'_> {
    fn drop(&mut self) {
        let look = self.0.look();
        if look != Look::WakesItself {
            self.0.set_look(Look::HasToBeWoken);
        }
        if look == Look::Due {
            self.0.wake_task();
        }
    }
}

impl Activity {
    pub(crate) fn new(opened: Instant) -> Self {
        Self {
            opened,
            heads_passed: AtomicU32::new(0),
            heads_taken: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            head_started: Stamp::default(),
            write_blocked: Stamp::default(),
            lingering: Stamp::default(),
            head_timed_out: AtomicBool::new(false),
            close_wanted: AtomicBool::new(false),
            content_broken: AtomicBool::new(false),
            refused: OnceLock::new(),
            has_raw_targets: AtomicBool::new(false),
            raw_targets: Mutex::default(),
            client: Mutex::default(),
            is_client_watched: AtomicBool::new(false),
            is_client_lost: AtomicBool::new(false),
            answer_begun: AtomicBool::new(false),
            may_ask_client: AtomicBool::new(false),
            task: OnceLock::new(),
            look: AtomicU8::new(Look::HasToBeWoken as u8),
            takeover: AtomicU8::new(TakeoverDecision::Open as u8),
            takeover_waker: Mutex::new(None),
        }
    }

    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// The stream passed heads on.
    pub(crate) fn pass_heads(&self, heads: u32) {
        add(&self.heads_passed, heads);
    }

    /// The stream passed a placeholder for a head that it refuses.
    pub(crate) fn refuse_head(&self, reason: Refusal, line: RequestLine) {
        let number = self.heads_passed.load(Ordering::Relaxed);
        // There is at most one, since nothing follows a refused head.
        drop(self.refused.set(RefusedHead {
            number,
            reason,
            line: Mutex::new(Some(line)),
        }));
        self.pass_heads(1);
    }

    /// The stream is about to pass on a head whose target it had to change; `head` is its
    /// number among those that it passes on next.
    pub(crate) fn keep_raw_target(&self, head: u32, target: Bytes) {
        let number = self.heads_passed.load(Ordering::Relaxed).wrapping_add(head);
        self.raw_targets().push_back((number, target));
        self.has_raw_targets.store(true, Ordering::Relaxed);
    }

    /// The target of the head that the service is about to take, if the stream changed it.
    pub(crate) fn take_raw_target(&self) -> Option<Bytes> {
        if !self.has_raw_targets.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.heads_taken.load(Ordering::Relaxed);
        let mut targets = self.raw_targets();
        let is_of_this_head = targets.front().is_some_and(|(head, _)| *head == number);
        let target = is_of_this_head.then(|| targets.pop_front()).flatten();
        self.has_raw_targets
            .store(!targets.is_empty(), Ordering::Relaxed);
        target.map(|(_, target)| target)
    }

    fn raw_targets(&self) -> MutexGuard<'_, VecDeque<(u32, Bytes)>> {
        self.raw_targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The service got one more head; why it was refused, if it was.
    pub(crate) fn take_head(&self) -> Option<&RefusedHead> {
        let number = self.heads_taken.load(Ordering::Relaxed);
        add(&self.heads_taken, 1);
        self.refused
            .get()
            .filter(|refused| refused.number == number)
    }

    pub(crate) fn begin_request(&self) {
        add(&self.in_flight, 1);
        self.answer_begun.store(false, Ordering::Relaxed);
    }

    /// The service knows whether an interim response may be sent for the request in flight.
    pub(crate) fn allow_interim_response(&self, is_allowed: bool) {
        self.may_ask_client.store(is_allowed, Ordering::Relaxed);
    }

    /// The head of the response was made.
    pub(crate) fn begin_answer(&self) {
        self.answer_begun.store(true, Ordering::Relaxed);
    }

    /// A request is over; whether all of its response was made.
    pub(crate) fn end_request(&self, complete: bool) {
        add(&self.in_flight, u32::MAX);
        if !complete {
            self.is_client_lost.store(true, Ordering::Relaxed);
        }
        if !self.is_client_watched() {
            return;
        }
        self.is_client_watched.store(false, Ordering::Relaxed);
        let client = self.client().take();
        if let Some(client) = client {
            client.advance(if complete { State::Over } else { State::Lost });
        }
    }

    /// The connection's task, which is the same for all of its life.
    pub(crate) fn set_task(&self, task: &Waker) {
        self.task.get_or_init(|| task.clone());
    }

    /// What becomes of the client of a request. On the loop's thread only.
    pub(crate) fn watch_client(&self, request: u32) -> Arc<ClientState> {
        let is_latest = request == self.requests_seen();
        if !self.is_answering() || !is_latest {
            let is_lost = is_latest && self.is_client_lost.load(Ordering::Relaxed);
            return Arc::new(ClientState::new(if is_lost {
                State::Lost
            } else {
                State::Over
            }));
        }
        let mut client = self.client();
        if let Some(client) = &*client {
            return Arc::clone(client);
        }
        let state = Arc::new(ClientState::new(State::Here));
        *client = Some(Arc::clone(&state));
        self.is_client_watched.store(true, Ordering::Relaxed);
        match self.look() {
            Look::HasToBeWoken => self.wake_task(),
            Look::InPoll => self.set_look(Look::Due),
            Look::Due | Look::WakesItself => {}
        }
        state
    }

    fn look(&self) -> Look {
        match self.look.load(Ordering::Relaxed) {
            it if it == Look::InPoll as u8 => Look::InPoll,
            it if it == Look::Due as u8 => Look::Due,
            it if it == Look::WakesItself as u8 => Look::WakesItself,
            _ => Look::HasToBeWoken,
        }
    }

    fn set_look(&self, look: Look) {
        self.look.store(look as u8, Ordering::Relaxed);
    }

    /// The connection's task is being polled, until this is dropped. On the loop's thread only.
    pub(crate) fn begin_poll(&self) -> PollGuard<'_> {
        // It may be the client that has woken it.
        self.set_look(Look::InPoll);
        PollGuard(self)
    }

    /// Nothing has come from the client, and what comes wakes the task.
    pub(crate) fn await_client(&self) {
        self.set_look(Look::WakesItself);
    }

    /// Whether a request is being answered, whose client may come to be watched.
    pub(crate) fn is_answering(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) != 0
    }

    /// The client is looked at.
    pub(crate) fn begin_look(&self) {
        self.set_look(Look::InPoll);
    }

    /// Has the connection looked at.
    pub(crate) fn wake_task(&self) {
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }

    /// Whether somebody waits for the client of the request in flight to leave.
    pub(crate) fn is_client_watched(&self) -> bool {
        self.is_client_watched.load(Ordering::Relaxed)
    }

    /// A look has found the client there.
    pub(crate) fn client_is_here(&self) {
        if let Some(client) = &*self.client() {
            client.is_here();
        }
    }

    /// The client has left.
    pub(crate) fn client_left(&self, state: State) {
        // What is done about it must not find the lock taken.
        let client = self.client().clone();
        if let Some(client) = client {
            client.advance(state);
        }
    }

    /// What is to be thought of a client that sends nothing more.
    pub(crate) fn judge_end(&self) -> End {
        let stage = if self.answer_begun.load(Ordering::Relaxed) {
            AnswerStage::Begun
        } else {
            let may_ask = self.may_ask_client.load(Ordering::Relaxed);
            AnswerStage::Awaited { may_ask }
        };
        match &*self.client() {
            Some(client) => client.judge_end(stage),
            None => End::Unknown,
        }
    }

    fn client(&self) -> MutexGuard<'_, Option<Arc<ClientState>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no request is being answered and none is waiting to be.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_answering() && !self.has_waiting_heads()
    }

    /// Whether heads were passed on that the service has not seen.
    pub(crate) fn has_waiting_heads(&self) -> bool {
        self.heads_passed.load(Ordering::Relaxed) != self.heads_taken.load(Ordering::Relaxed)
    }

    /// A number that changes with every request.
    pub(crate) fn requests_seen(&self) -> u32 {
        self.heads_taken.load(Ordering::Relaxed)
    }

    pub(crate) fn time_out_head(&self) {
        self.head_timed_out.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_head_timed_out(&self) -> bool {
        self.head_timed_out.load(Ordering::Relaxed)
    }

    /// The connection must end once what is being sent is sent.
    pub(crate) fn want_close(&self) {
        self.close_wanted.store(true, Ordering::Relaxed);
    }

    /// Some content can't be read to its end, so the connection can't go on.
    pub(crate) fn break_content(&self) {
        self.content_broken.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_content_broken(&self) -> bool {
        self.content_broken.load(Ordering::Relaxed)
    }

    pub(crate) fn take_close_wanted(&self) -> bool {
        self.close_wanted.load(Ordering::Relaxed)
            && self.close_wanted.swap(false, Ordering::Relaxed)
    }

    /// A request that asks for another protocol was passed on.
    pub(crate) fn open_takeover(&self) {
        self.takeover
            .store(TakeoverDecision::Open as u8, Ordering::Relaxed);
    }

    pub(crate) fn decide_takeover(&self, decision: TakeoverDecision) {
        self.takeover.store(decision as u8, Ordering::Relaxed);
        let waker = self
            .takeover_waker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The decision; while it is open, `waker` is woken once it is not.
    pub(crate) fn takeover_decision(&self, waker: &Waker) -> TakeoverDecision {
        const DECLINED: u8 = TakeoverDecision::Declined as u8;
        const ACCEPTED: u8 = TakeoverDecision::Accepted as u8;
        match self.takeover.load(Ordering::Relaxed) {
            DECLINED => TakeoverDecision::Declined,
            ACCEPTED => TakeoverDecision::Accepted,
            _ => {
                let mut waiting = self
                    .takeover_waker
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *waiting = Some(waker.clone());
                TakeoverDecision::Open
            }
        }
    }
}

/// Adds without an atomic addition: one thread writes.
fn add(counter: &AtomicU32, amount: u32) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(amount),
        Ordering::Relaxed,
    );
}

/// A moment that may not have come.
#[derive(Debug, Default)]
pub(crate) struct Stamp(AtomicU64);

impl Stamp {
    /// Remembers now, unless a moment is remembered already.
    pub(crate) fn set(&self, opened: Instant) {
        if !self.is_set() {
            self.renew(opened);
        }
    }

    /// Remembers now, whatever was remembered.
    pub(crate) fn renew(&self, opened: Instant) {
        let elapsed = u64::try_from(opened.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Zero means that the moment has not come.
        self.0.store(elapsed.max(1), Ordering::Relaxed);
    }

    pub(crate) fn clear(&self) {
        if self.is_set() {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn get(&self, opened: Instant) -> Option<Instant> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            elapsed => Some(opened + Duration::from_nanos(elapsed)),
        }
    }
}
