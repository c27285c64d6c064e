//! Decides **what** a promise's outcome is, and in which order its reactions run; knows
//! nothing of what values, errors and reactions are.
//!
//! The rules are those of Promises/A+ and of ECMAScript's promises (ECMA-262, "Promise
//! Objects"), to the order of the jobs. What is added is interest: a promise knows how
//! many others wait for it, and is cancelled when the last one has lost its interest.
//!
//! # Layout
//!
//! * [`Host`]: the seam to the owner, who knows how to run a reaction and where.
//! * [`Promise`], [`Resolver`]: one outcome to come, and the right to decide it.
//! * [`Reaction`], [`Job`]: what is to happen then.
//! * [`Interest`]: who waits, for cancellation upwards.
//! * [`gather`]: `all`, `allSettled`, `any` and `race`.
//! * [`JobQueue`]: jobs of one owner, first in, first out, one at a time.
#![forbid(unsafe_code)]

mod combinators;
mod host;
mod interest;
mod job_queue;
mod promise;
#[cfg(test)]
mod properties;
mod reaction;
#[cfg(test)]
mod test_host;

pub use combinators::{Rule, gather};
pub use host::Host;
pub use interest::Interest;
pub use job_queue::{JobQueue, Turn};
pub use promise::{CancelHook, Promise, Resolver, View, WeakPromise};
pub use reaction::{Job, Outcome, Reaction, Waiting};
