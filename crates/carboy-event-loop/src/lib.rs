//! Decides **when** a callback runs, and knows nothing of what a callback is.
//!
//! The semantics are those of CPython's `asyncio.base_events`: first in, first out;
//! a turn runs what was ready when it began, and what is added meanwhile waits for
//! the next; timers fire in the order of their times, and of their creation where
//! the times are equal; descriptors are level-triggered.
//!
//! # Layout
//!
//! * [`Callback`]: the seam to the owner, who knows how to run one.
//! * [`EventLoop`]: the queues, shared by all threads that may add a callback.
//! * [`Guard`]: how those threads exclude each other.
//! * [`ReadyQueue`]: callbacks that are due, and how a driver that waits is woken.
//! * [`TimerHeap`]: callbacks that wait for a time.
//! * [`Poller`]: callbacks that wait for a descriptor.
//! * [`watchdog`]: notices that the loop's thread is stuck.
//! * [`transport`]: what transports decide without knowing whose bytes they carry.
//! * [`Driver`]: the future that makes an [`EventLoop`] run on a tokio runtime;
//!   the only file that names tokio.
#![forbid(unsafe_code)]

mod callback;
mod clock;
mod driver;
mod event_loop;
mod guard;
mod poller;
mod ready_queue;
mod timer_heap;
pub mod transport;
pub mod watchdog;

pub use callback::Callback;
pub use clock::{clock_resolution_seconds, monotonic_seconds};
pub use driver::{Driver, Host, Key};
pub use event_loop::{EventLoop, Queues};
pub use guard::Guard;
pub use poller::{Interest, Poller, Refused};
pub use ready_queue::ReadyQueue;
pub use timer_heap::TimerHeap;
