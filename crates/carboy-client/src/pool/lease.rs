//! A connection in use, and a place among the connections that there may be.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

use http::HeaderMap;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::{Request, Response};
use tokio::time::Instant;

use super::Pool;
use super::state::{Spoken, State, reap};
use crate::activity::Activity;
use crate::connection::{self, Http1Connection, Http2Connection};
use crate::keep_alive::longest_idle_time;
use crate::sending::{Upload, UploadProgress};
use crate::settings::{HttpVersions, PoolLimits};
use crate::target::Target;

/// How long the rest of a request may take to be sent after its response was read to the end. The
/// server has answered without it, and need not ever take it; nor need its source ever end.
const REST_OF_REQUEST_TIME: Duration = Duration::from_secs(1);

/// A request on its way; gives it back if nothing of it was sent.
type Sending =
    Pin<Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>>>>;

/// A place among the connections that there may be. Dropping it gives the place to the next.
pub(crate) struct Permit {
    pub(super) pool: Weak<RefCell<State>>,
    pub(super) limits: PoolLimits,
    pub(super) versions: HttpVersions,
    pub(super) target: Rc<Target>,
    pub(super) is_opening: Rc<Cell<bool>>,
}

impl Permit {
    /// How many streams the target has allowed on its last connection; one if nothing is known.
    pub(crate) fn expected_streams(&self) -> usize {
        let state = self.pool.upgrade();
        let known = state.and_then(|state| state.borrow().streams_of(&self.target));
        known.unwrap_or(1)
    }

    /// What is to be done when the server of this permit's HTTP/2 connection has told how many
    /// streams it allows; says whether anybody waits for one still.
    pub(crate) fn when_told(&self) -> impl Fn(usize) -> bool + 'static {
        let (state, target) = (self.pool.clone(), Rc::clone(&self.target));
        let (limits, versions) = (self.limits, self.versions);
        let is_opening = Rc::clone(&self.is_opening);
        move |streams| {
            let Some(state) = state.upgrade() else {
                return false;
            };
            let pool = Pool {
                state,
                limits,
                versions,
            };
            pool.opened(&target, &is_opening, Spoken::Http2 { streams });
            pool.serve_waiters();
            pool.has_waiters_for(&target)
        }
    }

    /// What is to be done when the connection of this permit has ended: as an unused one it is
    /// not kept.
    pub(crate) fn when_ended(&self) -> impl FnOnce() + 'static {
        let (state, target) = (self.pool.clone(), Rc::clone(&self.target));
        move || {
            let Some(state) = state.upgrade() else { return };
            let ended = state.borrow_mut().take_ended(&target);
            // That frees their permits, which look at the state.
            drop(ended);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(state) = self.pool.upgrade() else {
            return;
        };
        {
            let mut state = state.borrow_mut();
            state.open -= 1;
            if let Some(host) = state.hosts.get_mut(&self.target) {
                host.open -= 1;
                if self.is_opening.get() {
                    host.opening -= 1;
                }
                if host.open == 0 {
                    state.hosts.remove(&self.target);
                }
            }
            if self.is_opening.get() && self.target.is_tls {
                state.learn(&self.target, Spoken::Http1);
            }
        }
        let pool = Pool {
            state,
            limits: self.limits,
            versions: self.versions,
        };
        pool.serve_waiters();
    }
}

/// A connection in use by one request.
pub(crate) enum Lease {
    Http1(Box<Http1Lease>),
    Http2(Http2Lease),
}

/// A connection that nobody else uses.
pub(crate) struct Http1Lease {
    pub(super) connection: Http1Connection,
    pool: Pool,
    /// How far the sending of the last request has come.
    upload: Option<UploadProgress>,
}

/// One stream of a shared connection.
pub(crate) struct Http2Lease {
    pub(crate) connection: Rc<Http2Connection>,
    pool: Pool,
    /// How far the sending of the request has come.
    upload: Option<UploadProgress>,
}

impl Drop for Http2Lease {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.break_off();
        }
        let connection = &self.connection;
        connection.streams.set(connection.streams.get() - 1);
        connection.idle_since.set(Instant::now());
        let (begins_reaping, ended) = {
            let mut state = self.pool.state.borrow_mut();
            let begins = !state.closed && !std::mem::replace(&mut state.reaping, true);
            let is_over = connection.streams.get() == 0 && connection.is_closed();
            let target = &connection.permit().target;
            (begins, is_over.then(|| state.take_ended(target)))
        };
        drop(ended);
        if begins_reaping {
            let state = Rc::downgrade(&self.pool.state);
            connection::spawn(reap(state, self.pool.limits.idle_timeout));
        }
        self.pool.serve_waiters();
        self.pool.close_surplus();
    }
}

