//! What a promise shows of itself to a garbage collector.

use super::{Phase, Promise};
use crate::{Host, Outcome, Reaction};

/// What a promise shows of itself.
pub enum View<'a, H: Host> {
    /// It is pending.
    Pending {
        /// What waits for it.
        reactions: &'a [Reaction<H>],
        /// What is to be done if it is cancelled.
        cleanup: Option<&'a H::Cleanup>,
    },
    /// It is settled.
    Settled {
        /// How it was settled.
        outcome: &'a Outcome<H>,
        /// What tells of an error if nobody ever looks.
        guard: Option<&'a H::Guard>,
    },
}

impl<H: Host> Promise<H> {
    /// Shows the outcome, or what waits for it, unless the promise is in use right now: for
    /// garbage collectors, which may come at any moment.
    pub fn inspect(&self, see: impl FnOnce(View<'_, H>)) {
        if let Ok(state) = self.0.state.try_lock() {
            see(match &state.phase {
                Phase::Settled(outcome) => View::Settled {
                    outcome,
                    guard: state.guard.as_ref(),
                },
                Phase::Pending(pending) => View::Pending {
                    reactions: &pending.reactions,
                    cleanup: pending.cleanup.as_ref(),
                },
            });
        }
    }
}
