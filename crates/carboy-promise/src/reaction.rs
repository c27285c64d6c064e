//! What happens when a promise is settled.

use std::fmt;
use std::sync::Arc;

use crate::combinators::Gathering;
use crate::{Host, Promise, Resolver};

/// How a promise was settled.
pub enum Outcome<H: Host> {
    /// With a value.
    Fulfilled(H::Value),
    /// With an error; a cancelled promise with the host's error for that.
    Rejected(H::Error),
}

impl<H: Host> Clone for Outcome<H> {
    fn clone(&self) -> Self {
        match self {
            Self::Fulfilled(value) => Self::Fulfilled(value.clone()),
            Self::Rejected(error) => Self::Rejected(error.clone()),
        }
    }
}

impl<H: Host> fmt::Debug for Outcome<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Fulfilled(_) => "Fulfilled",
            Self::Rejected(_) => "Rejected",
        })
    }
}

/// What waits for a promise.
pub enum Reaction<H: Host> {
    /// The application's own code: `then`.
    Handler(H::Handler),
    /// Another promise, which takes over the outcome.
    Follow(Resolver<H>),
    /// A combinator, of which the promise is the source with this number.
    Element(Arc<Gathering<H>>, usize),
    /// A thread or a task. It is told at once, while the promise is being settled, and
    /// looks for the outcome itself.
    Waiter(Box<dyn Waiting>),
}

impl<H: Host> Reaction<H> {
    /// Whether anything would come of it. Takes no lock.
    pub(crate) fn is_needed(&self) -> bool {
        match self {
            Self::Handler(handler) => !H::result_of(handler).has_been_settled(),
            Self::Follow(resolver) => !resolver.promise().has_been_settled(),
            Self::Element(gathering, _) => !gathering.promise().has_been_settled(),
            Self::Waiter(waiter) => waiter.is_waiting(),
        }
    }
}

/// What is told when a promise is settled. A function can be one.
pub trait Waiting: Send {
    /// Tells it.
    fn notify(self: Box<Self>);

    /// Whether it has not given up waiting. Called under a lock: it must take none.
    fn is_waiting(&self) -> bool {
        true
    }
}

impl<F: FnOnce() + Send> Waiting for F {
    fn notify(self: Box<Self>) {
        self();
    }
}

/// Something that is to be done at the home of a promise, in its turn.
pub enum Job<H: Host> {
    /// Lets a promise, which was resolved with another one, wait for that
    /// (ECMA-262, `NewPromiseResolveThenableJob`).
    Follow {
        /// The right to settle the promise that waits.
        resolver: Resolver<H>,
        /// The promise that is waited for.
        source: Promise<H>,
    },
    /// Reacts to an outcome (ECMA-262, `NewPromiseReactionJob`).
    React {
        /// What is to be done.
        reaction: Reaction<H>,
        /// How the promise was settled.
        outcome: Outcome<H>,
    },
    /// Does what `finally` was given, of a promise that was cancelled.
    CleanUp {
        /// The promise, which is settled.
        promise: Promise<H>,
        /// What is to be done.
        cleanup: H::Cleanup,
    },
}

impl<H: Host> Job<H> {
    /// Whether the job runs code of the application's own.
    pub fn needs_home(&self) -> bool {
        match self {
            Self::React {
                reaction: Reaction::Handler(handler),
                outcome,
            } => H::needs_home(handler, outcome),
            Self::CleanUp { .. } => true,
            Self::React { .. } | Self::Follow { .. } => false,
        }
    }

    /// Does what is to be done.
    pub fn run(self) {
        match self {
            Self::Follow { resolver, source } => source.react(Reaction::Follow(resolver)),
            Self::React { reaction, outcome } => match reaction {
                Reaction::Handler(handler) => H::handle(handler, outcome),
                Reaction::Follow(resolver) => {
                    resolver.settle(outcome);
                }
                Reaction::Element(gathering, index) => gathering.element(index, outcome),
                Reaction::Waiter(waiter) => waiter.notify(),
            },
            Self::CleanUp { promise, cleanup } => H::clean_up(&promise, cleanup),
        }
    }
}
