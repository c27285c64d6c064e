//! A server: an application, its limits, and the life of everything it opens.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use hyper::server::conn::http1::Builder;
use tokio::time::Instant;

use crate::accept::Acceptor;
use crate::activity::Activity;
use crate::connection_context::{ConnectionContext, ServerState};
use crate::connection_set::ConnectionSet;
use crate::shutdown::Stage;
use crate::socket::Socket;
use crate::{
    Application, ConnectionInfo, Listener, ServerConfig, Shutdown, Statistics, connection,
};

/// Serves one application.
#[derive(Debug)]
pub struct Server<A> {
    application: Rc<A>,
    state: Rc<ServerState>,
    protocol: Builder,
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeOutcome {
    /// Connections broken off before they were done.
    pub forced: usize,
}

impl<A: Application> Server<A> {
    /// A server that is not listening yet.
    pub fn new(application: A, config: ServerConfig) -> Self {
        let protocol = connection::protocol(&config.limits);
        Self {
            application: Rc::new(application),
            state: Rc::new(ServerState::new(config)),
            protocol,
        }
    }

    /// Counters, readable at any time and from any thread.
    pub fn statistics(&self) -> Statistics {
        self.state.statistics.clone()
    }

    /// Serves until the shutdown is complete: everything that was begun has ended,
    /// or was broken off after [`Timeouts::drain`](crate::Timeouts::drain) or by
    /// [`ShutdownTrigger::force`](crate::ShutdownTrigger::force).
    ///
    /// Runs in a `LocalRuntime` or a `LocalSet`. A server serves once.
    ///
    /// # Errors
    ///
    /// When a listener can't be registered with the runtime; nothing was accepted
    /// then.
    pub async fn serve(
        &self,
        listeners: Vec<Listener>,
        mut shutdown: Shutdown,
    ) -> io::Result<ServeOutcome> {
        let acceptors: Vec<Acceptor> = listeners
            .into_iter()
            .map(Acceptor::new)
            .collect::<io::Result<_>>()?;
        let accepting = ConnectionSet::default();
        for acceptor in acceptors {
            let state = Rc::clone(&self.state);
            let start = self.starter();
            accepting.spawn(acceptor.run(state, start));
        }
        let mut forced_by_hand = shutdown.clone();
        let forced_by_hand = forced_by_hand.reached(Stage::Forced);

        self.reap_while(shutdown.reached(Stage::Draining)).await;
        self.state.advance(Stage::Draining);
        let drained = async {
            while accepting.join_next().await.is_some() {}
            while let Some(outcome) = self.state.connections.join_next().await {
                self.count_panic(&outcome);
            }
        };
        let in_time = tokio::time::timeout(self.state.config.timeouts.drain, drained);
        let complete = tokio::select! {
            outcome = in_time => outcome.is_ok(),
            () = forced_by_hand => false,
        };
        let forced = if complete {
            0
        } else {
            self.break_off(&accepting).await
        };
        Ok(ServeOutcome { forced })
    }

    /// What starts an accepted connection.
    fn starter(&self) -> impl Fn(Socket, ConnectionInfo) + 'static {
        let application = Rc::clone(&self.application);
        let state = Rc::clone(&self.state);
        let protocol = self.protocol.clone();
        move |socket, info| {
            let activity = Arc::new(Activity::new(Instant::now()));
            let context = Rc::new(ConnectionContext::open(Rc::clone(&state), info, activity));
            let application = Rc::clone(&application);
            state.connections.spawn(connection::run(
                protocol.clone(),
                application,
                context,
                socket,
            ));
        }
    }

    /// Collects ended connections until `stopped` resolves.
    async fn reap_while(&self, stopped: impl Future<Output = ()>) {
        let mut stopped = std::pin::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => return,
                outcome = self.state.connections.ended() => self.count_panic(&outcome),
            }
        }
    }

    async fn break_off(&self, accepting: &ConnectionSet) -> usize {
        self.state.advance(Stage::Forced);
        accepting.abort_all();
        while accepting.join_next().await.is_some() {}
        let forced = self.state.counters().open_connections.get();
        self.state.connections.abort_all();
        while let Some(outcome) = self.state.connections.join_next().await {
            self.count_panic(&outcome);
        }
        usize::try_from(forced).unwrap_or(usize::MAX)
    }

    fn count_panic(&self, outcome: &Result<(), tokio::task::JoinError>) {
        if outcome
            .as_ref()
            .is_err_and(tokio::task::JoinError::is_panic)
        {
            self.state.counters().panics.increment();
        }
    }
}
