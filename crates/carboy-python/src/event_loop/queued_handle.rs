//! A handle as the pure loop holds it: in its queue, its heap, or at a descriptor.

use std::sync::atomic::Ordering;

use carboy_event_loop::{Callback, Interest};
use pyo3::prelude::*;

use super::handle::{Handle, TimerHandle};
use super::watched::Watched;
use crate::ffi::{free_list, thread_state};
use crate::names;

/// A handle as the pure loop holds it.
pub(crate) enum QueuedHandle {
    /// From `call_soon`, or of a descriptor.
    Soon(Py<Handle>),
    /// From `call_at`.
    Timer(Py<TimerHandle>),
    /// A descriptor that native code reads or writes is ready.
    Ready(Watched, Interest),
}

impl QueuedHandle {
    /// Runs it; see [`HandleState::run`].
    pub(crate) fn run(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Soon(handle) => handle.get().state.run(py, handle.as_any()),
            Self::Timer(handle) => {
                handle.get().fired.store(true, Ordering::Release);
                handle.get().state.run(py, handle.as_any())
            }
            Self::Ready(watched, interest) => watched.run(py, *interest),
        }
    }

    /// Drops it, on a thread that is known to be attached.
    pub(crate) fn release(self, py: Python<'_>) {
        self.leave_to_collector(py);
        match self {
            Self::Soon(handle) => handle.drop_ref(py),
            Self::Timer(handle) => handle.drop_ref(py),
            Self::Ready(watched, _) => watched.release(py),
        }
    }

    /// Lets the garbage collector know the handle, if there are others who refer to it.
    ///
    /// While a loop runs it holds its handles, and nothing that is reached from it can be
    /// collected. So a handle is made known when the loop lets go of it, and when it ends
    /// its run, which spares the collector most of them.
    pub(crate) fn leave_to_collector(&self, py: Python<'_>) {
        if let Self::Soon(handle) = self {
            free_list::track_shared(handle.bind(py));
        }
    }

    /// Lets the garbage collector know the handle.
    pub(crate) fn make_known(&self, py: Python<'_>) {
        if let Self::Soon(handle) = self {
            free_list::track(handle.bind(py));
        }
    }

    /// The Python object, if it is a handle.
    pub(crate) fn handle(&self) -> Option<&Py<PyAny>> {
        match self {
            Self::Ready(..) => None,
            handle => Some(handle.object()),
        }
    }

    /// The Python object.
    pub(crate) fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Soon(handle) => handle.as_any(),
            Self::Timer(handle) => handle.as_any(),
            Self::Ready(watched, _) => watched.object(),
        }
    }

    /// Cancels it, if it is a handle: native code knows by itself what it waits for.
    pub(crate) fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Ready(watched, _) => watched.cancel(),
            handle => {
                handle.object().call_method0(py, "cancel")?;
            }
        }
        Ok(())
    }

    /// What asyncio's slow-callback log says of it.
    pub(crate) fn describe(object: &Bound<'_, PyAny>) -> PyResult<String> {
        if object.hasattr("_callback")? {
            let description = names::format_handle(object.py())?.call1((object,))?;
            return description.extract();
        }
        Ok(object.repr()?.to_string())
    }
}

impl Callback for QueuedHandle {
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Soon(handle) => handle.get().state.is_cancelled(),
            Self::Timer(handle) => handle.get().state.is_cancelled(),
            Self::Ready(watched, interest) => watched.is_cancelled(*interest),
        }
    }

    fn share(&self) -> Self {
        // The driver asks for it, on the loop's thread. To attach could run finalizers, which
        // must not happen while the queues are in use.
        let py = thread_state::token(self);
        match self {
            Self::Soon(handle) => Self::Soon(handle.clone_ref(py)),
            Self::Timer(handle) => Self::Timer(handle.clone_ref(py)),
            Self::Ready(watched, interest) => Self::Ready(watched.clone_ref(py), *interest),
        }
    }
}
