//! The one place that starts tasks, and the set of those that hold connections.
//!
//! Everything runs on the loop's own thread. A panic in a connection's task ends
//! that connection and is counted here; it never reaches another one.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::task::{Poll, Waker};

use tokio::task::{JoinError, JoinSet};

/// The tasks that hold connections: HTTP ones and taken-over ones.
#[derive(Debug, Default)]
pub(crate) struct ConnectionSet {
    tasks: RefCell<JoinSet<()>>,
    /// Who waits for a task to end while there is none.
    waiting: RefCell<Option<Waker>>,
}

impl ConnectionSet {
    pub(crate) fn spawn(&self, connection: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().spawn_local(connection);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits for a task to end; `None` when there is none.
    pub(crate) async fn join_next(&self) -> Option<Result<(), JoinError>> {
        poll_fn(|context| self.tasks.borrow_mut().poll_join_next(context)).await
    }

    /// Waits for a task to end, for ever if there is none.
    pub(crate) async fn ended(&self) -> Result<(), JoinError> {
        poll_fn(
            |context| match self.tasks.borrow_mut().poll_join_next(context) {
                Poll::Ready(Some(outcome)) => Poll::Ready(outcome),
                Poll::Ready(None) => {
                    // An empty set wakes nobody.
                    self.waiting.replace(Some(context.waker().clone()));
                    Poll::Pending
                }
                Poll::Pending => Poll::Pending,
            },
        )
        .await
    }

    /// Breaks every task off.
    pub(crate) fn abort_all(&self) {
        self.tasks.borrow_mut().abort_all();
    }
}

/// Starts the task that feeds one request's content to a worker thread.
///
/// It needs no set: it ends with its connection, whose end it reads as an error,
/// or with its reader.
pub(crate) fn spawn_pump(pump: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(pump);
}
