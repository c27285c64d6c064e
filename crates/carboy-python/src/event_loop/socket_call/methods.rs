//! The methods of the loop.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use pyo3::prelude::*;

use super::SocketCall;
use super::operation::Operation;
use crate::event_loop::NativeEventLoop;

#[pymethods]
impl NativeEventLoop {
    /// Receives at most `n` bytes.
    fn sock_recv(slf: &Bound<'_, Self>, sock: Py<PyAny>, n: Py<PyAny>) -> SocketCall {
        SocketCall::new(slf, sock, Operation::Receive { size: n })
    }

    /// Receives into a buffer, and says how many bytes that were.
    fn sock_recv_into(slf: &Bound<'_, Self>, sock: Py<PyAny>, buf: Py<PyAny>) -> SocketCall {
        SocketCall::new(slf, sock, Operation::ReceiveInto { buffer: buf })
    }

    /// Receives a datagram of at most `bufsize` bytes, with its sender's address.
    fn sock_recvfrom(slf: &Bound<'_, Self>, sock: Py<PyAny>, bufsize: Py<PyAny>) -> SocketCall {
        SocketCall::new(slf, sock, Operation::ReceiveFrom { size: bufsize })
    }

    /// Receives a datagram into a buffer; gives its length and its sender's address.
    #[pyo3(
        signature = (sock, buf, nbytes = None),
        text_signature = "($self, sock, buf, nbytes=0)"
    )]
    fn sock_recvfrom_into(
        slf: &Bound<'_, Self>,
        sock: Py<PyAny>,
        buf: Py<PyAny>,
        nbytes: Option<Py<PyAny>>,
    ) -> SocketCall {
        let operation = Operation::ReceiveFromInto {
            buffer: buf,
            size: nbytes,
        };
        SocketCall::new(slf, sock, operation)
    }

    /// Sends all of the data.
    fn sock_sendall(slf: &Bound<'_, Self>, sock: Py<PyAny>, data: Py<PyAny>) -> SocketCall {
        let operation = Operation::SendAll {
            data,
            view: Mutex::new(None),
            sent_bytes: AtomicUsize::new(0),
        };
        SocketCall::new(slf, sock, operation)
    }

    /// Sends a datagram, and says how many bytes that were.
    fn sock_sendto(
        slf: &Bound<'_, Self>,
        sock: Py<PyAny>,
        data: Py<PyAny>,
        address: Py<PyAny>,
    ) -> SocketCall {
        SocketCall::new(slf, sock, Operation::SendTo { data, address })
    }

    /// Connects a socket. A host may be a name.
    fn sock_connect(slf: &Bound<'_, Self>, sock: Py<PyAny>, address: Py<PyAny>) -> SocketCall {
        let operation = Operation::Connect {
            address: Mutex::new(address),
        };
        SocketCall::new(slf, sock, operation)
    }

    /// Accepts a connection; gives its socket and the peer's address.
    fn sock_accept(slf: &Bound<'_, Self>, sock: Py<PyAny>) -> SocketCall {
        SocketCall::new(slf, sock, Operation::Accept)
    }
}
