//! From the protocol to the socket: at once if the socket takes it, else when it is ready.

use std::io;

use carboy_event_loop::Interest;
use carboy_event_loop::transport::Datagram;
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::net::SendFlags;

use super::DatagramTransport;
use super::state::Destination;
use crate::event_loop::endpoint::is_os_error;
use crate::event_loop::payload::{self, Piece};
use crate::event_loop::socket_address;
use crate::event_loop::system_error::{ends_the_loop, is_try_again, os_error};
use crate::ffi::descriptor;
use crate::names;

/// Datagrams on a transport that was closed are logged from this one on, as in asyncio.
const LOGGED_LOST_DATAGRAMS: usize = 5;

/// What became of a datagram.
enum Sent {
    Done,
    /// The socket takes nothing now.
    Again,
    Failed(PyErr),
}

impl Sent {
    fn of(py: Python<'_>, result: io::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(error) if is_try_again(&error) => Self::Again,
            Err(error) => Self::Failed(os_error(py, &error)),
        }
    }
}

impl DatagramTransport {
    pub(super) fn send_datagram(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        destination: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let is_empty = payload::with_data(data, |bytes, _| bytes.is_empty())?;
        if is_empty && !this.sends_empty {
            return Ok(());
        }
        let address = this.check_destination(py, destination)?;
        if this.is_lost() {
            return this.count_lost(py);
        }
        let destination = this.read_destination(py, address);
        if this.state().queue.is_empty() {
            let sent = match &destination {
                Destination::Other(address) => this.send_by_python(py, data, address),
                native => payload::with_data(data, |bytes, _| {
                    Sent::of(py, this.send_natively(bytes, native))
                })?,
            };
            match sent {
                Sent::Done => return Ok(()),
                Sent::Again => {
                    let watched = Self::watched(slf);
                    this.endpoint.watch(py, Interest::Write, watched)?;
                }
                Sent::Failed(error) => return Self::send_failed(slf, error),
            }
        }
        let payload = Piece::of(data)?;
        let signal = {
            let mut state = this.state();
            state.queue.push(Datagram {
                payload,
                destination,
            });
            let queued_bytes = state.queue.length_bytes();
            state.flow.after_growth(queued_bytes)
        };
        this.endpoint.signal(slf.as_any(), signal)
    }

    /// The address to send to, where there is a choice.
    fn check_destination<'py>(
        &self,
        py: Python<'py>,
        destination: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(only) = &self.address else {
            return Ok(destination.cloned());
        };
        let only = only.bind(py);
        if let Some(destination) = destination
            && !destination.is(only)
            && !destination.eq(only)?
        {
            return Err(PyValueError::new_err(format!(
                "Invalid address: must be None or {only}"
            )));
        }
        Ok(Some(only.clone()))
    }

    /// Whether nothing more is sent. Who may send anywhere may do so until the very end.
    fn is_lost(&self) -> bool {
        (self.address.is_some() && self.state().lost_count > 0) || !self.socket.is_open()
    }

    fn count_lost(&self, py: Python<'_>) -> PyResult<()> {
        let count = {
            let mut state = self.state();
            state.lost_count += 1;
            state.lost_count - 1
        };
        if count >= LOGGED_LOST_DATAGRAMS {
            let logger = names::asyncio_logger(py)?;
            logger.call_method1("warning", ("socket.send() raised exception.",))?;
        }
        Ok(())
    }

    fn read_destination(&self, py: Python<'_>, address: Option<Bound<'_, PyAny>>) -> Destination {
        if self.is_connected {
            return Destination::Peer;
        }
        let Some(address) = address else {
            // asyncio has no way to send here, where uvloop sends.
            return if self.has_peer {
                Destination::Peer
            } else {
                Destination::Other(py.None())
            };
        };
        {
            let state = self.state();
            if let Some((sender, object)) = &state.last_sender
                && object.is(&address)
            {
                return Destination::Address(sender.clone());
            }
        }
        match socket_address::from_python(&address, self.family) {
            Some(address) => Destination::Address(address),
            None => Destination::Other(address.unbind()),
        }
    }

    fn send_natively(&self, bytes: &[u8], destination: &Destination) -> io::Result<()> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        descriptor::with_borrowed(self.endpoint.number(), |descriptor| {
            match destination {
                Destination::Address(address) => {
                    rustix::net::sendto(descriptor, bytes, flags, address)?;
                }
                _ => {
                    rustix::net::send(descriptor, bytes, flags)?;
                }
            }
            Ok(())
        })?
    }

    /// Sends to an address that takes more than reading it; and raises what Python raises.
    fn send_by_python(&self, py: Python<'_>, data: &Bound<'_, PyAny>, address: &Py<PyAny>) -> Sent {
        let sent = self.socket.open_socket(py).and_then(|socket| {
            socket.map_or(Ok(()), |socket| {
                socket.call_method1("sendto", (data, address)).map(drop)
            })
        });
        match sent {
            Ok(()) => Sent::Done,
            Err(error)
                if error.is_instance_of::<PyBlockingIOError>(py)
                    || error.is_instance_of::<PyInterruptedError>(py) =>
            {
                Sent::Again
            }
            Err(error) => Sent::Failed(error),
        }
    }

    /// A system call's answer concerns one datagram; anything else is the end.
    fn send_failed(slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        if ends_the_loop(py, &error) {
            return Err(error);
        }
        if !is_os_error(py, &error) {
            let message = "Fatal write error on datagram transport";
            return Self::fatal_error(slf, error, message);
        }
        if let Some(protocol) = slf.get().endpoint.protocol(py) {
            let error = error.into_value(py);
            protocol.call_method1(pyo3::intern!(py, "error_received"), (error,))?;
        }
        Ok(())
    }

    /// The socket takes datagrams again.
    pub(super) fn write_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        loop {
            let Some(datagram) = this.state().queue.pop() else {
                break;
            };
            let sent = match &datagram.destination {
                Destination::Other(address) => {
                    let data = PyBytes::new(py, datagram.payload.as_ref());
                    this.send_by_python(py, data.as_any(), address)
                }
                native => Sent::of(py, this.send_natively(datagram.payload.as_ref(), native)),
            };
            match sent {
                Sent::Done => {}
                Sent::Again => {
                    this.state().queue.put_back(datagram);
                    break;
                }
                // The rest is sent when the socket is found ready again.
                Sent::Failed(error) => return Self::send_failed(slf, error),
            }
        }
        let signal = {
            let mut state = this.state();
            let queued_bytes = state.queue.length_bytes();
            state.flow.after_shrinking(queued_bytes)
        };
        // The protocol may send more here.
        this.endpoint.signal(slf.as_any(), signal)?;
        let (is_drained, closing) = {
            let state = this.state();
            (state.queue.is_empty(), state.closing)
        };
        if is_drained {
            this.endpoint.unwatch(py, Interest::Write);
            if closing {
                return this.connection_lost(py, py.None().into_bound(py));
            }
        }
        Ok(())
    }
}
