//! The right to settle a promise.

use super::{Phase, Promise, cycle};
use crate::{Host, Job, Outcome};

/// The right to settle a promise, which is used up by the first use of it or of a clone.
pub struct Resolver<H: Host> {
    promise: Promise<H>,
    generation: u32,
}

impl<H: Host> Clone for Resolver<H> {
    fn clone(&self) -> Self {
        Self {
            promise: self.promise.clone(),
            generation: self.generation,
        }
    }
}

impl<H: Host> Resolver<H> {
    /// The right to settle a new promise.
    pub(super) fn first(promise: Promise<H>) -> Self {
        Self {
            promise,
            generation: 0,
        }
    }

    /// The promise that it is for.
    pub fn promise(&self) -> &Promise<H> {
        &self.promise
    }

    /// Settles the promise; says whether this resolver had the right to.
    pub fn settle(&self, outcome: Outcome<H>) -> bool {
        let generation = self.generation;
        self.promise
            .settle_if(outcome, |pending| pending.generation == generation)
    }

    /// Fulfils the promise; says whether this resolver had the right to.
    pub fn fulfil(&self, value: H::Value) -> bool {
        self.settle(Outcome::Fulfilled(value))
    }

    /// Rejects the promise; says whether this resolver had the right to.
    pub fn reject(&self, error: H::Error) -> bool {
        self.settle(Outcome::Rejected(error))
    }

    /// Gives the right away: this resolver and its clones lose it, and the one that is
    /// returned has it. None if it was lost before.
    #[must_use]
    pub fn pass_on(&self) -> Option<Self> {
        match &mut self.promise.state().phase {
            Phase::Pending(pending) if pending.generation == self.generation => {
                pending.generation += 1;
                Some(Self {
                    promise: self.promise.clone(),
                    generation: pending.generation,
                })
            }
            _ => None,
        }
    }

    /// Resolves the promise with another one, whose outcome it takes over. A promise can't
    /// wait for itself, or for one that waits for it: then it is rejected.
    pub fn follow(&self, source: &Promise<H>) -> bool {
        if *source == self.promise {
            return self.reject(H::cycle(&self.promise, source));
        }
        let Some(resolver) = self.pass_on() else {
            return false;
        };
        self.promise.depend_on(source);
        if cycle::would_close(&self.promise, source) {
            // The source is to be told the reason, and not given up.
            self.promise.depend_no_more_on(source);
            return resolver.reject(H::cycle(&self.promise, source));
        }
        let source = source.clone();
        H::enqueue(&self.promise.0.home, Job::Follow { resolver, source });
        true
    }
}
