//! Which request gets which connection.
//!
//! A connection to a target is in one of these states:
//!
//! * **opening**: a request has a [`Permit`] and connects;
//! * **busy**: a request has it ([`Lease`]);
//! * **idle** (HTTP/1.1): it waits here, the last one used on top, until its time is up;
//! * **shared** (HTTP/2): it is here while requests use it, as many as it may have streams.
//!
//! There may be so many in total and so many per target; requests that find neither a connection
//! nor room for one more wait in one queue, first come, first served among those that wait for the
//! same thing. What becomes free is handed to them directly, so that nobody overtakes.
//!
//! Nothing is dropped while the state is borrowed: dropping a connection frees its permit, and
//! that looks at the state.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::connection::{self, Http1Connection, Http2Connection};
use crate::settings::{HttpVersions, PoolLimits};
use crate::target::Target;
use crate::{Error, ErrorKind};

mod lease;

pub(crate) use lease::{Lease, Permit};

/// What a request gets.
pub(crate) enum Grant {
    /// A connection that is open.
    Reuse(Lease),
    /// Leave to open one.
    Open(Permit),
}

/// The connections of one client.
#[derive(Clone)]
pub(crate) struct Pool {
    state: Rc<RefCell<State>>,
    limits: PoolLimits,
    versions: HttpVersions,
}

/// What more targets than this speak is forgotten.
const MOST_KNOWN_TARGETS: usize = 1000;

#[derive(Default)]
struct State {
    hosts: HashMap<Rc<Target>, Host>,
    /// Permits that are out: connections that are opening, busy, idle or shared.
    open: usize,
    waiters: VecDeque<Waiter>,
    /// Whether targets speak HTTP/2, as far as is known: by their last connection. One that could
    /// not be opened counts as HTTP/1.1, so that those who wait all try at once.
    speaks_http2: HashMap<Rc<Target>, bool>,
    reaping: bool,
    closed: bool,
}

#[derive(Default)]
struct Host {
    open: usize,
    opening: usize,
    idle: Vec<Http1Connection>,
    shared: Vec<Rc<Http2Connection>>,
}

struct Waiter {
    target: Rc<Target>,
    grant: oneshot::Sender<Grant>,
}

