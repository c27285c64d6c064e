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

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::interest::in_turn;
use crate::{Host, Interest, Job, Outcome, Reaction};

/// Gives up the work for a promise. Called at most once, outside of any lock, on whichever
/// thread cancels the promise.
pub type CancelHook = Box<dyn FnOnce() + Send>;

/// An outcome to come. Clones are the same promise.
pub struct Promise<H: Host>(Arc<Shared<H>>);

struct Shared<H: Host> {
    home: H::Home,
    origin: H::Origin,
    state: Mutex<State<H>>,
}

struct State<H: Host> {
    phase: Phase<H>,
    /// Whether anybody ever looked at the outcome, or will.
    handled: bool,
    /// How many are interested in the outcome.
    interested: usize,
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
    /// Which promises this one depends on.
    sources: Vec<Interest<H>>,
    on_cancel: Option<CancelHook>,
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
            sources: Vec::new(),
            on_cancel: None,
        };
        let promise = Self::new(home, origin, Phase::Pending(pending));
        let resolver = Resolver {
            promise: promise.clone(),
            generation: 0,
        };
        (promise, resolver)
    }

    /// A promise that is settled already.
    pub fn settled(home: H::Home, origin: H::Origin, outcome: Outcome<H>) -> Self {
        Self::new(home, origin, Phase::Settled(outcome))
    }

    fn new(home: H::Home, origin: H::Origin, phase: Phase<H>) -> Self {
        let state = State {
            phase,
            handled: false,
            interested: 0,
            late: None,
        };
        Self(Arc::new(Shared {
            home,
            origin,
            state: Mutex::new(state),
        }))
    }

    /// A reference that does not keep it alive.
    pub fn downgrade(&self) -> WeakPromise<H> {
        WeakPromise(Arc::downgrade(&self.0))
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

    /// Shows the outcome, or what waits for it, unless the promise is in use right now: for
    /// garbage collectors, which may come at any moment.
    pub fn inspect(&self, see: impl FnOnce(Option<&Outcome<H>>, &[Reaction<H>])) {
        if let Ok(state) = self.0.state.try_lock() {
            match &state.phase {
                Phase::Settled(outcome) => see(Some(outcome), &[]),
                Phase::Pending(pending) => see(None, &pending.reactions),
            }
        }
    }

    /// Notes that somebody looks at the outcome: a rejection is not unhandled any more.
    pub fn mark_handled(&self) {
        self.state().handled = true;
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

    /// Notes that one who was interested is not any more; says whether nobody is now, though
    /// there is no outcome yet.
    pub(crate) fn lose_interest(&self) -> bool {
        let mut state = self.state();
        state.interested -= 1;
        state.interested == 0 && matches!(state.phase, Phase::Pending(_))
    }

    /// Adds a source: this promise loses its interest in it when it is settled.
    pub fn depend_on(&self, source: &Self) {
        let interest = source.interest();
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

    /// Sets what gives up the work when the promise is cancelled. An earlier hook is
    /// replaced. Of a promise that is settled it is dropped.
    pub fn on_cancel(&self, hook: CancelHook) {
        let unneeded = match &mut self.state().phase {
            Phase::Pending(pending) => pending.on_cancel.replace(hook),
            Phase::Settled(_) => Some(hook),
        };
        drop(unneeded);
    }

    /// Arranges for a reaction: a job that is queued when the promise is settled, or now if
    /// it is so already.
    pub fn react(&self, reaction: Reaction<H>) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.handled = true;
        let outcome = match &mut state.phase {
            Phase::Pending(pending) => {
                pending.reactions.push(reaction);
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
        drop(guard);
        Self::begin(reaction, outcome);
    }

    fn begin(reaction: Reaction<H>, outcome: Outcome<H>) {
        let home = match &reaction {
            Reaction::Waiter(_) => None,
            Reaction::Follow(resolver) => Some(resolver.promise.home().clone()),
            Reaction::Element(gathering, _) => Some(gathering.home().clone()),
            Reaction::Handler(handler) => Some(H::home_of(handler)),
        };
        let job = Job::React { reaction, outcome };
        match home {
            Some(home) => H::enqueue(&home, job),
            None => job.run(),
        }
    }

    /// Rejects the promise, whatever was decided before, and gives up the work for it. Says
    /// whether it had not been settled yet.
    pub fn cancel(&self, error: H::Error) -> bool {
        let mut on_cancel = None;
        let cancelled = self.settle_if(Outcome::Rejected(error), |pending| {
            on_cancel = pending.on_cancel.take();
            true
        });
        if let Some(give_up) = on_cancel {
            give_up();
        }
        cancelled
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

    fn settle_if(&self, outcome: Outcome<H>, may: impl FnOnce(&mut Pending<H>) -> bool) -> bool {
        let mut state = self.state();
        let Phase::Pending(pending) = &mut state.phase else {
            return false;
        };
        if !may(pending) {
            return false;
        }
        let reactions = std::mem::take(&mut pending.reactions);
        let for_reactions = (!reactions.is_empty()).then(|| outcome.clone());
        let unneeded = std::mem::replace(&mut state.phase, Phase::Settled(outcome));
        state.late = for_reactions.is_some().then(Vec::new);
        drop(state);
        if let Some(outcome) = for_reactions {
            for reaction in reactions {
                Self::begin(reaction, outcome.clone());
            }
            self.begin_late(&outcome);
        }
        // Now the interest in the sources is lost.
        drop(unneeded);
        true
    }
}

/// A promise that others keep alive.
pub struct WeakPromise<H: Host>(Weak<Shared<H>>);

impl<H: Host> WeakPromise<H> {
    /// The promise, if it still exists.
    pub fn upgrade(&self) -> Option<Promise<H>> {
        self.0.upgrade().map(Promise)
    }

    /// Whether it still exists and is not settled.
    pub fn is_pending(&self) -> bool {
        self.upgrade().is_some_and(|promise| !promise.is_settled())
    }

    /// Whether it is this one.
    pub fn is(&self, promise: &Promise<H>) -> bool {
        self.0.as_ptr() == Arc::as_ptr(&promise.0)
    }
}

impl<H: Host> Drop for Shared<H> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        match &mut state.phase {
            Phase::Settled(Outcome::Rejected(error)) if !state.handled => {
                H::unhandled(error.clone(), &self.origin);
            }
            Phase::Settled(_) => {}
            Phase::Pending(pending) => {
                // The reactions of a long chain hold each other.
                let reactions = std::mem::take(&mut pending.reactions);
                if !reactions.is_empty() {
                    in_turn(Box::new(move || drop(reactions)));
                }
            }
        }
    }
}

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
    /// wait for itself: then it is rejected.
    pub fn follow(&self, source: &Promise<H>) -> bool {
        if *source == self.promise {
            return self.reject(H::cycle());
        }
        let Some(resolver) = self.pass_on() else {
            return false;
        };
        self.promise.depend_on(source);
        let source = source.clone();
        H::enqueue(&self.promise.0.home, Job::Follow { resolver, source });
        true
    }
}
