//! The seam between promises and their owner.

use crate::{Job, Outcome, Resolver};

/// The types of an application of promises, and what only it can do.
///
/// No lock is held during any of these calls.
pub trait Host: Sized + 'static {
    /// What a promise is fulfilled with.
    type Value: Clone + Send + 'static;
    /// What a promise is rejected with.
    type Error: Clone + Send + 'static;
    /// A reaction of the application's own: its code and the promise of its result.
    type Handler: Send + 'static;
    /// Where the jobs of a promise run.
    type Home: Clone + Send + Sync + 'static;
    /// How a combinator's outcomes are put together: as a list, as a map with these keys.
    type Shape: Send + 'static;
    /// What is kept to tell where a promise came from.
    type Origin: Send + Sync + 'static;

    /// Queues a job. Jobs of one home run one after the other, in the order of the calls.
    fn enqueue(home: &Self::Home, job: Job<Self>);

    /// Runs a handler for an outcome.
    fn handle(handler: Self::Handler, outcome: Outcome<Self>);

    /// Where a handler runs.
    fn home_of(handler: &Self::Handler) -> Self::Home;

    /// Whether a handler has code of the application's own for this outcome. Without, its
    /// job may run on any thread.
    fn needs_home(handler: &Self::Handler, outcome: &Outcome<Self>) -> bool;

    /// Settles a combinator's promise with the outcomes of its sources, in their order.
    fn assemble(resolver: &Resolver<Self>, shape: Self::Shape, outcomes: Vec<Outcome<Self>>);

    /// Notes that a promise of this home began to depend on another one.
    fn depends_anew(home: &Self::Home);

    /// Notes that a promise is gone that was rejected without anybody looking.
    fn unhandled(error: Self::Error, origin: &Self::Origin);

    /// The error of a promise that is resolved with itself.
    fn cycle() -> Self::Error;

    /// The error of a promise that nobody waits for any more.
    fn cancellation() -> Self::Error;
}
