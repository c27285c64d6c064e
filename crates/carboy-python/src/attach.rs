//! The door for giving back the GIL while a thread waits.
//!
//! The loop's own thread gives it back in the runtime's park hook (`ffi/thread_state.rs`);
//! every other wait goes through here. No lock may be held by the caller.

use pyo3::prelude::*;

/// Runs `wait` with the GIL given back. It must not touch a Python object.
pub(crate) fn detached<T: Send>(py: Python<'_>, wait: impl FnOnce() -> T + Send) -> T {
    py.detach(wait)
}
