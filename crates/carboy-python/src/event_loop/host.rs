//! Runs the loop's callbacks: the place where a coroutine's later steps are taken.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Instant;

use carboy_event_loop::{Callback, Host, Queues};
use pyo3::intern;
use pyo3::prelude::*;

use super::{NativeEventLoop, QueuedHandle};
use crate::ffi::attached_cell::AttachedCell;
use crate::ffi::thread_state;
use crate::names;

/// Calls back into Python for the driver.
pub(crate) struct PythonHost {
    event_loop: Py<NativeEventLoop>,
    /// The exception that ends the loop: `KeyboardInterrupt`, `SystemExit`.
    failure: std::rc::Rc<std::cell::RefCell<Option<PyErr>>>,
}

impl PythonHost {
    pub(crate) fn new(
        event_loop: Py<NativeEventLoop>,
        failure: std::rc::Rc<std::cell::RefCell<Option<PyErr>>>,
    ) -> Self {
        Self {
            event_loop,
            failure,
        }
    }

    #[cold]
    fn run_timed(&self, py: Python<'_>, callback: &QueuedHandle) -> PyResult<()> {
        let event_loop = self.event_loop.bind(py);
        // asyncio's exception handler says where the callback was made that runs now.
        let current_handle = intern!(py, "_current_handle");
        event_loop.setattr(current_handle, callback.handle())?;
        let started = Instant::now();
        let result = callback.run(py);
        let elapsed_seconds = started.elapsed().as_secs_f64();
        event_loop.setattr(current_handle, py.None())?;
        let threshold_seconds: f64 = event_loop.getattr("slow_callback_duration")?.extract()?;
        if elapsed_seconds >= threshold_seconds {
            let message = format!("Executing %s took {elapsed_seconds:.3} seconds");
            let description = QueuedHandle::describe(callback.object().bind(py))?;
            let logger = names::base_events(py)?.getattr("logger")?;
            logger.call_method1("warning", (message, description))?;
        }
        result
    }
}

/// What the watchdog says of a callback that has held the loop.
fn describe(py: Python<'_>, callback: &QueuedHandle) -> String {
    QueuedHandle::describe(callback.object().bind(py)).unwrap_or_else(|error| error.to_string())
}

impl Host for PythonHost {
    type Callback = QueuedHandle;
    type Guard = AttachedCell<Queues<QueuedHandle>>;

    fn key(&self) -> Python<'_> {
        thread_state::token(self)
    }

    fn run_turn(&mut self, callbacks: &mut VecDeque<QueuedHandle>) -> ControlFlow<()> {
        let py = self.key();
        let event_loop = self.event_loop.bind(py);
        let pulse = event_loop.get().pulse();
        while let Some(callback) = callbacks.pop_front() {
            if callback.is_cancelled() {
                callback.release(py);
                continue;
            }
            let entered = pulse.enter();
            let result = if event_loop.get().is_debug() {
                self.run_timed(py, &callback)
            } else {
                callback.run(py)
            };
            pulse.leave(entered, || describe(py, &callback));
            callback.release(py);
            NativeEventLoop::run_deferred(event_loop);
            if let Err(error) = result {
                self.failure.replace(Some(error));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn park<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        thread_state::parked(wait)
    }

    fn is_stopping(&self) -> bool {
        // Native callbacks alone never come to a place where CPython would look.
        thread_state::check_signals();
        self.event_loop.get().is_stop_requested() || thread_state::has_signal_error()
    }
}
