//! The door for tokio: builds the runtime of a loop's thread.

use std::io;
use std::pin::pin;
use std::task::{Context, Waker};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, LocalOptions, LocalRuntime};

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

/// Runs the driver of an event loop to its end.
///
/// # Errors
///
/// `RuntimeError` if this process was forked by code of a running loop, and its own loop
/// has more to do than to run callbacks. tokio then takes this thread for one that is inside
/// of a runtime and lets it wait for no other. The driver needs no runtime while it is alone.
pub(crate) fn run(runtime: &LocalRuntime, driver: impl Future<Output = ()>) -> PyResult<()> {
    if Handle::try_current().is_err() {
        runtime.block_on(driver);
        return Ok(());
    }
    let _entered = runtime.enter();
    let mut driver = pin!(driver);
    let mut context = Context::from_waker(Waker::noop());
    while driver.as_mut().poll(&mut context).is_pending() {
        if runtime.metrics().num_alive_tasks() > 0 {
            return Err(PyRuntimeError::new_err(
                "this process was forked by code that an event loop ran: carboy's server and \
                 HTTP client can't work here. Start it with multiprocessing's \"spawn\" or \
                 \"forkserver\"",
            ));
        }
    }
    Ok(())
}

/// Runs a future beside the event loop, on the same thread. It ends with `run_forever`.
///
/// Must be called while the loop runs, on its thread; or on one with a runtime without Python.
pub(crate) fn spawn(future: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(future);
}
