//! Counters that say what a server has done, readable from any thread.
//!
//! Only the loop's thread writes them. That is why an increment is a load and a
//! store instead of an atomic addition, which would cost more than the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Refusal;

/// The counters of one server. Clones read the same ones.
#[derive(Clone, Debug, Default)]
pub struct Statistics(Arc<Counters>);

#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) open_connections: Counter,
    pub(crate) accepted_connections: Counter,
    pub(crate) in_flight_requests: Counter,
    pub(crate) served_requests: Counter,
    pub(crate) broken_responses: Counter,
    pub(crate) length_mismatches: Counter,
    pub(crate) panics: Counter,
    pub(crate) accept_pauses: Counter,
    pub(crate) drains: Counter,
    pub(crate) refusals: Vec<Counter>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            open_connections: Counter::default(),
            accepted_connections: Counter::default(),
            in_flight_requests: Counter::default(),
            served_requests: Counter::default(),
            broken_responses: Counter::default(),
            length_mismatches: Counter::default(),
            panics: Counter::default(),
            accept_pauses: Counter::default(),
            drains: Counter::default(),
            refusals: Refusal::ALL.iter().map(|_| Counter::default()).collect(),
        }
    }
}

impl Statistics {
    /// Whether a shutdown has begun, as a readiness probe wants to know.
    pub fn is_draining(&self) -> bool {
        self.0.drains.get() != 0
    }

    /// Connections open now, taken-over ones included.
    pub fn open_connections(&self) -> u64 {
        self.0.open_connections.get()
    }

    /// Connections accepted since the start.
    pub fn accepted_connections(&self) -> u64 {
        self.0.accepted_connections.get()
    }

    /// Requests that the application is answering now.
    pub fn in_flight_requests(&self) -> u64 {
        self.0.in_flight_requests.get()
    }

    /// Connections open now on which no request is being answered: those that wait for one,
    /// send one, or were taken over.
    pub fn idle_connections(&self) -> u64 {
        self.open_connections()
            .saturating_sub(self.in_flight_requests())
    }

    /// Requests whose response was sent to its end or broken off.
    pub fn served_requests(&self) -> u64 {
        self.0.served_requests.get()
    }

    /// Responses that did not reach their end.
    pub fn broken_responses(&self) -> u64 {
        self.0.broken_responses.get()
    }

    /// Responses whose Content-Length was not the number of bytes.
    pub fn length_mismatches(&self) -> u64 {
        self.0.length_mismatches.get()
    }

    /// Connections that a panic ended.
    pub fn panics(&self) -> u64 {
        self.0.panics.get()
    }

    /// Times that accepting paused because descriptors or connections ran out.
    pub fn accept_pauses(&self) -> u64 {
        self.0.accept_pauses.get()
    }

    /// Requests refused for this reason.
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.0.refusals.get(reason.index()).map_or(0, Counter::get)
    }

    /// Requests refused for any reason.
    pub fn refused_in_total(&self) -> u64 {
        self.0.refusals.iter().map(Counter::get).sum()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0
    }
}

impl Counters {
    pub(crate) fn count_refusal(&self, reason: Refusal) {
        if let Some(counter) = self.refusals.get(reason.index()) {
            counter.increment();
        }
    }
}

/// A number that one thread changes and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn increment(&self) {
        self.0.store(self.get().wrapping_add(1), Ordering::Relaxed);
    }

    pub(crate) fn decrement(&self) {
        self.0.store(self.get().wrapping_sub(1), Ordering::Relaxed);
    }
}