/// How full the pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStatistics {
    /// Connections in all.
    pub connections: usize,
    /// Connections that wait for a request.
    pub idle: usize,
    /// Requests that wait for a connection.
    pub waiting: usize,
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the HTTP client was closed")
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits, versions: HttpVersions) -> Self {
        Self {
            state: Rc::default(),
            limits,
            versions,
        }
    }

    pub(crate) fn statistics(&self) -> PoolStatistics {
        let state = self.state.borrow();
        PoolStatistics {
            connections: state.open,
            idle: state.count_idle(),
            waiting: state
                .waiters
                .iter()
                .filter(|waiter| !waiter.grant.is_closed())
                .count(),
        }
    }

    /// Closes the idle connections now, and the others when their requests end.
    pub(crate) fn close(&self) {
        let (hosts, waiters) = {
            let mut state = self.state.borrow_mut();
            state.closed = true;
            let hosts: Vec<_> = state
                .hosts
                .values_mut()
                .map(|host| {
                    (
                        std::mem::take(&mut host.idle),
                        std::mem::take(&mut host.shared),
                    )
                })
                .collect();
            (hosts, std::mem::take(&mut state.waiters))
        };
        drop(hosts);
        drop(waiters);
    }

    /// Waits for a connection, or for leave to open one.
    ///
    /// # Errors
    ///
    /// `PoolTimeout` when there is none in time, `Closed`.
    pub(crate) async fn acquire(
        &self,
        target: &Rc<Target>,
        timeout: Option<Duration>,
    ) -> Result<Grant, Error> {
        if let Some(grant) = self.acquire_now(target)? {
            return Ok(grant);
        }
        let (sender, receiver) = oneshot::channel();
        self.state.borrow_mut().waiters.push_back(Waiter {
            target: Rc::clone(target),
            grant: sender,
        });
        let granted = match timeout {
            None => receiver.await,
            Some(timeout) => match tokio::time::timeout(timeout, receiver).await {
                Ok(granted) => granted,
                Err(_) => {
                    let limits = &self.limits;
                    let is_full = {
                        let state = self.state.borrow();
                        let hosts_open = state.hosts.get(target).map_or(0, |host| host.open);
                        hosts_open >= limits.connections_per_host
                            || state.open >= limits.connections
                    };
                    if !is_full {
                        // It waited for a connection that many could have shared.
                        let (authority, seconds) = (target.authority(), timeout.as_secs_f64());
                        return Err(Error::new(
                            ErrorKind::ConnectTimeout,
                            format!("no connection to {authority} within {seconds} s"),
                        ));
                    }
                    return Err(Error::new(
                        ErrorKind::PoolTimeout,
                        format!(
                            "no connection to {} became free within {} s: {} per host and {} in \
                             all are in use",
                            target.authority(),
                            timeout.as_secs_f64(),
                            limits.connections_per_host,
                            limits.connections,
                        ),
                    ));
                }
            },
        };
        granted.map_err(|_| closed())
    }

    /// A connection, or leave to open one, if there is one now.
    ///
    /// # Errors
    ///
    /// `Closed`.
    pub(crate) fn acquire_now(&self, target: &Rc<Target>) -> Result<Option<Grant>, Error> {
        if self.state.borrow().closed {
            return Err(closed());
        }
        Ok(self.try_acquire(target))
    }

    fn try_acquire(&self, target: &Rc<Target>) -> Option<Grant> {
        // Dropped after the state is given back.
        let mut dead: Vec<Http1Connection> = Vec::new();
        let mut dead_shared: Vec<Rc<Http2Connection>> = Vec::new();
        let mut evicted = None;
        let grant = {
            let mut state = self.state.borrow_mut();
            let expired = Instant::now().checked_sub(self.limits.idle_timeout);
            let mut found = None;
            if let Some(host) = state.hosts.get_mut(target) {
                while let Some(candidate) = host.idle.pop() {
                    if candidate.is_closed()
                        || expired.is_some_and(|expired| candidate.idle_since < expired)
                    {
                        dead.push(candidate);
                    } else {
                        found = Some(Lease::http1(candidate, self.clone()));
                        break;
                    }
                }
                let mut index = 0;
                while index < host.shared.len() && found.is_none() {
                    if host.shared[index].is_closed() {
                        dead_shared.push(host.shared.swap_remove(index));
                        continue;
                    }
                    if host.shared[index].streams.get() < self.limits.streams_per_connection {
                        let connection = Rc::clone(&host.shared[index]);
                        found = Some(Lease::http2(connection, self.clone()));
                    }
                    index += 1;
                }
            }
            match found {
                Some(lease) => Some(Grant::Reuse(lease)),
                None => {
                    // What is dead still counts, until it is dropped below.
                    let dying = dead.len() + dead_shared.len();
                    if state.open - dying >= self.limits.connections
                        && self.has_room_at(&state, target, dying)
                    {
                        evicted = state.take_oldest_idle();
                    }
                    let dying_elsewhere = usize::from(evicted.is_some());
                    if state.open - dying - dying_elsewhere < self.limits.connections
                        && self.has_room_at(&state, target, dying)
                    {
                        Some(Grant::Open(self.permit(&mut state, target)))
                    } else {
                        None
                    }
                }
            }
        };
        drop((dead, dead_shared, evicted));
        grant
    }

    /// Whether the target may have one more connection.
    fn has_room_at(&self, state: &State, target: &Target, dying: usize) -> bool {
        state.hosts.get(target).is_none_or(|host| {
            host.open - dying < self.limits.connections_per_host
                // The connection that is being opened may do for this request too.
                && !(host.opening > 0 && self.may_share(state, target))
        })
    }

    /// Whether a connection that is being opened to the target may be one for many requests.
    fn may_share(&self, state: &State, target: &Target) -> bool {
        match self.versions {
            HttpVersions::Http1Only => false,
            HttpVersions::Http2Only => true,
            HttpVersions::Negotiated => {
                target.is_tls && state.speaks_http2.get(target).copied().unwrap_or(true)
            }
        }
    }

    fn permit(&self, state: &mut State, target: &Rc<Target>) -> Permit {
        state.open += 1;
        let host = state.hosts.entry(Rc::clone(target)).or_default();
        host.open += 1;
        host.opening += 1;
        Permit {
            pool: Rc::downgrade(&self.state),
            limits: self.limits,
            versions: self.versions,
            target: Rc::clone(target),
            is_opening: Cell::new(true),
        }
    }

    /// Takes an HTTP/1.1 connection into use.
    pub(crate) fn lease(&self, connection: Http1Connection) -> Lease {
        self.opened(connection.permit(), false);
        // Those who waited to see what the target speaks can open theirs.
        self.serve_waiters();
        Lease::http1(connection, self.clone())
    }

    /// Takes an HTTP/2 connection into use, for others too.
    pub(crate) fn share(&self, connection: Http2Connection) -> Lease {
        self.opened(connection.permit(), true);
        let target = Rc::clone(&connection.permit().target);
        let connection = Rc::new(connection);
        let lease = Lease::http2(Rc::clone(&connection), self.clone());
        {
            let mut state = self.state.borrow_mut();
            if let Some(host) = state.hosts.get_mut(&target) {
                host.shared.push(connection);
            }
        }
        self.serve_waiters();
        lease
    }

    fn opened(&self, permit: &Permit, speaks_http2: bool) {
        let mut state = self.state.borrow_mut();
        if let Some(host) = state.hosts.get_mut(&permit.target)
            && permit.is_opening.replace(false)
        {
            host.opening -= 1;
        }
        if permit.target.is_tls {
            state.learn(&permit.target, speaks_http2);
        }
    }

    /// Takes back a connection that can serve the next request.
    fn release(&self, mut connection: Http1Connection) {
        if connection.is_closed() || self.state.borrow().closed {
            return;
        }
        let target = Rc::clone(&connection.permit().target);
        connection.idle_since = Instant::now();
        loop {
            let waiter = self.state.borrow_mut().take_waiter_for(&target);
            let Some(waiter) = waiter else { break };
            let grant = Grant::Reuse(Lease::http1(connection, self.clone()));
            match waiter.grant.send(grant) {
                // Whoever waited has gone: the next one.
                Err(Grant::Reuse(Lease::Http1(returned))) => connection = returned.connection,
                Ok(()) | Err(_) => return,
            }
        }
        let begins_reaping = {
            let mut state = self.state.borrow_mut();
            if let Some(host) = state.hosts.get_mut(&target) {
                host.idle.push(connection);
            }
            !std::mem::replace(&mut state.reaping, true)
        };
        if begins_reaping {
            connection::spawn(reap(Rc::downgrade(&self.state), self.limits.idle_timeout));
        }
        // One of another target may wait for the total to sink: this one may be closed for it.
        self.serve_waiters();
        self.close_surplus();
    }

    /// Closes idle connections of which there are more than may be kept.
    fn close_surplus(&self) {
        if self.limits.idle_connections == usize::MAX {
            return;
        }
        let surplus = {
            let mut state = self.state.borrow_mut();
            state.take_surplus(self.limits.idle_connections)
        };
        drop(surplus);
    }

    /// Gives what is free to those who wait for it, the first ones first.
    fn serve_waiters(&self) {
        loop {
            let candidate = {
                let mut state = self.state.borrow_mut();
                // Those who have gone.
                state.waiters.retain(|waiter| !waiter.grant.is_closed());
                let state = &*state;
                state
                    .waiters
                    .iter()
                    .map(|waiter| Rc::clone(&waiter.target))
                    .enumerate()
                    .find(|(index, target)| {
                        // The first of each target speaks for all of it.
                        let earlier = state.waiters.iter().take(*index);
                        earlier.into_iter().all(|waiter| waiter.target != *target)
                            && self.could_serve(state, target)
                    })
                    .map(|(_, target)| target)
            };
            let Some(target) = candidate else { return };
            let Some(grant) = self.try_acquire(&target) else {
                return;
            };
            let waiter = self.state.borrow_mut().take_waiter_for(&target);
            // Who has gone drops the grant, and that serves the next one.
            if let Some(waiter) = waiter {
                drop(waiter.grant.send(grant));
            }
        }
    }

    fn could_serve(&self, state: &State, target: &Target) -> bool {
        let Some(host) = state.hosts.get(target) else {
            return state.open < self.limits.connections || state.has_idle();
        };
        let has_stream = host.shared.iter().any(|shared| {
            !shared.is_closed() && shared.streams.get() < self.limits.streams_per_connection
        });
        let has_room = self.has_room_at(state, target, 0)
            && (state.open < self.limits.connections || state.has_idle());
        !host.idle.is_empty() || has_stream || has_room
    }
}

