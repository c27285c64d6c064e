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
use state::{State, Waiter, reap};

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
        self.state.borrow_mut().waiters.push_back(Waiter {
            target: Rc::clone(target),
            grant: sender,
        });
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
        Error::new(
            ErrorKind::PoolTimeout,
            format!(
                "no connection to {} became free within {} s: {} per host and {} in all are in use",
                target.authority(),
                timeout.as_secs_f64(),
                self.limits.connections_per_host,
                self.limits.connections,
            ),
        )
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
