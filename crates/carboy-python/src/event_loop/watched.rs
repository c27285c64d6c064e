//! What the loop does natively when a descriptor is ready.

use carboy_event_loop::Interest;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::NativeEventLoop;
use super::listener::Listener;
use super::stream::StreamTransport;
use super::system_error::ends_the_loop;

/// Something that is called when its descriptor is ready, without a Python frame.
pub(crate) enum Watched {
    /// A connection.
    Stream(Py<StreamTransport>),
    /// A socket that connections arrive at.
    Listener(Py<Listener>),
}

impl Watched {
    /// Whether it no longer wants to hear of this.
    pub(crate) fn is_cancelled(&self, interest: Interest) -> bool {
        match self {
            Self::Stream(transport) => !transport.get().watches(interest),
            Self::Listener(listener) => !listener.get().is_active(),
        }
    }

    /// Somebody else has stopped the watch, or watches the descriptor instead.
    pub(crate) fn cancel(&self) {
        match self {
            Self::Stream(_) => {}
            Self::Listener(listener) => listener.get().cancel(),
        }
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Stream(transport) => Self::Stream(transport.clone_ref(py)),
            Self::Listener(listener) => Self::Listener(listener.clone_ref(py)),
        }
    }

    pub(crate) fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Stream(transport) => transport.as_any(),
            Self::Listener(listener) => listener.as_any(),
        }
    }

    /// Drops it, on a thread that is known to be attached.
    pub(crate) fn release(self, py: Python<'_>) {
        match self {
            Self::Stream(transport) => transport.drop_ref(py),
            Self::Listener(listener) => listener.drop_ref(py),
        }
    }

    fn event_loop(&self) -> &Py<NativeEventLoop> {
        match self {
            Self::Stream(transport) => transport.get().event_loop(),
            Self::Listener(listener) => listener.get().event_loop(),
        }
    }

    /// Reads, writes or accepts.
    ///
    /// # Errors
    ///
    /// What ends the loop. Anything else goes to its exception handler.
    pub(crate) fn run(&self, py: Python<'_>, interest: Interest) -> PyResult<()> {
        let result = match self {
            Self::Stream(transport) => StreamTransport::ready(transport.bind(py), interest),
            Self::Listener(listener) => listener.get().ready(py),
        };
        match result {
            Err(error) if !ends_the_loop(py, &error) => {
                let details = PyDict::new(py);
                let object = self.object().bind(py).repr()?;
                details.set_item("message", format!("Exception in callback of {object}"))?;
                details.set_item("exception", error.into_value(py))?;
                let event_loop = self.event_loop().bind(py);
                event_loop.call_method1("call_exception_handler", (details,))?;
                Ok(())
            }
            result => result,
        }
    }
}
