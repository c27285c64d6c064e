//! The seam between promises and their owner.

use crate::{Job, Outcome, Promise, Resolver};

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
    /// What `finally` was given: it is done even if the promise is cancelled before its turn
    /// has come.
    type Cleanup: Send + 'static;
    /// What tells, when it is dropped, that nobody has looked at an error.
    type Guard: Send + 'static;
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

    /// The promise that a handler settles. The handler runs at its home, and may be left out
    /// once it is settled otherwise.
    fn result_of(handler: &Self::Handler) -> &Promise<Self>;

    /// Whether a handler has code of the application's own for this outcome. Without, its
    /// job may run on any thread.
    fn needs_home(handler: &Self::Handler, outcome: &Outcome<Self>) -> bool;

    /// Does what was to be done in any case for a promise that was cancelled.
    fn clean_up(promise: &Promise<Self>, cleanup: Self::Cleanup);

    /// Settles a combinator's promise with the outcomes of its sources, in their order.
    fn assemble(resolver: &Resolver<Self>, shape: Self::Shape, outcomes: Vec<Outcome<Self>>);

    /// Notes that a promise of this home began to depend on another one.
    fn depends_anew(home: &Self::Home);

    /// Makes a guard for a promise that was rejected while nobody looked. It is dropped with
    /// the promise.
    fn guard(promise: &Promise<Self>, error: Self::Error) -> Option<Self::Guard>;

    /// Drops a guard that has nothing to tell: somebody looks.
    fn disarm(guard: Self::Guard);

    /// The error of a promise that is resolved with one that waits for it, or with itself.
    fn cycle(promise: &Promise<Self>, source: &Promise<Self>) -> Self::Error;

    /// The error of a promise that nobody waits for any more.
    fn cancellation() -> Self::Error;
}
