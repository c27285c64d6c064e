//! When each phase of a call began and ended.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// A clock for one call, handed to whatever takes part in it. The last exchange of the call
/// (after redirects and retries) is the one that is told of; `started` is that of the whole.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    started: Instant,
    acquired: Cell<Option<Instant>>,
    resolved: Cell<Option<Instant>>,
    connect_began: Cell<Option<Instant>>,
    connected: Cell<Option<Instant>>,
    tls_done: Cell<Option<Instant>>,
    exchange_began: Cell<Instant>,
    head: Cell<Option<Instant>>,
    is_resolving: Cell<bool>,
    reused: Cell<bool>,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            acquired: Cell::new(None),
            resolved: Cell::new(None),
            connect_began: Cell::new(None),
            connected: Cell::new(None),
            tls_done: Cell::new(None),
            exchange_began: Cell::new(now),
            head: Cell::new(None),
            is_resolving: Cell::new(false),
            reused: Cell::new(false),
        }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// A further exchange begins: what was noted of the one before is forgotten.
    pub(crate) fn exchange_began(&self, now: Instant) {
        self.exchange_began.set(now);
        self.is_resolving.set(false);
        for moment in [
            &self.acquired,
            &self.resolved,
            &self.connect_began,
            &self.connected,
            &self.tls_done,
            &self.head,
        ] {
            moment.set(None);
        }
    }

    pub(crate) fn acquired(&self, reused: bool) {
        self.reused.set(reused);
        self.acquired.set(Some(Instant::now()));
    }

    pub(crate) fn connect_began(&self) {
        self.connect_began.set(Some(Instant::now()));
    }

    pub(crate) fn resolve_began(&self) {
        self.is_resolving.set(true);
    }

    pub(crate) fn resolved(&self) {
        self.is_resolving.set(false);
        self.resolved.set(Some(Instant::now()));
    }

    /// Whether a name is being looked up.
    pub(crate) fn is_resolving(&self) -> bool {
        self.is_resolving.get()
    }

    pub(crate) fn connected(&self) {
        self.connected.set(Some(Instant::now()));
    }

    pub(crate) fn tls_done(&self) {
        self.tls_done.set(Some(Instant::now()));
    }

    pub(crate) fn head_came(&self) {
        self.head.set(Some(Instant::now()));
    }

    /// The phases so far, with the end of the call now.
    pub(crate) fn read(&self) -> Timings {
        let between = |from: Option<Instant>, to: Option<Instant>| Some(to? - from?);
        let began = Some(self.exchange_began.get());
        let connect_began = self.connect_began.get();
        let sent = self.acquired.get();
        Timings {
            start: self.exchange_began.get() - self.started,
            pool: between(began, connect_began.or(sent)),
            resolve: between(connect_began, self.resolved.get()),
            connect: between(self.resolved.get().or(connect_began), self.connected.get()),
            tls: between(self.connected.get(), self.tls_done.get()),
            head: between(sent, self.head.get()),
            content: between(self.head.get(), Some(Instant::now())),
            total: self.started.elapsed(),
            is_reused: self.reused.get(),
        }
    }
}

/// How long each phase of a call took. A phase that did not happen is `None`: on a reused
/// connection nothing is resolved or connected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// From the start of the call to that of its last exchange: redirects and retries.
    pub start: Duration,
    /// The wait for a connection of the pool.
    pub pool: Option<Duration>,
    /// The name look-up.
    pub resolve: Option<Duration>,
    /// TCP, and what a proxy needs.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From the sending of the request to the end of the response's head.
    pub head: Option<Duration>,
    /// From the head to the last byte read so far.
    pub content: Option<Duration>,
    /// The whole call.
    pub total: Duration,
    /// Whether the connection had served another request before.
    pub is_reused: bool,
}
