//! How long one connection may take for what it is doing now.
//!
//! One timer per connection. A request sets no timer and asks no clock: what is
//! waited for is written down by the parts that see it (see [`Activity`]), and an
//! idle connection is found by looking at it now and then.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::Timeouts;
use crate::activity::Activity;

/// How long bytes of a peer that was already answered are read and thrown away, so
/// that the answer is not lost to a reset (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);

/// A busy connection is looked at this often per idle timeout. The idle time is
/// therefore known to within one part.
const LOOKS_PER_IDLE_TIMEOUT: u32 = 8;

/// What is to be done because time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A head took too long: answer 408.
    TimeOutHead,
    /// Idle for too long, or lingered while draining: close once nothing is in
    /// flight.
    Close,
    /// The peer takes no bytes, or does not stop sending: nothing can be saved.
    BreakOff,
}

/// The timer of one connection.
#[derive(Debug)]
pub(crate) struct Patience {
    activity: Arc<Activity>,
    header_read: Duration,
    keep_alive_idle: Duration,
    write_stall: Duration,
    timer: Pin<Box<Sleep>>,
    /// Whether the timer knows which task to wake.
    registered: bool,
    idle: Idle,
    drain_until: Option<Instant>,
}

/// What is known of a connection's idleness.
#[derive(Debug)]
enum Idle {
    /// No request has come since then; the connection may close at `look_at`.
    Quiet {
        requests_seen: u32,
        since: Instant,
        look_at: Instant,
    },
    /// Requests have come since the last look at `since`; look again at `look_at`.
    Busy {
        requests_seen: u32,
        since: Instant,
        look_at: Instant,
    },
    /// The connection is being closed or drained: nobody asks any more.
    Unwatched,
}

impl Patience {
    pub(crate) fn new(activity: Arc<Activity>, timeouts: &Timeouts) -> Self {
        let since = activity.opened();
        let look_at = since + timeouts.keep_alive_idle;
        Self {
            header_read: timeouts.header_read,
            keep_alive_idle: timeouts.keep_alive_idle,
            write_stall: timeouts.write_stall,
            timer: Box::pin(tokio::time::sleep_until(look_at)),
            registered: false,
            idle: Idle::Quiet {
                requests_seen: activity.requests_seen(),
                since,
                look_at,
            },
            drain_until: None,
            activity,
        }
    }

    /// From now on the connection waits only as long as a drain lingers.
    pub(crate) fn begin_drain(&mut self, drain_linger: Duration) {
        self.idle = Idle::Unwatched;
        self.drain_until = Some(Instant::now() + drain_linger);
    }

    /// The connection is being closed: only what is unfinished is still timed.
    pub(crate) fn begin_close(&mut self) {
        self.idle = Idle::Unwatched;
        self.drain_until = None;
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Verdict> {
        self.notice_requests();
        loop {
            let Some(due) = self.next_due() else {
                return Poll::Pending;
            };
            if self.timer.deadline() != due {
                self.timer.as_mut().reset(due);
                self.registered = false;
            }
            if self.registered && !self.timer.is_elapsed() {
                return Poll::Pending;
            }
            self.registered = true;
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.registered = false;
            if let Some(verdict) = self.judge(Instant::now()) {
                return Poll::Ready(verdict);
            }
        }
    }

    /// The earliest moment at which something could have to be done.
    fn next_due(&self) -> Option<Instant> {
        let opened = self.activity.opened();
        let stamps = [
            (&self.activity.write_blocked, self.write_stall),
            (&self.activity.head_started, self.header_read),
            (&self.activity.lingering, LINGER),
        ];
        let stamped = stamps
            .into_iter()
            .filter_map(|(stamp, patience)| stamp.get(opened).map(|since| since + patience));
        let look_at = match self.idle {
            Idle::Quiet { look_at, .. } | Idle::Busy { look_at, .. } => Some(look_at),
            Idle::Unwatched => None,
        };
        stamped.chain(look_at).chain(self.drain_until).min()
    }

    fn judge(&mut self, now: Instant) -> Option<Verdict> {
        let activity = Arc::clone(&self.activity);
        let opened = activity.opened();
        let passed = |since: Option<Instant>, patience: Duration| {
            since.is_some_and(|since| since + patience <= now)
        };
        if passed(activity.write_blocked.get(opened), self.write_stall)
            || passed(activity.lingering.get(opened), LINGER)
        {
            return Some(Verdict::BreakOff);
        }
        if passed(activity.head_started.get(opened), self.header_read) {
            if activity.is_idle() {
                activity.head_started.clear();
                return Some(Verdict::TimeOutHead);
            }
            // The head waits behind a request that is being answered, and nobody
            // reads it meanwhile: that is not the peer's fault.
            activity.head_started.renew(opened);
        }
        if self.drain_until.is_some_and(|until| until <= now) {
            self.drain_until = None;
            // A request whose head has begun is answered; its response closes.
            return (!activity.head_started.is_set()).then_some(Verdict::Close);
        }
        self.look(now)
    }

    /// The first request after a quiet time begins a busy one. This is the only time
    /// that a request has the clock read.
    fn notice_requests(&mut self) {
        if let Idle::Quiet { requests_seen, .. } = self.idle
            && requests_seen != self.activity.requests_seen()
        {
            self.idle = self.busy_since(Instant::now());
        }
    }

    fn busy_since(&self, now: Instant) -> Idle {
        Idle::Busy {
            requests_seen: self.activity.requests_seen(),
            since: now,
            look_at: now + self.keep_alive_idle / LOOKS_PER_IDLE_TIMEOUT,
        }
    }

    /// Looks whether the connection has been idle for too long.
    fn look(&mut self, now: Instant) -> Option<Verdict> {
        let (Idle::Quiet {
            requests_seen,
            since,
            look_at,
        }
        | Idle::Busy {
            requests_seen,
            since,
            look_at,
        }) = self.idle
        else {
            return None;
        };
        if look_at > now {
            return None;
        }
        let is_idle = self.activity.is_idle() && !self.activity.head_started.is_set();
        if !is_idle || requests_seen != self.activity.requests_seen() {
            self.idle = self.busy_since(now);
            return None;
        }
        let until = since + self.keep_alive_idle;
        if until <= now {
            return Some(Verdict::Close);
        }
        self.idle = Idle::Quiet {
            requests_seen,
            since,
            look_at: until,
        };
        None
    }
}
