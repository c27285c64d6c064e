//! Runs the loop's callbacks: the place where a coroutine's later steps are taken.

use std::ops::ControlFlow;
use std::time::Instant;

use carboy_event_loop::Host;
use pyo3::prelude::*;

use super::{NativeEventLoop, QueuedHandle};
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

    fn run_timed(&self, py: Python<'_>, callback: QueuedHandle) -> PyResult<()> {
        let object = callback.object().clone_ref(py);
        let started = Instant::now();
        let result = callback.run(py);
        let elapsed_seconds = started.elapsed().as_secs_f64();
        let event_loop = self.event_loop.bind(py);
        let threshold_seconds: f64 = event_loop.getattr("slow_callback_duration")?.extract()?;
        if elapsed_seconds >= threshold_seconds {
            let message = format!("Executing %s took {elapsed_seconds:.3} seconds");
            let description = QueuedHandle::describe(object.bind(py))?;
            names::asyncio_logger(py)?.call_method1("warning", (message, description))?;
        }
        result
    }
}

impl Host for PythonHost {
    type Callback = QueuedHandle;

    fn run(&mut self, callback: QueuedHandle) -> ControlFlow<()> {
        // The loop's thread is attached all the time; this only hands out the token.
        Python::attach(|py| {
            let result = if self.event_loop.get().is_debug() {
                self.run_timed(py, callback)
            } else {
                callback.run(py)
            };
            NativeEventLoop::run_deferred(self.event_loop.bind(py));
            match result {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    self.failure.replace(Some(error));
                    ControlFlow::Break(())
                }
            }
        })
    }

    fn park<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        thread_state::parked(wait)
    }

    fn is_stopping(&self) -> bool {
        self.event_loop.get().is_stop_requested() || thread_state::has_signal_error()
    }
}
