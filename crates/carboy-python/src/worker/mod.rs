//! Worker threads: where `def` code runs.
//!
//! A request with sync code on its way runs whole on one worker, from the push of its
//! context to the last `close()`. Where it meets async code, that part runs on the loop
//! and the worker waits at the bridge. There it may take up another request, on a stack
//! of its own (a greenlet), once no thread is free and none may be added.

mod bridge;
mod pool;
mod slot;
mod thread;

pub(crate) use bridge::{
    add_home_loop, await_on_loop, awaits, enter_again, home_loop, post_to_loop, remove_home_loop,
    wait_for_loop,
};
pub(crate) use pool::{Pool, SlotId, WorkerId};
pub(crate) use slot::{Slot, new_slot_id};
pub(crate) use thread::{
    WorkerPool, current_input, current_promise_owner, current_worker, known_promise_owner,
    wait_at_bridge, with_request_input,
};
