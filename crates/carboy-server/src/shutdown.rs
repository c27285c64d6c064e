//! How a server is told to stop.
//!
//! A shutdown only moves forward:
//!
//! | stage      | what it means                                               |
//! |------------|-------------------------------------------------------------|
//! | `Serving`  | connections are accepted                                    |
//! | `Draining` | nothing new is accepted, what was begun is finished         |
//! | `Forced`   | whatever is still open is broken off at once                |
//!
//! The trigger may be pulled from any thread, a signal handler's thread included.

use tokio::sync::watch;

/// How far a shutdown has come. Later stages compare greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Connections are accepted.
    #[default]
    Serving,
    /// Nothing new is accepted, what was begun is finished.
    Draining,
    /// Whatever is still open is broken off.
    Forced,
}

/// Stops a server. Clones stop the same one.
#[derive(Clone, Debug)]
pub struct ShutdownTrigger(watch::Sender<Stage>);

/// What a server watches to know when to stop.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Stage>);

impl Shutdown {
    /// A trigger and what it triggers.
    pub fn pair() -> (ShutdownTrigger, Self) {
        let (sender, receiver) = watch::channel(Stage::default());
        (ShutdownTrigger(sender), Self(receiver))
    }

    /// Waits until at least this stage is reached. A trigger that was dropped
    /// never reaches a further one.
    pub(crate) async fn reached(&mut self, stage: Stage) {
        if self.0.wait_for(|current| *current >= stage).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl ShutdownTrigger {
    /// Begins a graceful shutdown: nothing that was begun is lost.
    pub fn begin(&self) {
        self.advance(Stage::Draining);
    }

    /// Breaks everything off at once.
    pub fn force(&self) {
        self.advance(Stage::Forced);
    }

    fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|current| {
            let further = stage > *current;
            if further {
                *current = stage;
            }
            further
        });
    }
}
