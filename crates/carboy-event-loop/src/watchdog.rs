//! Notices that the thread of a loop does not come back from something it runs.
//!
//! The loop's thread notes in a [`Pulse`] when it begins something and when it is done: two
//! stores, no clock. Another thread looks at the pulse now and then, with a [`Sampler`], which
//! tells a stall when it has seen one and the same thing for too long.
//!
//! # States of a sampler
//!
//! * **watching**: nothing takes long. While the loop waits for events, there is nothing to
//!   look at, and the sampler's thread may sleep until the wait is over
//!   ([`Finding::Parked`]).
//! * **suspecting**: the same thing was seen twice ([`Finding::Suspicion`]).
//! * **stalled**: it was seen for as long as the threshold ([`Finding::Stall`]), until it ends
//!   ([`Finding::End`]).
//!
//! A time in which the sampler's own thread did not run either, because the process was
//! stopped (a debugger, `SIGSTOP`) or the machine had other things to do, counts as one look:
//! it says nothing of the loop.

mod pulse;
mod sampler;

pub use pulse::{Activity, Entered, Pulse, StallStatistics};
pub use sampler::{Finding, Sampler, Stall};
