//! What every request of one connection shares, and what all connections share.
//!
//! The context is also the proof that the connection is open: the last part that
//! holds it, a taken-over tunnel perhaps, makes room for another connection.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::activity::Activity;
use crate::admission::RequestLimit;
use crate::connection_set::ConnectionSet;
use crate::shutdown::Stage;
use crate::statistics::{Counters, Statistics};
use crate::{ConnectionInfo, ServerConfig};

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct ServerState {
    pub(crate) config: ServerConfig,
    pub(crate) statistics: Statistics,
    pub(crate) request_limit: RequestLimit,
    pub(crate) connections: ConnectionSet,
    pub(crate) stage: Cell<Stage>,
    /// Wakes every connection and every listener when the stage changes.
    pub(crate) stage_changed: Arc<Notify>,
    /// Wakes listeners that wait for a connection to close.
    pub(crate) connection_closed: Notify,
}

impl ServerState {
    pub(crate) fn new(config: ServerConfig) -> Self {
        Self {
            request_limit: RequestLimit::new(config.request_limit),
            config,
            statistics: Statistics::default(),
            connections: ConnectionSet::default(),
            stage: Cell::default(),
            stage_changed: Arc::default(),
            connection_closed: Notify::new(),
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        self.statistics.counters()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.stage.get() >= Stage::Draining
    }

    /// Moves to a later stage and lets everybody know.
    pub(crate) fn advance(&self, stage: Stage) {
        if stage > self.stage.get() {
            self.stage.set(stage);
            self.counters().drains.increment();
            self.stage_changed.notify_waiters();
        }
    }
}

/// What every request of one connection shares.
#[derive(Debug)]
pub(crate) struct ConnectionContext {
    server: Rc<ServerState>,
    pub(crate) info: Rc<ConnectionInfo>,
    pub(crate) activity: Arc<Activity>,
    /// The peer as it is written into the access log, if there is one.
    pub(crate) peer: Arc<str>,
}

impl ConnectionContext {
    pub(crate) fn open(
        server: Rc<ServerState>,
        info: ConnectionInfo,
        activity: Arc<Activity>,
    ) -> Self {
        let counters = server.counters();
        counters.accepted_connections.increment();
        counters.open_connections.increment();
        let peer = match server.config.access_log {
            Some(_) => info.peer.to_string().into(),
            None => "".into(),
        };
        Self {
            info: Rc::new(info),
            activity,
            peer,
            server,
        }
    }

    pub(crate) fn server(&self) -> &Rc<ServerState> {
        &self.server
    }
}

impl Drop for ConnectionContext {
    fn drop(&mut self) {
        self.server.counters().open_connections.decrement();
        // Every listener: the one that is told first may have no client to let in.
        self.server.connection_closed.notify_waiters();
    }
}
