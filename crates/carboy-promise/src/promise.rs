//! One outcome to come.
//!
//! # States
//!
//! * **pending**, and nothing is decided: whoever holds a [`Resolver`] may decide.
//! * **pending, but resolved** with another promise, or with something that the host waits
//!   for: its fate is that one's. The right to settle it has passed on; the resolvers that
//!   were there before have no effect any more.
//! * **settled**: fulfilled or rejected, for ever.
//!
//! [`Promise::cancel`] leads from both pending states to rejected, whoever has the right.
//! What `finally` was given is done on the way: it waits in the pending state, and is taken
//! out by whoever comes first, the reaction to the source or the cancellation.

mod cycle;
mod resolver;
#[cfg(test)]
mod tests;
mod view;
mod weak;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use resolver::Resolver;
pub use view::View;
pub use weak::WeakPromise;

use crate::interest::{in_turn, turn};
use crate::{Host, Interest, Job, Outcome, Reaction};

/// Below this many reactions those that nothing would come of are not looked for.
const REACTIONS_BEFORE_CLEANUP: usize = 16;

/// Gives up the work for a promise. Called at most once, outside of any lock, on whichever
/// thread cancels the promise.
pub type CancelHook = Box<dyn FnOnce() + Send>;

/// An outcome to come. Clones are the same promise.
pub struct Promise<H: Host>(Arc<Shared<H>>);

struct Shared<H: Host> {
    home: H::Home,
    origin: H::Origin,
    /// Whether it is settled, for those who may not wait for the lock.
    has_been_settled: AtomicBool,
    state: Mutex<State<H>>,
}

struct State<H: Host> {
    phase: Phase<H>,
    /// Whether anybody ever looked at the outcome, or will.
    handled: bool,
    /// What tells of an error if nobody ever looks.
    guard: Option<H::Guard>,
    /// How many are interested in the outcome.
    interested: usize,
    /// How many promises have said that they depend on this one and have not come to react.
    expected: usize,
    /// What came to react while earlier reactions were being queued, to come after them.
    late: Option<Vec<Reaction<H>>>,
}

enum Phase<H: Host> {
    Pending(Pending<H>),
    Settled(Outcome<H>),
}

struct Pending<H: Host> {
    /// Counts how often the right to settle has passed on. A resolver has the right if it
    /// has the same number.
    generation: u32,
    reactions: Vec<Reaction<H>>,
    /// With how many reactions it is time to look for those that nothing would come of: who
    /// waits for a promise that takes long may give up, again and again.
    cleanup_at: usize,
    /// Which promises this one depends on.
    sources: Vec<Interest<H>>,
    on_cancel: Option<CancelHook>,
    cleanup: Option<H::Cleanup>,
}

impl<H: Host> Clone for Promise<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H: Host> PartialEq for Promise<H> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<H: Host> Promise<H> {
    /// A pending promise, and the right to settle it.
    pub fn pending(home: H::Home, origin: H::Origin) -> (Self, Resolver<H>) {
        let pending = Pending {
            generation: 0,
            reactions: Vec::new(),
            cleanup_at: REACTIONS_BEFORE_CLEANUP,
            sources: Vec::new(),
            on_cancel: None,
            cleanup: None,
        };
        let promise = Self::new(home, origin, Phase::Pending(pending));
        let resolver = Resolver::first(promise.clone());
        (promise, resolver)
    }

    /// A promise that is settled already.
    pub fn settled(home: H::Home, origin: H::Origin, outcome: Outcome<H>) -> Self {
        let promise = Self::new(home, origin, Phase::Settled(outcome));
        promise.watch_over();
        promise
    }

    fn new(home: H::Home, origin: H::Origin, phase: Phase<H>) -> Self {
        let state = State {
            phase,
            handled: false,
            guard: None,
            interested: 0,
            expected: 0,
            late: None,
        };
        Self(Arc::new(Shared {
            home,
            origin,
            has_been_settled: AtomicBool::new(matches!(state.phase, Phase::Settled(_))),
            state: Mutex::new(state),
        }))
    }

    /// A reference that does not keep it alive.
    pub fn downgrade(&self) -> WeakPromise<H> {
        WeakPromise::new(self)
    }

    fn state(&self) -> MutexGuard<'_, State<H>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where its jobs run.
    pub fn home(&self) -> &H::Home {
        &self.0.home
    }

    /// Where it came from.
    pub fn origin(&self) -> &H::Origin {
        &self.0.origin
    }

