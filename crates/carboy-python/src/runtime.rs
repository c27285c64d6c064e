//! The door for tokio: builds the runtime of a loop's thread.

use std::io;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::ffi::thread_state;

/// A runtime for the thread that calls, which gives back the GIL while it is parked.
///
/// It is built anew by each `run_forever`: it is bound to its thread, and an event loop
/// may be run on one thread now and on another later.
pub(crate) fn new_local_runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .on_thread_park(thread_state::release_while_parked)
        .on_thread_unpark(thread_state::acquire_after_park)
        .build_local(LocalOptions::default())
}

/// A runtime for a thread that never holds the GIL.
pub(crate) fn new_runtime_without_python() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
}

/// Runs a future beside the event loop, on the same thread. It ends with `run_forever`.
///
/// Must be called while the loop runs, on its thread; or on one with a runtime without Python.
pub(crate) fn spawn(future: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(future);
}
