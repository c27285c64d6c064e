//! One promise out of several: `all`, `allSettled`, `any` and `race`.
//!
//! Each source is reacted to by a job of its own, as if by `then`, so that the order is that
//! of ECMAScript. What the new promise does not wait for any more when it is settled loses
//! its interest: the others of a failed `all`, and the losers of `any` and `race`.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{Host, Outcome, Promise, Reaction, Resolver};

/// Which outcome of several promises becomes the outcome of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// All values, or the first error.
    All,
    /// All outcomes.
    AllSettled,
    /// The first value, or all errors.
    Any,
    /// The first outcome. Of no promises at all it never comes.
    Race,
}

/// A combinator at work.
pub struct Gathering<H: Host> {
    rule: Rule,
    resolver: Resolver<H>,
    progress: Mutex<Progress<H>>,
}

struct Progress<H: Host> {
    outcomes: Vec<Option<Outcome<H>>>,
    missing: usize,
    shape: Option<H::Shape>,
}

impl<H: Host> Gathering<H> {
    pub(crate) fn home(&self) -> &H::Home {
        self.resolver.promise().home()
    }

    pub(crate) fn element(&self, index: usize, outcome: Outcome<H>) {
        let decides = match self.rule {
            Rule::All => matches!(outcome, Outcome::Rejected(_)),
            Rule::AllSettled => false,
            Rule::Any => matches!(outcome, Outcome::Fulfilled(_)),
            Rule::Race => true,
        };
        if decides {
            self.resolver.settle(outcome);
            return;
        }
        let complete = {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.outcomes[index] = Some(outcome);
            progress.missing -= 1;
            if progress.missing > 0 {
                return;
            }
            let outcomes = std::mem::take(&mut progress.outcomes);
            progress.shape.take().map(|shape| (shape, outcomes))
        };
        if let Some((shape, outcomes)) = complete {
            let outcomes = outcomes.into_iter().flatten().collect();
            H::assemble(&self.resolver, shape, outcomes);
        }
    }
}

/// Combines promises into one.
pub fn gather<H: Host>(
    rule: Rule,
    sources: &[Promise<H>],
    shape: H::Shape,
    home: H::Home,
    origin: H::Origin,
) -> Promise<H> {
    let (promise, resolver) = Promise::pending(home, origin);
    if sources.is_empty() {
        if rule != Rule::Race {
            H::assemble(&resolver, shape, Vec::new());
        }
        return promise;
    }
    let progress = Progress {
        outcomes: sources.iter().map(|_| None).collect(),
        missing: sources.len(),
        shape: Some(shape),
    };
    let gathering = Arc::new(Gathering {
        rule,
        resolver,
        progress: Mutex::new(progress),
    });
    for (index, source) in sources.iter().enumerate() {
        promise.depend_on(source);
        source.react(Reaction::Element(Arc::clone(&gathering), index));
    }
    promise
}
