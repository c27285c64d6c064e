//! Promises that would wait for each other.
//!
//! Promises/A+ (2.3.1) and ECMAScript reject a promise that is resolved with itself only;
//! longer cycles wait for ever there, though the former encourages to find them. What a
//! promise is made from exists before it, so that only a promise which is resolved with
//! another one can close a cycle: it is looked for then, and at no other time.
//!
//! It is looked for from both ends at once, among what the other one waits for and among what
//! waits for this one. As a rule one of them is next to nothing: work that has just begun
//! waits for no promise, and what was just made has nobody to wait for it.

use std::collections::HashSet;

use super::{Phase, Promise};
use crate::{Host, Reaction};

/// How many steps are made from one end before the other one is tried.
const FIRST_STEPS: usize = 8;

/// Whether a promise that is about to wait for another one is what that waits for.
pub(super) fn would_close<H: Host>(promise: &Promise<H>, source: &Promise<H>) -> bool {
    // Edges are noted before this is asked, so that of several threads that close a cycle
    // together the last one finds it.
    if !promise.has_somebody_interested() || source.sources().is_empty() {
        return false;
    }
    let mut upwards = Search::new(source);
    for _ in 0..FIRST_STEPS {
        match upwards.step(promise, |at| Some(at.sources())) {
            Step::Found => return true,
            Step::AtEnd => return false,
            Step::Further | Step::Unknown => {}
        }
    }
    let mut downwards = Some(Search::new(promise));
    loop {
        match upwards.step(promise, |at| Some(at.sources())) {
            Step::Found => return true,
            Step::AtEnd => return false,
            Step::Further | Step::Unknown => {}
        }
        let step = downwards
            .as_mut()
            .map(|search| search.step(source, Promise::dependents));
        match step {
            Some(Step::Found) => return true,
            Some(Step::AtEnd) => return false,
            Some(Step::Unknown) => downwards = None,
            Some(Step::Further) | None => {}
        }
    }
}

/// A search through promises that depend on each other, one after the other.
struct Search<H: Host> {
    open: Vec<Promise<H>>,
    seen: HashSet<usize>,
}

enum Step {
    Found,
    Further,
    AtEnd,
    /// What comes next is not known.
    Unknown,
}

impl<H: Host> Search<H> {
    fn new(from: &Promise<H>) -> Self {
        Self {
            open: vec![from.clone()],
            seen: HashSet::new(),
        }
    }

    fn step(
        &mut self,
        wanted: &Promise<H>,
        next: impl FnOnce(&Promise<H>) -> Option<Vec<Promise<H>>>,
    ) -> Step {
        let Some(at) = self.open.pop() else {
            return Step::AtEnd;
        };
        if at == *wanted {
            return Step::Found;
        }
        // As long as it is held here, its number is no other promise's.
        if self.seen.insert(at.id()) {
            match next(&at) {
                Some(found) => self.open.extend(found),
                None => return Step::Unknown,
            }
        }
        Step::Further
    }
}

impl<H: Host> Promise<H> {
    /// Whether anybody ever was interested who has not lost interest.
    fn has_somebody_interested(&self) -> bool {
        self.state().interested > 0
    }

    /// The promises that depend on this one. None if some can't be told yet: they have said
    /// that they depend, and come to react in their turn.
    fn dependents(&self) -> Option<Vec<Self>> {
        let state = self.state();
        let Phase::Pending(pending) = &state.phase else {
            return Some(Vec::new());
        };
        if state.expected > 0 {
            return None;
        }
        let promises = pending.reactions.iter().filter_map(|reaction| {
            Some(match reaction {
                Reaction::Handler(handler) => H::result_of(handler).clone(),
                Reaction::Follow(resolver) => resolver.promise().clone(),
                Reaction::Element(gathering, _) => gathering.promise().clone(),
                Reaction::Waiter(_) => return None,
            })
        });
        Some(promises.collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::test_host::{Home, Returned, state};
    use crate::{Outcome, Reaction, Rule};

    #[test]
    fn two_that_are_resolved_with_each_other_are_rejected() {
        let home = Home::default();
        let (one, of_one) = home.pending();
        let (other, of_other) = home.pending();
        of_one.follow(&other);
        of_other.follow(&one);
        home.run();
        assert_eq!([state(&one), state(&other)], ["!cycle", "!cycle"]);
    }

    #[test]
    fn one_that_is_resolved_with_what_comes_after_it_is_rejected() {
        let home = Home::default();
        let (promise, resolver) = home.pending();
        let after = home.then(&promise, |outcome| match outcome {
            Outcome::Fulfilled(_) => Returned::Value(1),
            Outcome::Rejected(_) => Returned::Error("told"),
        });
        let all = home.gather(Rule::All, std::slice::from_ref(&after));
        resolver.follow(&all);
        home.run();
        assert_eq!(
            [state(&promise), state(&after), state(&all)],
            ["!cycle", "!told", "!told"]
        );
    }

    #[test]
    fn a_handler_that_returns_what_waits_for_it_is_told() {
        let home = Home::default();
        let (ready, resolver) = home.pending();
        let (later, of_later) = home.pending();
        let waits = later.clone();
        let handled = home.then(&ready, move |_| Returned::Promise(waits));
        let after = home.then(&handled, |_| Returned::Value(1));
        of_later.follow(&after);
        resolver.reject("no".to_owned());
        home.run();
        assert_eq!([state(&handled), state(&later)], ["!cycle", "1"]);
    }

    #[test]
    fn a_cycle_may_be_of_any_length() {
        let home = Home::default();
        let (first, resolver) = home.pending();
        let mut last = first.clone();
        for _ in 0..100_000 {
            last = home.then(&last, |_| Returned::Value(1));
        }
        resolver.follow(&last);
        home.run();
        assert_eq!([state(&first), state(&last)], ["!cycle", "1"]);
    }

    #[test]
    fn many_that_wait_for_many_are_not_looked_through_again_and_again() {
        const MANY: usize = 3_000;
        let home = Home::default();
        let (sources, _resolvers): (Vec<_>, Vec<_>) = (0..MANY).map(|_| home.pending()).unzip();
        let barrier = home.gather(Rule::All, &sources);
        let (followers, resolvers): (Vec<_>, Vec<_>) = (0..MANY).map(|_| home.pending()).unzip();
        let _after: Vec<_> = followers
            .iter()
            .map(|follower| home.then(follower, |_| Returned::Value(1)))
            .collect();
        for resolver in &resolvers {
            resolver.follow(&barrier);
        }
        assert_eq!(home.began_to_depend(), 3 * MANY);
        home.run();
        assert_eq!(state(&followers[0]), "pending");
    }

    #[test]
    fn what_a_promise_may_not_follow_is_not_given_up() {
        let home = Home::default();
        let (promise, resolver) = home.pending();
        let (follower, of_follower) = home.pending();
        of_follower.follow(&promise);
        resolver.follow(&follower);
        // It takes the error over in its turn.
        assert_eq!([state(&promise), state(&follower)], ["!cycle", "pending"]);
        home.run();
        assert_eq!(state(&follower), "!cycle");
    }

    #[test]
    fn one_that_only_a_thread_waits_for_closes_none() {
        let home = Home::default();
        let (promise, resolver) = home.pending();
        promise.react(Reaction::Waiter(Box::new(|| {})));
        let _interest = promise.interest();
        let (source, of_source) = home.pending();
        let later = home.then(&source, |_| Returned::Value(2));
        assert!(resolver.follow(&later));
        of_source.reject("no".to_owned());
        home.run();
        assert_eq!(state(&promise), "2");
    }
}
