//! What the loop does natively when a descriptor is ready.

use carboy_event_loop::Interest;
use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::NativeEventLoop;
use super::child::ChildWatch;
use super::datagram::DatagramTransport;
use super::listener::Listener;
use super::pipe::{ReadPipeTransport, WritePipeTransport};
use super::signals::WakeupSocket;
use super::socket_call::SocketCall;
use super::stream::StreamTransport;
use super::system_error::ends_the_loop;

/// Native code that waits for a descriptor.
pub(crate) trait Ready: PyClass {
    /// The loop that watches.
    fn event_loop(&self) -> &Py<NativeEventLoop>;

    /// Whether it no longer wants to hear of this.
    fn is_cancelled(&self, interest: Interest) -> bool;

    /// Somebody else has stopped the watch, or watches the descriptor instead.
    fn cancel(&self) {}

    /// Reads, writes or accepts.
    ///
    /// # Errors
    ///
    /// What the protocol raises, and what ends the loop.
    fn ready(slf: &Bound<'_, Self>, interest: Interest) -> PyResult<()>;
}

/// Declares the kinds of native code that wait for descriptors.
macro_rules! watched {
    ($($(#[$documentation:meta])* $kind:ident($class:ty),)*) => {
        /// Something that is called when its descriptor is ready, without a Python frame.
        pub(crate) enum Watched {
            $($(#[$documentation])* $kind(Py<$class>),)*
        }

        impl Watched {
            /// Whether it no longer wants to hear of this.
            pub(crate) fn is_cancelled(&self, interest: Interest) -> bool {
                match self {
                    $(Self::$kind(object) => Ready::is_cancelled(object.get(), interest),)*
                }
            }

            /// Somebody else has stopped the watch, or watches the descriptor instead.
            pub(crate) fn cancel(&self) {
                match self {
                    $(Self::$kind(object) => Ready::cancel(object.get()),)*
                }
            }

            pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
                match self {
                    $(Self::$kind(object) => Self::$kind(object.clone_ref(py)),)*
                }
            }

            pub(crate) fn object(&self) -> &Py<PyAny> {
                match self {
                    $(Self::$kind(object) => object.as_any(),)*
                }
            }

            /// Drops it, on a thread that is known to be attached.
            pub(crate) fn release(self, py: Python<'_>) {
                match self {
                    $(Self::$kind(object) => object.drop_ref(py),)*
                }
            }

            fn event_loop(&self) -> &Py<NativeEventLoop> {
                match self {
                    $(Self::$kind(object) => Ready::event_loop(object.get()),)*
                }
            }

            fn ready(&self, py: Python<'_>, interest: Interest) -> PyResult<()> {
                match self {
                    $(Self::$kind(object) => Ready::ready(object.bind(py), interest),)*
                }
            }
        }
    };
}

watched! {
    /// A connection.
    Stream(StreamTransport),
    /// A socket that connections arrive at.
    Listener(Listener),
    /// A socket for datagrams.
    Datagram(DatagramTransport),
    /// A socket that somebody waits for with `sock_recv` and its kin.
    Call(SocketCall),
    /// A pipe that is read.
    ReadPipe(ReadPipeTransport),
    /// A pipe that is written.
    WritePipe(WritePipeTransport),
    /// A child process.
    Child(ChildWatch),
    /// The loop's own socket, which signals write to.
    Wakeup(WakeupSocket),
}

impl Watched {
    /// Reads, writes or accepts.
    ///
    /// # Errors
    ///
    /// What ends the loop. Anything else goes to its exception handler.
    pub(crate) fn run(&self, py: Python<'_>, interest: Interest) -> PyResult<()> {
        match self.ready(py, interest) {
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
