//! What holds whatever is done with promises, in whatever order: for programs made at random.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use proptest::prelude::*;

use crate::test_host::{Core, Home, Returned, TestHost, Value, state};
use crate::{Reaction, Resolver, Rule, WeakPromise};

/// What a handler returns, or a promise is settled with. A number stands for one of the
/// promises that exist by then.
#[derive(Clone, Copy, Debug)]
enum Returning {
    Value,
    Error,
    Promise(usize),
}

#[derive(Clone, Debug)]
enum Step {
    Pending,
    Then(usize, Returning),
    Settle(usize, Returning),
    Gather(Rule, Vec<usize>),
    Cancel(usize),
    Forget(usize),
    RunJobs(usize),
}

fn result() -> impl Strategy<Value = Returning> {
    prop_oneof![
        Just(Returning::Value),
        Just(Returning::Error),
        any::<usize>().prop_map(Returning::Promise),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let rule = prop_oneof![
        Just(Rule::All),
        Just(Rule::AllSettled),
        Just(Rule::Any),
        Just(Rule::Race),
    ];
    prop_oneof![
        3 => Just(Step::Pending),
        6 => (any::<usize>(), result()).prop_map(|(source, result)| Step::Then(source, result)),
        4 => (any::<usize>(), result()).prop_map(|(of, result)| Step::Settle(of, result)),
        2 => (rule, prop::collection::vec(any::<usize>(), 0..4))
            .prop_map(|(rule, sources)| Step::Gather(rule, sources)),
        2 => any::<usize>().prop_map(Step::Cancel),
        1 => any::<usize>().prop_map(Step::Forget),
        4 => (0..8_usize).prop_map(Step::RunJobs),
    ]
}

/// What the handlers and the waiters of a program have seen.
#[derive(Default)]
struct Seen {
    /// How often each promise was settled.
    settled: Vec<usize>,
    /// Which promises were cancelled, as opposed to rejected with another one's error.
    cancelled: HashSet<usize>,
    /// The handlers that have run, in their order.
    ran: Vec<usize>,
}

/// A program at work, and what is known of it.
#[derive(Default)]
struct World {
    home: Home,
    promises: Vec<Option<Core>>,
    resolvers: Vec<Option<Resolver<TestHost>>>,
    known: Vec<WeakPromise<TestHost>>,
    outcomes: Vec<String>,
    /// For each handler the promise that it reacts to.
    handlers: Vec<usize>,
    /// Which promise was seen to depend on which one.
    dependencies: HashSet<(usize, usize)>,
    last_job: usize,
    seen: Arc<Mutex<Seen>>,
}

impl World {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&mut self, promise: Core, resolver: Option<Resolver<TestHost>>) {
        let number = self.promises.len();
        self.seen().settled.push(0);
        let seen = Arc::clone(&self.seen);
        promise.react(Reaction::Waiter(Box::new(move || {
            seen.lock().unwrap_or_else(PoisonError::into_inner).settled[number] += 1;
        })));
        let seen = Arc::clone(&self.seen);
        promise.on_cancel(Box::new(move || {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.cancelled.insert(number);
        }));
        self.known.push(promise.downgrade());
        self.outcomes.push("pending".to_owned());
        self.promises.push(Some(promise));
        self.resolvers.push(resolver);
    }

    /// One of the promises below a number, if it is still held.
    fn pick(&self, number: usize, below: usize) -> Option<(usize, Core)> {
        let number = number.checked_rem(below)?;
        Some((number, self.promises[number].clone()?))
    }

    /// What a handler returns when it runs. It does not keep a promise alive: one that waits
    /// for itself would be for ever.
    fn returned(&self, result: Returning) -> impl FnOnce() -> Returned + Send + use<> {
        let promise = match result {
            Returning::Promise(number) => self
                .pick(number, self.promises.len())
                .map(|(_, promise)| promise.downgrade()),
            Returning::Value | Returning::Error => None,
        };
        move || match (result, promise.and_then(|promise| promise.upgrade())) {
            (Returning::Error, _) => Returned::Error("no"),
            (_, Some(promise)) => Returned::Promise(promise),
            (_, None) => Returned::Value(1),
        }
    }

    fn take(&mut self, step: Step) {
        let count = self.promises.len();
        match step {
            Step::Pending => {
                let (promise, resolver) = self.home.pending();
                self.add(promise, Some(resolver));
            }
            Step::Then(source, result) => {
                let Some((source, promise)) = self.pick(source, count) else {
                    return;
                };
                let handler = self.handlers.len();
                self.handlers.push(source);
                let (seen, returned) = (Arc::clone(&self.seen), self.returned(result));
                let made = self.home.then(&promise, move |_| {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.ran.push(handler);
                    drop(seen);
                    returned()
                });
                self.add(made, None);
            }
            Step::Settle(number, result) => {
                let Some(number) = number.checked_rem(count) else {
                    return;
                };
                let Some(resolver) = self.resolvers[number].clone() else {
                    return;
                };
                match result {
                    Returning::Value => {
                        resolver.fulfil(Value::Number(3));
                    }
                    Returning::Error => {
                        resolver.reject("no".to_owned());
                    }
                    // It may wait for this one: then it is told.
                    Returning::Promise(source) => {
                        if let Some((_, source)) = self.pick(source, count) {
                            resolver.follow(&source);
                        }
                    }
                }
            }
            Step::Gather(rule, sources) => {
                let sources = sources
                    .iter()
                    .filter_map(|number| self.pick(*number, count));
                let sources: Vec<_> = sources.map(|(_, promise)| promise).collect();
                let made = self.home.gather(rule, &sources);
                self.add(made, None);
            }
            Step::Cancel(number) => {
                if let Some((number, promise)) = self.pick(number, count)
                    && promise.cancel("given up".to_owned())
                {
                    // Not for want of interest.
                    self.seen().cancelled.remove(&number);
                }
            }
            Step::Forget(number) => {
                if let Some(number) = number.checked_rem(count) {
                    self.promises[number] = None;
                }
            }
            Step::RunJobs(jobs) => {
                for _ in 0..jobs {
                    self.run_one();
                    self.check();
                }
            }
        }
    }

    fn run_one(&mut self) -> bool {
        let Some(number) = self.home.run_one() else {
            return false;
        };
        assert!(
            number > self.last_job,
            "jobs run in the order of their coming"
        );
        self.last_job = number;
        true
    }

    fn is_over(&self, number: usize) -> bool {
        !self.known[number].is_pending()
    }

    /// Looks whether a promise waits for itself, by whatever way.
    fn check_for_cycles(&self) {
        for start in self.known.iter().filter_map(WeakPromise::upgrade) {
            let mut open = start.sources();
            let mut seen = HashSet::new();
            while let Some(promise) = open.pop() {
                assert!(promise != start, "a promise waits for itself");
                if seen.insert(promise.id()) {
                    open.extend(promise.sources());
                }
            }
        }
    }

    fn check(&mut self) {
        self.check_for_cycles();
        for (number, known) in self.known.iter().enumerate() {
            let Some(promise) = known.upgrade() else {
                continue;
            };
            let now = state(&promise);
            let before = std::mem::replace(&mut self.outcomes[number], now.clone());
            assert!(before == "pending" || before == now, "settled is settled");
            // Who comes after the cancellation of a source is told of it in his turn.
            let pending = promise
                .sources()
                .into_iter()
                .filter(|one| !one.is_settled());
            for source in pending {
                let is_it = |known: &WeakPromise<TestHost>| known.is(&source);
                let source = self.known.iter().position(is_it);
                self.dependencies
                    .extend(source.map(|source| (number, source)));
            }
        }
        let seen = self.seen();
        assert!(seen.settled.iter().all(|times| *times <= 1));
        let sources: HashSet<usize> = self
            .dependencies
            .iter()
            .map(|(_, source)| *source)
            .collect();
        for source in sources {
            let all_over = self
                .dependencies
                .iter()
                .all(|(dependent, of)| *of != source || self.is_over(*dependent));
            if all_over {
                assert!(self.is_over(source), "nobody waits for it, and it goes on");
            } else {
                let is_cancelled = seen.cancelled.contains(&source);
                assert!(!is_cancelled, "it was given up, and somebody waits for it");
            }
        }
    }

    /// Settles what can be settled, runs everything, and looks at what has been seen.
    fn end(mut self) {
        for resolver in self.resolvers.iter().flatten() {
            resolver.fulfil(Value::Number(4));
        }
        while self.run_one() {
            self.check();
        }
        let seen = self.seen();
        for (handler, source) in self.handlers.iter().enumerate() {
            let times = seen.ran.iter().filter(|ran| **ran == handler).count();
            assert_eq!(times, seen.settled[*source], "a reaction to each settling");
        }
        for source in 0..self.promises.len() {
            let ran = seen.ran.iter().filter(|ran| self.handlers[**ran] == source);
            assert!(ran.is_sorted(), "reactions in the order of their adding");
        }
        drop(seen);
        self.promises.clear();
        self.resolvers.clear();
        while self.run_one() {}
        let left = self.known.iter().filter(|known| known.upgrade().is_some());
        assert_eq!(left.count(), 0, "nothing is left of what nobody holds");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_with_promises(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::default();
        for step in steps {
            world.take(step);
            world.check();
        }
        world.end();
    }
}
