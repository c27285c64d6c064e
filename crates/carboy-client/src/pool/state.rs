//! What a pool holds, and which connections leave it.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Grant;
use crate::connection::{Http1Connection, Http2Connection};
use crate::target::Target;

/// What more targets than this speak is forgotten.
const MOST_KNOWN_TARGETS: usize = 1000;

#[derive(Default)]
pub(super) struct State {
    pub(super) hosts: HashMap<Rc<Target>, Host>,
    /// Permits that are out: connections that are opening, busy, idle or shared.
    pub(super) open: usize,
    pub(super) waiters: VecDeque<Waiter>,
    /// What targets speak, as far as is known: by their last connection.
    pub(super) spoken: HashMap<Rc<Target>, Spoken>,
    pub(super) reaping: bool,
    pub(super) closed: bool,
}

/// What was spoken on the last connection to a target.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spoken {
    /// A target to which no connection could be opened counts so too, that those who wait all
    /// try at once.
    Http1,
    Http2 {
        /// How many streams the server has allowed.
        streams: usize,
    },
}

#[derive(Default)]
pub(super) struct Host {
    pub(super) open: usize,
    pub(super) opening: usize,
    pub(super) idle: Vec<Http1Connection>,
    pub(super) shared: Vec<Rc<Http2Connection>>,
}

pub(super) struct Waiter {
    pub(super) target: Rc<Target>,
    pub(super) grant: oneshot::Sender<Grant>,
}

/// A connection that nobody uses, on its way out.
pub(super) enum Unused {
    Http1(#[expect(dead_code, reason = "it is kept to be dropped")] Http1Connection),
    Http2(#[expect(dead_code, reason = "it is kept to be dropped")] Rc<Http2Connection>),
}

impl State {
    pub(super) fn learn(&mut self, target: &Rc<Target>, spoken: Spoken) {
        if self.spoken.len() >= MOST_KNOWN_TARGETS {
            self.spoken.clear();
        }
        self.spoken.insert(Rc::clone(target), spoken);
    }

    /// How many streams the target has allowed last.
    pub(super) fn streams_of(&self, target: &Target) -> Option<usize> {
        match self.spoken.get(target) {
            Some(Spoken::Http2 { streams }) => Some(*streams),
            Some(Spoken::Http1) | None => None,
        }
    }

    pub(super) fn take_waiter_for(&mut self, target: &Target) -> Option<Waiter> {
        loop {
            let mut waiters = self.waiters.iter();
            let position = waiters.position(|waiter| *waiter.target == *target)?;
            let waiter = self.waiters.remove(position)?;
            if !waiter.grant.is_closed() {
                return Some(waiter);
            }
        }
    }

    pub(super) fn count_idle(&self) -> usize {
        let idle_of = |host: &Host| {
            let shared = host.shared.iter();
            host.idle.len() + shared.filter(|one| one.streams.get() == 0).count()
        };
        self.hosts.values().map(idle_of).sum()
    }

    pub(super) fn has_idle(&self) -> bool {
        let mut hosts = self.hosts.values();
        hosts.any(|host| {
            let mut shared = host.shared.iter();
            !host.idle.is_empty() || shared.any(|one| one.streams.get() == 0)
        })
    }

    /// The connection that is idle for the longest time, of whichever target: one of HTTP/1.1 if
    /// there is any, which serves one request at a time.
    pub(super) fn take_unused(&mut self) -> Option<Unused> {
        let http1 = self.take_oldest_idle().map(Unused::Http1);
        http1.or_else(|| self.take_oldest_idle_shared().map(Unused::Http2))
    }

    fn take_oldest_idle(&mut self) -> Option<Http1Connection> {
        let oldest = self
            .hosts
            .values_mut()
            .filter(|host| !host.idle.is_empty())
            .min_by_key(|host| host.idle[0].idle_since)?;
        Some(oldest.idle.remove(0))
    }

    /// Takes out idle connections until no more than `most` are left.
    pub(super) fn take_surplus(&mut self, most: usize) -> Vec<Unused> {
        let surplus = self.count_idle().saturating_sub(most);
        (0..surplus).map_while(|_| self.take_unused()).collect()
    }

    fn take_oldest_idle_shared(&mut self) -> Option<Rc<Http2Connection>> {
        let idle = self.hosts.values_mut().filter_map(|host| {
            let is_idle = |shared: &Rc<Http2Connection>| shared.streams.get() == 0;
            let position = host.shared.iter().position(is_idle);
            position.map(|position| (host, position))
        });
        let (host, position) =
            idle.min_by_key(|(host, position)| host.shared[*position].idle_since.get())?;
        Some(host.shared.swap_remove(position))
    }

    /// Takes out the connections to a target that are unused and have ended.
    pub(super) fn take_ended(
        &mut self,
        target: &Target,
    ) -> (Vec<Http1Connection>, Vec<Rc<Http2Connection>>) {
        let Some(host) = self.hosts.get_mut(target) else {
            return (Vec::new(), Vec::new());
        };
        let (ended, kept) = std::mem::take(&mut host.idle)
            .into_iter()
            .partition(Http1Connection::is_closed);
        host.idle = kept;
        let (ended_shared, kept) = std::mem::take(&mut host.shared)
            .into_iter()
            .partition(|shared: &Rc<Http2Connection>| shared.is_closed());
        host.shared = kept;
        (ended, ended_shared)
    }

    /// Takes out what is idle since before `expired`, and says when to look again.
    pub(super) fn take_expired(
        &mut self,
        expired: Instant,
    ) -> (Vec<Http1Connection>, Option<Instant>) {
        let mut taken = Vec::new();
        let mut next = None;
        for host in self.hosts.values_mut() {
            let old = host
                .idle
                .partition_point(|connection| connection.idle_since <= expired);
            taken.extend(host.idle.drain(..old));
            let first = host.idle.first().map(|connection| connection.idle_since);
            next = [next, first].into_iter().flatten().min();
        }
        (taken, next)
    }

    pub(super) fn take_expired_shared(
        &mut self,
        expired: Instant,
    ) -> (Vec<Rc<Http2Connection>>, bool) {
        let mut taken = Vec::new();
        let mut are_any_left = false;
        for host in self.hosts.values_mut() {
            let (old, kept) = std::mem::take(&mut host.shared).into_iter().partition(
                |shared: &Rc<Http2Connection>| {
                    shared.streams.get() == 0
                        && (shared.idle_since.get() <= expired || shared.is_closed())
                },
            );
            taken.extend::<Vec<_>>(old);
            host.shared = kept;
            are_any_left |= !host.shared.is_empty();
        }
        (taken, are_any_left)
    }
}

/// Closes idle connections when their time is up. Ends when there are none.
pub(super) async fn reap(state: Weak<RefCell<State>>, idle_timeout: Duration) {
    let mut look_at = Instant::now() + idle_timeout;
    loop {
        tokio::time::sleep_until(look_at).await;
        let Some(state) = state.upgrade() else { return };
        let now = Instant::now();
        let expired = now.checked_sub(idle_timeout).unwrap_or(now);
        let (taken, taken_shared, next) = {
            let mut state = state.borrow_mut();
            let (taken, next) = state.take_expired(expired);
            let (taken_shared, are_any_left) = state.take_expired_shared(expired);
            let next = next.map(|first| first + idle_timeout);
            let next = next.or(are_any_left.then_some(now + idle_timeout));
            state.reaping = next.is_some();
            (taken, taken_shared, next)
        };
        drop((taken, taken_shared));
        match next {
            Some(next) => look_at = next,
            None => return,
        }
    }
}
