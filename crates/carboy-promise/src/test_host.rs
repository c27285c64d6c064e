//! Promises of numbers, for the tests of this crate: each home has a queue of jobs that a
//! test runs itself, and a log.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{Host, Job, JobQueue, Outcome, Promise, Reaction, Resolver, Rule, gather};

/// A promise of the tests.
pub(crate) type Core = Promise<TestHost>;

/// Promises of numbers.
pub(crate) enum TestHost {}

/// What a promise is fulfilled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number(i64),
    List(Vec<Value>),
    /// An error in a list of outcomes.
    Failed(String),
}

/// What a handler's code says its promise is to become.
pub(crate) enum Returned {
    Value(i64),
    Error(&'static str),
    Promise(Core),
}

/// Writes down an error that nobody has looked at.
pub(crate) struct Guard(Option<(String, Home)>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some((error, home)) = self.0.take() {
            locked(&home.0.unhandled).push(error);
        }
    }
}

type Code = Box<dyn FnOnce(Outcome<TestHost>) -> Returned + Send>;

/// A reaction to an outcome of either kind.
pub(crate) struct Handler {
    code: Code,
    resolver: Resolver<TestHost>,
}

/// Where jobs run: where the test says `run`.
#[derive(Clone, Default)]
pub(crate) struct Home(Arc<HomeState>);

#[derive(Default)]
struct HomeState {
    jobs: JobQueue<(usize, Job<TestHost>)>,
    queued: Mutex<usize>,
    log: Mutex<Vec<String>>,
    unhandled: Mutex<Vec<String>>,
    began_to_depend: Mutex<usize>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Home {
    /// A pending promise and the right to settle it.
    pub(crate) fn pending(&self) -> (Core, Resolver<TestHost>) {
        Core::pending(self.clone(), self.clone())
    }

    /// A promise that is fulfilled.
    pub(crate) fn fulfilled(&self, number: i64) -> Core {
        let outcome = Outcome::Fulfilled(Value::Number(number));
        Core::settled(self.clone(), self.clone(), outcome)
    }

    /// A promise that is rejected.
    pub(crate) fn rejected(&self, error: &str) -> Core {
        Core::settled(
            self.clone(),
            self.clone(),
            Outcome::Rejected(error.to_owned()),
        )
    }

    /// Reacts to either outcome.
    pub(crate) fn then(
        &self,
        source: &Core,
        code: impl FnOnce(Outcome<TestHost>) -> Returned + Send + 'static,
    ) -> Core {
        let (promise, resolver) = self.pending();
        promise.depend_on(source);
        source.react(Reaction::Handler(Handler {
            code: Box::new(code),
            resolver,
        }));
        promise
    }

    /// Reacts to either outcome by a line in the log: the name and the outcome.
    pub(crate) fn log_outcome(&self, source: &Core, name: &str) -> Core {
        let (home, name) = (self.clone(), name.to_owned());
        self.then(source, move |outcome| {
            home.log(format!("{name} {}", describe(&outcome)));
            Returned::Value(0)
        })
    }

    /// Combines promises.
    pub(crate) fn gather(&self, rule: Rule, sources: &[Core]) -> Core {
        gather(rule, sources, rule, self.clone(), self.clone())
    }

    pub(crate) fn log(&self, line: String) {
        locked(&self.0.log).push(line);
    }

    /// The log so far, which is empty afterwards.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut locked(&self.0.log))
    }

    /// The errors that nobody has looked at.
    pub(crate) fn unhandled(&self) -> Vec<String> {
        locked(&self.0.unhandled).clone()
    }

    /// How often a promise began to depend on another one.
    pub(crate) fn began_to_depend(&self) -> usize {
        *locked(&self.0.began_to_depend)
    }

    /// Runs one job, and returns the number that it was queued with.
    pub(crate) fn run_one(&self) -> Option<usize> {
        let ((number, job), turn) = self.0.jobs.next(|_| true)?;
        job.run();
        drop(turn);
        Some(number)
    }

    /// Runs jobs until there is none.
    pub(crate) fn run(&self) {
        while self.run_one().is_some() {}
    }
}

/// Says an outcome in a word.
pub(crate) fn describe(outcome: &Outcome<TestHost>) -> String {
    match outcome {
        Outcome::Fulfilled(Value::Number(number)) => number.to_string(),
        Outcome::Fulfilled(value) => format!("{value:?}"),
        Outcome::Rejected(error) => format!("!{error}"),
    }
}

/// Says what has become of a promise.
pub(crate) fn state(promise: &Core) -> String {
    promise
        .outcome()
        .map_or_else(|| "pending".to_owned(), |outcome| describe(&outcome))
}

impl Host for TestHost {
    type Value = Value;
    type Error = String;
    type Handler = Handler;
    /// A line for the log.
    type Cleanup = String;
    type Guard = Guard;
    type Home = Home;
    type Shape = Rule;
    type Origin = Home;

    fn enqueue(home: &Home, job: Job<Self>) {
        let number = {
            let mut queued = locked(&home.0.queued);
            *queued += 1;
            *queued
        };
        home.0.jobs.push((number, job));
    }

    fn handle(handler: Handler, outcome: Outcome<Self>) {
        match (handler.code)(outcome) {
            Returned::Value(number) => {
                handler.resolver.fulfil(Value::Number(number));
            }
            Returned::Error(error) => {
                handler.resolver.reject(error.to_owned());
            }
            Returned::Promise(promise) => {
                handler.resolver.follow(&promise);
            }
        }
    }

    fn result_of(handler: &Handler) -> &Core {
        handler.resolver.promise()
    }

    fn needs_home(_: &Handler, _: &Outcome<Self>) -> bool {
        true
    }

    fn clean_up(promise: &Core, cleanup: String) {
        promise.home().log(cleanup);
    }

    fn assemble(resolver: &Resolver<Self>, shape: Rule, outcomes: Vec<Outcome<Self>>) {
        if shape == Rule::Any {
            let errors = outcomes.iter().map(describe).collect::<Vec<_>>();
            resolver.reject(errors.join(" "));
            return;
        }
        let values = outcomes.into_iter().map(|outcome| match outcome {
            Outcome::Fulfilled(value) => value,
            Outcome::Rejected(error) => Value::Failed(error),
        });
        resolver.fulfil(Value::List(values.collect()));
    }

    fn depends_anew(home: &Home) {
        *locked(&home.0.began_to_depend) += 1;
    }

    fn guard(promise: &Core, error: String) -> Option<Guard> {
        (error != "cancelled").then(|| Guard(Some((error, promise.home().clone()))))
    }

    fn disarm(mut guard: Guard) {
        guard.0 = None;
    }

    fn cycle(_: &Core, _: &Core) -> String {
        "cycle".to_owned()
    }

    fn cancellation() -> String {
        "cancelled".to_owned()
    }
}
