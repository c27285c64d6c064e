//! Giving back the GIL exactly while the runtime is parked.
//!
//! The loop's thread holds the GIL from `run_forever` to its end, and gives it back only in
//! the runtime's park hook: between two tasks there is nothing to pay. While it is given
//! back, this thread runs nothing but the wait of tokio's I/O driver.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::Arc;

use carboy_event_loop::watchdog::Pulse;
use pyo3::ffi;
use pyo3::prelude::*;

thread_local! {
    /// Whether this thread turns a loop now. tokio calls the hooks on no other thread of a
    /// single-threaded runtime; this makes sure of it.
    static DRIVING: Cell<bool> = const { Cell::new(false) };
    /// The thread's state while the GIL is given back, else null.
    static SAVED: Cell<*mut ffi::PyThreadState> = const { Cell::new(ptr::null_mut()) };
    /// Where this thread notes that it is parked, while it turns a loop.
    static PULSE: RefCell<Option<Arc<Pulse>>> = const { RefCell::new(None) };
    /// What a signal's handler raised when the thread came back from a park.
    static SIGNAL_ERROR: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Marks this thread as one that parks with the GIL given back, until dropped.
pub(crate) struct DrivingGuard {
    before: bool,
    pulse_before: Option<Arc<Pulse>>,
}

impl DrivingGuard {
    /// The parks of the thread are noted in `pulse`.
    pub(crate) fn new(_attached: Python<'_>, pulse: Arc<Pulse>) -> Self {
        Self {
            before: DRIVING.replace(true),
            pulse_before: PULSE.replace(Some(pulse)),
        }
    }
}

impl Drop for DrivingGuard {
    fn drop(&mut self) {
        DRIVING.set(self.before);
        PULSE.set(self.pulse_before.take());
    }
}

fn note(what: impl FnOnce(&Pulse)) {
    PULSE.with_borrow(|pulse| {
        if let Some(pulse) = pulse {
            what(pulse);
        }
    });
}

/// Whether this thread turns a loop now, and so must not wait for anything.
pub(crate) fn is_driving() -> bool {
    DRIVING.get()
}

/// Whether the interpreter ends: it tears its modules down, and no other thread runs Python code
/// any more.
pub(crate) fn interpreter_is_ending() -> bool {
    #[cfg(Py_3_13)]
    // SAFETY: It may be called at any time, on any thread, attached or not.
    let is_ending = unsafe { ffi::Py_IsFinalizing() } != 0;
    // The flag that the start of CPython has set is taken back first of all.
    #[cfg(not(Py_3_13))]
    // SAFETY: As above.
    let is_ending = unsafe { ffi::Py_IsInitialized() } == 0;
    is_ending
}

/// The token of the thread that turns a loop, which is attached unless it is parked.
///
/// # Panics
///
/// On any other thread, and while it is parked.
pub(crate) fn token<Owner>(_lifetime: &Owner) -> Python<'_> {
    assert!(
        DRIVING.get() && SAVED.get().is_null(),
        "only the loop's thread has a token, while it is not parked"
    );
    // SAFETY: As the flags say, this thread is inside run_forever, which holds the GIL, and
    // has not given it back. A park needs the owner for itself, so no token outlasts that.
    unsafe { Python::assume_attached() }
}

/// The runtime's park hook: gives back the GIL.
pub(crate) fn release_while_parked() {
    if !DRIVING.get() || !SAVED.get().is_null() {
        return;
    }
    note(Pulse::park);
    // SAFETY: DRIVING says that this thread is inside run_forever and so attached, and SAVED
    // is null, so it was not given back already. Until the unpark hook this thread executes
    // only tokio's I/O driver, which touches no Python object.
    SAVED.set(unsafe { ffi::PyEval_SaveThread() });
}

/// The runtime's unpark hook: takes the GIL again, and runs the handlers of signals that
/// arrived meanwhile.
pub(crate) fn acquire_after_park() {
    let state = SAVED.replace(ptr::null_mut());
    if state.is_null() {
        return;
    }
    note(Pulse::resume);
    // SAFETY: The state came from PyEval_SaveThread on this very thread.
    unsafe { ffi::PyEval_RestoreThread(state) };
    note(Pulse::resumed);
    check_signals();
}

/// Runs the handlers of signals that have arrived, on the main thread. What one raises ends
/// the loop.
pub(crate) fn check_signals() {
    if !DRIVING.get() {
        return;
    }
    // SAFETY: DRIVING says that this thread is inside run_forever, and it is not parked: its
    // callers run on it between two callbacks. So it is attached.
    if unsafe { ffi::PyErr_CheckSignals() } != 0 {
        let error = Python::attach(PyErr::fetch);
        SIGNAL_ERROR.replace(Some(error));
    }
}

/// Runs a wait of the loop's thread with the GIL given back, as a park of the runtime.
pub(crate) fn parked<T>(wait: impl FnOnce() -> T) -> T {
    release_while_parked();
    let result = wait();
    acquire_after_park();
    result
}

/// Whether a signal's handler raised during the last park.
pub(crate) fn has_signal_error() -> bool {
    SIGNAL_ERROR.with_borrow(Option::is_some)
}

/// Takes what a signal's handler raised.
pub(crate) fn take_signal_error() -> Option<PyErr> {
    SIGNAL_ERROR.take()
}
