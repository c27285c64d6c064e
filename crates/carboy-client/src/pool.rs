//! Which request gets which connection.
//!
//! A connection to a target is in one of these states:
//!
//! * **opening**: a request has a [`Permit`] and connects;
//! * **busy**: a request has it ([`Lease`]);
//! * **idle** (HTTP/1.1): it waits here, the last one used on top, until its time is up;
//! * **shared** (HTTP/2): it is here while requests use it, as many as it may have streams by the
//!   server's word and ours. Where all are taken, another connection is opened.
//!
//! There may be so many in total and so many per target; requests that find neither a connection
//! nor room for one more wait in one queue, first come, first served among those that wait for the
//! same thing. What becomes free is handed to them directly, so that nobody overtakes.
//!
//! Nothing is dropped while the state is borrowed: dropping a connection frees its permit, and
//! that looks at the state.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::connection::{self, Http1Connection, Http2Connection};
use crate::settings::{HttpVersions, PoolLimits, Timeouts};
use crate::target::Target;
use crate::{Error, ErrorKind};

mod lease;
mod state;

pub(crate) use lease::{Lease, Permit};
use state::{Spoken, State, Waiter, reap};

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

    /// Waits for a connection, or for leave to open one: as long as the pool's timeout says while
    /// all are in use, and as connecting may take while one is opened that many can share.
    ///
    /// # Errors
    ///
    /// `PoolTimeout` or `ConnectTimeout` when there is none in time, `Closed`.
    pub(crate) async fn acquire(
        &self,
        target: &Rc<Target>,
        timeouts: &Timeouts,
    ) -> Result<Grant, Error> {
        if let Some(grant) = self.acquire_now(target)? {
            return Ok(grant);
        }
        let began = Instant::now();
        let (sender, mut receiver) = oneshot::channel();
        {
            let mut state = self.state.borrow_mut();
            state.waiters.push_back(Waiter {
                target: Rc::clone(target),
                grant: sender,
            });
            if let Some(host) = state.hosts.get(target) {
                // The server may come to allow more streams.
                host.shared.iter().for_each(|one| one.activity.watch(true));
            }
        }
        let Some(pool_timeout) = timeouts.pool else {
            return receiver.await.map_err(|_| closed());
        };
        if let Ok(granted) = tokio::time::timeout(pool_timeout, &mut receiver).await {
            return granted.map_err(|_| closed());
        }
        if self.is_full_for(target) {
            return Err(self.pool_timeout(target, pool_timeout));
        }
        let Some(connect_timeout) = timeouts.connect else {
            return receiver.await.map_err(|_| closed());
        };
        let timeout = pool_timeout.max(connect_timeout);
        let granted = match began.checked_add(timeout) {
            None => receiver.await,
            Some(at) => match tokio::time::timeout_at(at, receiver).await {
                Ok(granted) => granted,
                Err(_) => {
                    let (authority, seconds) = (target.authority(), timeout.as_secs_f64());
                    return Err(Error::new(
                        ErrorKind::ConnectTimeout,
                        format!("no connection to {authority} within {seconds} s"),
                    ));
                }
            },
        };
        granted.map_err(|_| closed())
    }

    /// Whether all connections that the target may have are in use.
    fn is_full_for(&self, target: &Target) -> bool {
        let state = self.state.borrow();
        let open_there = state.hosts.get(target).map_or(0, |host| host.open);
        open_there >= self.limits.connections_per_host || state.open >= self.limits.connections
    }

    fn pool_timeout(&self, target: &Target, timeout: Duration) -> Error {
        let (authority, seconds) = (target.authority(), timeout.as_secs_f64());
        let (per_host, in_all) = (self.limits.connections_per_host, self.limits.connections);
        let state = self.state.borrow();
        let shared = state.hosts.get(target).map(|host| &host.shared[..]);
        let message = match shared {
            None | Some([]) => format!(
                "no connection to {authority} became free within {seconds} s: {per_host} per host \
                 and {in_all} in all are in use"
            ),
            Some(shared) => {
                let streams: usize = shared.iter().map(|one| self.streams_of(one)).sum();
                let connections = shared.len();
                format!(
                    "no HTTP/2 stream to {authority} became free within {seconds} s: the \
                     connections there, {connections}, take {streams} calls at a time; there may \
                     be {per_host} per host and {in_all} in all"
                )
            }
        };
        Error::new(ErrorKind::PoolTimeout, message)
    }

    /// How many requests may use a connection at a time.
    fn streams_of(&self, shared: &Http2Connection) -> usize {
        let allowed = shared.streams_allowed();
        allowed.min(self.limits.streams_per_connection)
    }

    fn has_stream(&self, shared: &Http2Connection) -> bool {
        shared.streams.get() < self.streams_of(shared)
    }

    fn has_waiters_for(&self, target: &Target) -> bool {
        let state = self.state.borrow();
        let mut waiters = state.waiters.iter();
        waiters.any(|waiter| *waiter.target == *target && !waiter.grant.is_closed())
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
            let (now, idle_timeout) = (Instant::now(), self.limits.idle_timeout);
            let mut found = None;
            if let Some(host) = state.hosts.get_mut(target) {
                while let Some(candidate) = host.idle.pop() {
                    if candidate.is_closed() || candidate.is_expired(now, idle_timeout) {
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
                    if self.has_stream(&host.shared[index]) {
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
                    let unused = dead_shared.iter().filter(|one| one.streams.get() == 0);
                    let dying = dead.len() + unused.count();
                    if state.open - dying >= self.limits.connections
                        && self.has_room_at(&state, target, dying)
                    {
                        evicted = state.take_unused();
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
                target.is_tls && !matches!(state.spoken.get(target), Some(Spoken::Http1))
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
            is_opening: Rc::new(Cell::new(true)),
        }
    }

    /// Takes an HTTP/1.1 connection into use.
    pub(crate) fn lease(&self, connection: Http1Connection) -> Lease {
        let permit = connection.permit();
        self.opened(&permit.target, &permit.is_opening, Spoken::Http1);
        // Those who waited to see what the target speaks can open theirs.
        self.serve_waiters();
        Lease::http1(connection, self.clone())
    }

    /// Takes an HTTP/2 connection into use, for others too: at once where it is known how many
    /// streams the server allows, else when it has told. Those who wait meanwhile would be
    /// refused if they were more.
    pub(crate) fn share(&self, connection: Http2Connection) -> Lease {
        let target = Rc::clone(&connection.permit().target);
        let known = self.state.borrow().streams_of(&target);
        if let Some(streams) = known {
            let is_opening = &connection.permit().is_opening;
            self.opened(&target, is_opening, Spoken::Http2 { streams });
        }
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

    fn opened(&self, target: &Rc<Target>, is_opening: &Cell<bool>, spoken: Spoken) {
        let mut state = self.state.borrow_mut();
        if let Some(host) = state.hosts.get_mut(target)
            && is_opening.replace(false)
        {
            host.opening -= 1;
        }
        if target.is_tls || matches!(spoken, Spoken::Http2 { .. }) {
            state.learn(target, spoken);
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
        let mut shared = host.shared.iter();
        let has_stream = shared.any(|one| !one.is_closed() && self.has_stream(one));
        let has_room = self.has_room_at(state, target, 0)
            && (state.open < self.limits.connections || state.has_idle());
        !host.idle.is_empty() || has_stream || has_room
    }
}
