//! `carboy.Promise`: the pure promises of `carboy-promise` with Python values.
//!
//! # For native code that has something to promise
//!
//! [`PendingPromise::new`] gives a pending `Promise` for Python and the right to settle it:
//!
//! ```ignore
//! let (promise, pending) = PendingPromise::new(py, "GET http://…")?;
//! let event_loop = native_loop(py)?;            // Where native work belongs: see there.
//! pending.on_cancel(move || abort_handle.abort());
//! post_to_loop(&event_loop, Box::new(move |py| {
//!     runtime::spawn(async move {
//!         let answer = work().await;
//!         Python::attach(|py| match answer {
//!             Ok(answer) => pending.fulfil(py, answer),
//!             Err(error) => pending.reject(py, error),
//!         });
//!     });
//! }))?;
//! Ok(promise)
//! ```
//!
//! * **Who settles**: any thread, with the GIL held; as a rule the loop's. The first wins;
//!   what comes later, and what comes after a cancellation, has no effect. A
//!   `PendingPromise` that is dropped unsettled rejects its promise, so nobody waits in vain.
//! * **The hook** of `on_cancel` is called at most once: when `cancel()` was called, when the
//!   last one who waited has lost interest, or when the owner's scope has ended. It is
//!   called on whichever thread that happens on, with the GIL held and no lock, and must not
//!   block; tokio's `AbortHandle` fits. Aborting drops the `PendingPromise` of the task; its
//!   promise is settled by then.
//! * **The owner** is who runs when the promise is made: the event loop that runs on this
//!   thread, or else this stack of sync code (a worker's request, or a plain thread).
//!   Handlers run there: on the loop as callbacks, in sync code while it waits in
//!   `result()`. Settling never runs Python handlers by itself.
//! * **The scope** is the request that the promise was made in (`scope.rs`): when it ends, also
//!   because the client goes, what is unfinished is cancelled. Outside of requests it is the process.
//!   A deadline around the work ends it in the same way, so native code needs no clock for it.

mod awaitable;
mod awaiter;
mod causes;
mod chaining;
mod cleanup;
mod combinators;
mod detached;
mod done_callbacks;
mod guard;
mod handler;
mod host;
mod misuse;
mod native_loop;
mod object;
mod origin;
mod owner;
mod pending;
mod request_scope;
mod resolver;
mod scope;
mod scope_object;
mod search;
mod waiter;

pub(crate) use awaiter::PromiseAwaiter;
pub(crate) use causes::keep_causes;
pub(crate) use detached::detached_promises;
pub(crate) use native_loop::native_loop;
pub(crate) use object::{LONGEST_TIMEOUT, Promise, checked_timeout};
pub(crate) use owner::{Owner, call_on_own_stack};
pub(crate) use pending::PendingPromise;
pub(crate) use request_scope::{
    begin_scope_of_request, end_scope_of_request, find_request_scope, prepare_scope_for_async_code,
};
pub(crate) use resolver::PromiseResolver;
pub(crate) use scope_object::PromiseScope;
pub(crate) use search::{holds_promises, promise_of_value};
pub(crate) use waiter::{remaining, wait_in_any_code};