impl Lease {
    pub(super) fn http1(connection: Http1Connection, pool: Pool) -> Self {
        Self::Http1(Box::new(Http1Lease {
            connection,
            pool,
            upload: None,
        }))
    }

    pub(super) fn http2(connection: Rc<Http2Connection>, pool: Pool) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self::Http2(Http2Lease {
            connection,
            pool,
            upload: None,
        })
    }

    /// How many requests the connection has been given.
    pub(crate) fn requests(&self) -> u32 {
        match self {
            Self::Http1(lease) => lease.connection.requests,
            Self::Http2(lease) => lease.connection.requests.get(),
        }
    }

    /// What the connection's bytes do.
    pub(crate) fn activity(&self) -> Rc<Activity> {
        match self {
            Self::Http1(lease) => Rc::clone(&lease.connection.activity),
            Self::Http2(lease) => Rc::clone(&lease.connection.activity),
        }
    }

    /// Hands a request to the connection.
    pub(crate) fn send(&mut self, request: Request<Upload>) -> Sending {
        match self {
            Self::Http1(lease) => {
                lease.upload = Some(request.body().progress());
                Box::pin(lease.connection.send(request))
            }
            Self::Http2(lease) => {
                lease.upload = Some(request.body().progress());
                Box::pin(lease.connection.send(request))
            }
        }
    }

    /// How long it took to open the connection.
    pub(crate) fn connect_time(&self) -> Duration {
        match self {
            Self::Http1(lease) => lease.connection.connect_time,
            Self::Http2(lease) => lease.connection.connect_time,
        }
    }

    /// How long the connection was idle.
    pub(crate) fn idle_time(&self) -> Duration {
        match self {
            Self::Http1(lease) => lease.connection.idle_since.elapsed(),
            // One that others use is not idle.
            Self::Http2(lease) if lease.connection.streams.get() > 1 => Duration::ZERO,
            Self::Http2(lease) => lease.connection.idle_since.get().elapsed(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(lease) => lease.connection.is_closed(),
            Self::Http2(lease) => lease.connection.is_closed(),
        }
    }

    /// Notes that a request was given up, and how many bytes had come before it waited. A
    /// connection that is for this request alone is closed in any case.
    pub(crate) fn note_silence(&self, bytes_before: u64) {
        if let Self::Http2(lease) = self
            && lease.connection.activity.bytes_read() == bytes_before
        {
            lease.connection.distrust();
        }
    }

    /// Notes what the server says of how long it keeps the connection (HTTP/1.1).
    pub(crate) fn note_keep_alive(&mut self, headers: &HeaderMap) {
        if let Self::Http1(lease) = self
            && let Some(time) = longest_idle_time(headers)
        {
            lease.connection.longest_idle_time = Some(time);
        }
    }

    /// Notes that the server takes no further requests on this connection.
    pub(crate) fn note_departure(&self) {
        if let Self::Http2(lease) = self {
            lease.connection.distrust();
        }
    }

    /// Gives the connection back: the response was read to its end.
    pub(crate) fn finish(self) {
        match self {
            Self::Http1(lease) => lease.finish(),
            Self::Http2(lease) => lease.finish(),
        }
    }
}

impl Http2Lease {
    /// Gives the stream back when the request was sent, too, or after a while: a server that
    /// wants no more of it should say so (RFC 9113 section 8.1), but need not.
    fn finish(self) {
        let rest = self.upload.clone();
        if let Some(rest) = rest.filter(|upload| !upload.is_complete()) {
            connection::spawn(async move {
                let ended = tokio::time::timeout(REST_OF_REQUEST_TIME, rest.ended());
                ended.await.ok();
                drop(self);
            });
        }
    }
}

impl Http1Lease {
    fn finish(self) {
        let Self {
            mut connection,
            pool,
            upload,
        } = self;
        if connection.is_ready() {
            connection.end_request();
            pool.release(connection);
        } else if !connection.is_closed() {
            let is_sent = upload.is_none_or(|upload| upload.is_complete())
                && connection.activity.write_blocked_since().is_none();
            // hyper has yet to see the end of the request, or to look for the next one.
            connection::spawn(async move {
                let ready = tokio::time::timeout(REST_OF_REQUEST_TIME, connection.ready());
                let is_ready = matches!(ready.await, Ok(true));
                // A server that answers before it has read the request may close the connection
                // then. That is heard of later than the end of the request is written.
                if is_ready && is_sent {
                    connection.end_request();
                    pool.release(connection);
                }
            });
        }
    }
}
