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
    pub(crate) fn promise(&self) -> &Promise<H> {
        self.resolver.promise()
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

#[cfg(test)]
mod tests {
    use super::Rule;
    use crate::test_host::{Core, Home, Value, state};

    const RULES: [Rule; 4] = [Rule::All, Rule::AllSettled, Rule::Any, Rule::Race];

    #[test]
    fn of_nothing() {
        let home = Home::default();
        let states = RULES.map(|rule| state(&home.gather(rule, &[])));
        assert_eq!(states, ["List([])", "List([])", "!", "pending"]);
    }

    #[test]
    fn outcomes_come_in_the_order_of_the_sources() {
        let home = Home::default();
        let (first, of_first) = home.pending();
        let (second, of_second) = home.pending();
        let sources = [first, second, home.rejected("third")];
        let settled = home.gather(Rule::AllSettled, &sources);
        let all = home.gather(Rule::All, &sources[..2]);
        of_second.fulfil(Value::Number(2));
        home.run();
        assert_eq!([state(&settled), state(&all)], ["pending", "pending"]);
        of_first.fulfil(Value::Number(1));
        home.run();
        assert_eq!(state(&all), "List([Number(1), Number(2)])");
        let expected = "List([Number(1), Number(2), Failed(\"third\")])";
        assert_eq!(state(&settled), expected);
    }

    #[test]
    fn the_errors_of_any_come_in_the_order_of_the_sources() {
        let home = Home::default();
        let (first, of_first) = home.pending();
        let (second, of_second) = home.pending();
        let any = home.gather(Rule::Any, &[first, second]);
        of_second.reject("b".to_owned());
        of_first.reject("a".to_owned());
        home.run();
        assert_eq!(state(&any), "!!a !b");
    }

    #[test]
    fn what_decides_lets_the_others_go() {
        for (rule, decision) in [
            (Rule::All, "!no"),
            (Rule::Any, "1"),
            (Rule::Race, "1"),
            (Rule::Race, "!no"),
        ] {
            let home = Home::default();
            let (loser, _resolver) = home.pending();
            let (shared, _shared_resolver) = home.pending();
            let _watcher = home.log_outcome(&shared, "watcher");
            let winner: Core = match decision {
                "1" => home.fulfilled(1),
                _ => home.rejected("no"),
            };
            let combined = home.gather(rule, &[loser.clone(), winner, shared.clone()]);
            home.run();
            assert_eq!(state(&combined), decision);
            assert_eq!([state(&loser), state(&shared)], ["!cancelled", "pending"]);
        }
    }

    #[test]
    fn all_settled_cancels_nothing_until_it_is_cancelled() {
        let home = Home::default();
        let (source, _resolver) = home.pending();
        let settled = home.gather(Rule::AllSettled, &[home.rejected("no"), source.clone()]);
        home.run();
        assert_eq!(state(&source), "pending");
        settled.cancel("given up".to_owned());
        assert_eq!(state(&source), "!cancelled");
    }

    #[test]
    fn one_promise_may_be_several_sources() {
        let home = Home::default();
        let (source, resolver) = home.pending();
        let all = home.gather(Rule::All, &[source.clone(), source.clone()]);
        resolver.fulfil(Value::Number(1));
        home.run();
        assert_eq!(state(&all), "List([Number(1), Number(1)])");
    }
}
