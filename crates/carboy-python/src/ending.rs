//! Whether the process ends.
//!
//! At its end CPython runs what was registered with `atexit`, and then tears its modules down,
//! while other threads hang as soon as they ask for the GIL: nobody is left who could make a call
//! or settle a promise, and whoever waits for that would wait for ever. Before CPython 3.14 it
//! doesn't let these threads hang but unwinds their stacks, which native code doesn't survive. So
//! daemon threads are kept out from the moment that carboy is told of the end.

use std::sync::OnceLock;
use std::thread::{self, ThreadId};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::ffi::thread_state::interpreter_is_ending;

/// The thread that ends the process, once it does.
static ENDED_BY: OnceLock<ThreadId> = OnceLock::new();

/// Note that the process ends: called by the thread that ends it, from ``atexit``.
#[pyfunction]
pub(crate) fn note_end_of_process() {
    ENDED_BY.set(thread::current().id()).ok();
}

fn is_ended_by_another_thread() -> bool {
    let is_elsewhere = |ended_by: &ThreadId| *ended_by != thread::current().id();
    ENDED_BY.get().is_some_and(is_elsewhere)
}

/// Keeps a thread that has waited, without the GIL, when another one ends the process meanwhile:
/// what it has waited for was given up, and it would not get far.
pub(crate) fn hang_if_ended() {
    while is_ended_by_another_thread() {
        thread::park();
    }
}

/// Checks that there is somebody who makes calls and settles promises still.
///
/// # Errors
///
/// `RuntimeError` when the interpreter ends, or for any other thread than the one that ends it.
pub(crate) fn check_not_ending() -> PyResult<()> {
    if interpreter_is_ending() {
        return Err(PyRuntimeError::new_err(
            "the interpreter is ending: no thread is left that could make an HTTP call or settle \
             a promise (is this called by a __del__ method? Close what it closes before the end)",
        ));
    }
    if is_ended_by_another_thread() {
        return Err(PyRuntimeError::new_err(
            "the process is ending: daemon threads can make no HTTP call and wait for no promise \
             any more",
        ));
    }
    Ok(())
}