    /// A number that no other promise has while this one exists.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Whether this is the only reference to the promise.
    pub fn is_unique(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// The outcome, if there is one.
    pub fn outcome(&self) -> Option<Outcome<H>> {
        match &self.state().phase {
            Phase::Settled(outcome) => Some(outcome.clone()),
            Phase::Pending(_) => None,
        }
    }

    /// Whether it is settled.
    pub fn is_settled(&self) -> bool {
        matches!(self.state().phase, Phase::Settled(_))
    }

    /// Whether it was settled a moment ago, at least. Takes no lock.
    pub(crate) fn has_been_settled(&self) -> bool {
        self.0.has_been_settled.load(Ordering::Relaxed)
    }

    /// Notes that somebody looks at the outcome: a rejection is not unhandled any more.
    pub fn mark_handled(&self) {
        let guard = {
            let mut state = self.state();
            state.handled = true;
            state.guard.take()
        };
        if let Some(guard) = guard {
            H::disarm(guard);
        }
    }

    /// Sets a guard if the promise was rejected while nobody looked.
    fn watch_over(&self) {
        let error = {
            let state = self.state();
            match &state.phase {
                Phase::Settled(Outcome::Rejected(error)) if !state.handled => error.clone(),
                _ => return,
            }
        };
        let Some(guard) = H::guard(self, error) else {
            return;
        };
        let unneeded = {
            let mut state = self.state();
            if state.handled {
                Some(guard)
            } else {
                state.guard.replace(guard)
            }
        };
        if let Some(guard) = unneeded {
            H::disarm(guard);
        }
    }

    /// Whether it was rejected and nobody looks, as far as is known now.
    pub fn is_unhandled(&self) -> bool {
        let state = self.state();
        !state.handled && matches!(state.phase, Phase::Settled(Outcome::Rejected(_)))
    }

    /// The promises that this one depends on.
    pub fn sources(&self) -> Vec<Self> {
        match &self.state().phase {
            Phase::Pending(pending) => {
                let sources = pending.sources.iter();
                sources.filter_map(Interest::promise).collect()
            }
            Phase::Settled(_) => Vec::new(),
        }
    }

    /// Becomes interested in the outcome.
    pub fn interest(&self) -> Interest<H> {
        self.state().interested += 1;
        Interest::new(self)
    }

    /// Lets somebody be interested who never loses interest.
    pub fn keep(&self) {
        self.state().interested += 1;
    }

    /// Notes that one who was interested is not any more; says whether nobody is now, though
    /// there is no outcome yet.
    pub(crate) fn lose_interest(&self) -> bool {
        let mut state = self.state();
        state.interested -= 1;
        state.interested == 0 && matches!(state.phase, Phase::Pending(_))
    }

    /// Adds a source: this promise loses its interest in it when it is settled. A reaction of
    /// this promise to the source is to follow.
    pub fn depend_on(&self, source: &Self) {
        let interest = {
            let mut state = source.state();
            state.interested += 1;
            state.expected += 1;
            Interest::new(source)
        };
        let unneeded = match &mut self.state().phase {
            Phase::Pending(pending) => {
                pending.sources.push(interest);
                None
            }
            Phase::Settled(_) => Some(interest),
        };
        drop(unneeded);
        H::depends_anew(&self.0.home);
    }

    /// Takes the last source away again, which is not given up.
    fn depend_no_more_on(&self, source: &Self) {
        let interest = match &mut self.state().phase {
            Phase::Pending(pending) => pending.sources.pop_if(|last| last.is_in(source)),
            Phase::Settled(_) => None,
        };
        if let Some(interest) = interest {
            interest.end();
            let mut state = source.state();
            state.expected = state.expected.saturating_sub(1);
        }
    }

    /// Sets what gives up the work when the promise is cancelled. An earlier hook is
    /// replaced. Of a promise that is settled it is dropped.
    pub fn on_cancel(&self, hook: CancelHook) {
        let unneeded = match &mut self.state().phase {
            Phase::Pending(pending) => pending.on_cancel.replace(hook),
            Phase::Settled(_) => Some(hook),
        };
        drop(unneeded);
    }

    /// Sets what is to be done at this promise's home if it is cancelled before somebody has
    /// taken it out again. Of a promise that is settled it is dropped.
    pub fn set_cleanup(&self, cleanup: H::Cleanup) {
        let unneeded = match &mut self.state().phase {
            Phase::Pending(pending) => pending.cleanup.replace(cleanup),
            Phase::Settled(_) => Some(cleanup),
        };
        drop(unneeded);
    }

    /// Takes out what was set to be done on cancellation: it is the caller's to do now, and
    /// nobody else's. None if the promise was cancelled meanwhile.
    pub fn take_cleanup(&self) -> Option<H::Cleanup> {
        match &mut self.state().phase {
            Phase::Pending(pending) => pending.cleanup.take(),
            Phase::Settled(_) => None,
        }
    }

    /// Arranges for a reaction: a job that is queued when the promise is settled, or now if
    /// it is so already.
    pub fn react(&self, reaction: Reaction<H>) {
        self.mark_handled();
        self.observe(reaction);
    }

    /// As [`Promise::react`], for one that does not look at the outcome: an error is told as
    /// long as nobody else looks.
    pub fn observe(&self, reaction: Reaction<H>) {
        let mut locked = self.state();
        let state = &mut *locked;
        let outcome = match &mut state.phase {
            Phase::Pending(pending) => {
                if !matches!(reaction, Reaction::Waiter(_)) {
                    state.expected = state.expected.saturating_sub(1);
                }
                let unneeded = pending.forget_what_is_not_needed();
                pending.reactions.push(reaction);
                drop(locked);
                drop(unneeded);
                return;
            }
            Phase::Settled(outcome) => {
                if let Some(late) = &mut state.late {
                    late.push(reaction);
                    return;
                }
                outcome.clone()
            }
        };
        drop(locked);
        Self::begin(reaction, outcome);
    }

    fn begin(reaction: Reaction<H>, outcome: Outcome<H>) {
        let home = match &reaction {
            Reaction::Waiter(_) => None,
            Reaction::Follow(resolver) => Some(resolver.promise().home().clone()),
            Reaction::Element(gathering, _) => Some(gathering.promise().home().clone()),
            Reaction::Handler(handler) => Some(H::result_of(handler).home().clone()),
        };
        let job = Job::React { reaction, outcome };
        match home {
            Some(home) => H::enqueue(&home, job),
            None => job.run(),
        }
    }

    /// Rejects the promise, whatever was decided before, and gives up the work for it. Says
    /// whether it had not been settled yet.
    ///
    /// The sources come first, then what is to be cleaned up, then the reactions: as an
    /// exception that rises through nested `try` blocks, from the innermost outwards.
    pub fn cancel(&self, error: H::Error) -> bool {
        turn(|| {
            let Some(mut pending) = self.decide(Outcome::Rejected(error), |_| true) else {
                return false;
            };
            self.watch_over();
            if let Some(give_up) = pending.on_cancel.take() {
                give_up();
            }
            // What is passed to `in_turn` last is done first.
            let (promise, reactions) = (self.clone(), std::mem::take(&mut pending.reactions));
            in_turn(Box::new(move || promise.begin_all(reactions)));
            if let Some(cleanup) = pending.cleanup.take() {
                let promise = self.clone();
                in_turn(Box::new(move || {
                    let home = promise.0.home.clone();
                    H::enqueue(&home, Job::CleanUp { promise, cleanup });
                }));
            }
            while let Some(source) = pending.sources.pop() {
                drop(source);
            }
            true
        })
    }

    /// Queues what came meanwhile, until nothing has come.
    fn begin_late(&self, outcome: &Outcome<H>) {
        loop {
            let mut state = self.state();
            match state.late.take() {
                Some(late) if !late.is_empty() => {
                    state.late = Some(Vec::new());
                    drop(state);
                    for reaction in late {
                        Self::begin(reaction, outcome.clone());
                    }
                }
                _ => return,
            }
        }
    }

    /// Queues the reactions to the outcome, and then those that come meanwhile.
    fn begin_all(&self, reactions: Vec<Reaction<H>>) {
        if reactions.is_empty() {
            return;
        }
        if let Some(outcome) = self.outcome() {
            for reaction in reactions {
                Self::begin(reaction, outcome.clone());
            }
            self.begin_late(&outcome);
        }
    }

    /// Settles the promise, and returns what it was as long as it was pending. None if it
    /// was settled already, or may not be.
    fn decide(
        &self,
        outcome: Outcome<H>,
        may: impl FnOnce(&Pending<H>) -> bool,
    ) -> Option<Pending<H>> {
        let mut state = self.state();
        let Phase::Pending(pending) = &state.phase else {
            return None;
        };
        if !may(pending) {
            return None;
        }
        // Whoever comes to react from now on has to wait for those who came before.
        state.late = (!pending.reactions.is_empty()).then(Vec::new);
        self.0.has_been_settled.store(true, Ordering::Relaxed);
        match std::mem::replace(&mut state.phase, Phase::Settled(outcome)) {
            Phase::Pending(pending) => Some(pending),
            Phase::Settled(_) => None,
        }
    }

    fn settle_if(&self, outcome: Outcome<H>, may: impl FnOnce(&Pending<H>) -> bool) -> bool {
        let Some(mut pending) = self.decide(outcome, may) else {
            return false;
        };
        self.watch_over();
        self.begin_all(std::mem::take(&mut pending.reactions));
        // Now the interest in the sources is lost.
        drop(pending);
        true
    }
}

impl<H: Host> Pending<H> {
    /// Takes out the reactions that nothing would come of, if there are many. They are to be
    /// dropped without a lock.
    fn forget_what_is_not_needed(&mut self) -> Vec<Reaction<H>> {
        if self.reactions.len() < self.cleanup_at {
            return Vec::new();
        }
        let reactions = std::mem::take(&mut self.reactions);
        let (needed, unneeded) = reactions.into_iter().partition(Reaction::is_needed);
        self.reactions = needed;
        self.cleanup_at = REACTIONS_BEFORE_CLEANUP.max(2 * self.reactions.len());
        unneeded
    }
}

impl<H: Host> Drop for Shared<H> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Phase::Pending(pending) = &mut state.phase {
            // The reactions of a long chain hold each other.
            let reactions = std::mem::take(&mut pending.reactions);
            if !reactions.is_empty() {
                in_turn(Box::new(move || drop(reactions)));
            }
        }
    }
}