impl State {
    fn learn(&mut self, target: &Rc<Target>, speaks_http2: bool) {
        if self.speaks_http2.len() >= MOST_KNOWN_TARGETS {
            self.speaks_http2.clear();
        }
        self.speaks_http2.insert(Rc::clone(target), speaks_http2);
    }

    fn take_waiter_for(&mut self, target: &Target) -> Option<Waiter> {
        loop {
            let mut waiters = self.waiters.iter();
            let position = waiters.position(|waiter| *waiter.target == *target)?;
            let waiter = self.waiters.remove(position)?;
            if !waiter.grant.is_closed() {
                return Some(waiter);
            }
        }
    }

    fn count_idle(&self) -> usize {
        let idle_of = |host: &Host| {
            let shared = host.shared.iter();
            host.idle.len() + shared.filter(|one| one.streams.get() == 0).count()
        };
        self.hosts.values().map(idle_of).sum()
    }

    fn has_idle(&self) -> bool {
        let mut hosts = self.hosts.values();
        hosts.any(|host| !host.idle.is_empty())
    }

    /// The connection that is idle for the longest time, of whichever target.
    fn take_oldest_idle(&mut self) -> Option<Http1Connection> {
        let oldest = self
            .hosts
            .values_mut()
            .filter(|host| !host.idle.is_empty())
            .min_by_key(|host| host.idle[0].idle_since)?;
        Some(oldest.idle.remove(0))
    }

    /// Takes out idle connections until no more than `most` are left: those of HTTP/1.1 first,
    /// which serve one request at a time.
    fn take_surplus(&mut self, most: usize) -> (Vec<Http1Connection>, Vec<Rc<Http2Connection>>) {
        let mut surplus = self.count_idle().saturating_sub(most);
        let (mut taken, mut taken_shared) = (Vec::new(), Vec::new());
        while surplus > 0 {
            if let Some(connection) = self.take_oldest_idle() {
                taken.push(connection);
            } else if let Some(connection) = self.take_oldest_idle_shared() {
                taken_shared.push(connection);
            } else {
                break;
            }
            surplus -= 1;
        }
        (taken, taken_shared)
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
    fn take_ended(&mut self, target: &Target) -> (Vec<Http1Connection>, Vec<Rc<Http2Connection>>) {
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
    fn take_expired(&mut self, expired: Instant) -> (Vec<Http1Connection>, Option<Instant>) {
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

    fn take_expired_shared(&mut self, expired: Instant) -> (Vec<Rc<Http2Connection>>, bool) {
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
async fn reap(state: Weak<RefCell<State>>, idle_timeout: Duration) {
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
