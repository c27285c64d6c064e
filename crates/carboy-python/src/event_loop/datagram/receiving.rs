//! From the socket to the protocol.

use std::io;

use carboy_event_loop::Interest;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::net::{RecvFlags, SocketAddrAny};

use super::DatagramTransport;
use crate::event_loop::socket_address;
use crate::event_loop::system_error::{is_try_again, os_error};
use crate::ffi::descriptor;

/// At most this many datagrams are received before other callbacks have their turn.
const DATAGRAMS_PER_TURN: usize = 16;

impl DatagramTransport {
    pub(super) fn read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        for _ in 0..DATAGRAMS_PER_TURN {
            // The protocol may have paused or closed the transport, or may be another now.
            if !this.endpoint.watches(Interest::Read) {
                break;
            }
            let Some(protocol) = this.endpoint.protocol(py) else {
                break;
            };
            match this.receive(py) {
                Ok((data, sender)) => {
                    let sender = this.address_of(py, sender)?;
                    let method = pyo3::intern!(py, "datagram_received");
                    protocol.call_method1(method, (data, sender))?;
                }
                Err(error) if is_try_again(&error) => break,
                Err(error) => {
                    let error = os_error(py, &error).into_value(py);
                    protocol.call_method1(pyo3::intern!(py, "error_received"), (error,))?;
                    break;
                }
            }
        }
        Ok(())
    }

    fn receive<'py>(
        &self,
        py: Python<'py>,
    ) -> io::Result<(Bound<'py, PyBytes>, Option<SocketAddrAny>)> {
        self.endpoint
            .event_loop()
            .get()
            .with_read_buffer(|buffer| {
                descriptor::with_borrowed(self.endpoint.number(), |descriptor| {
                    let flags = RecvFlags::DONTWAIT;
                    let ((received, _), _, sender) =
                        rustix::net::recvfrom(descriptor, buffer, flags)?;
                    Ok((PyBytes::new(py, received), sender))
                })
            })?
    }

    /// The sender's address as Python has it; `None` for a socket without a name.
    fn address_of<'py>(
        &self,
        py: Python<'py>,
        sender: Option<SocketAddrAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(sender) = sender else {
            return Ok(None);
        };
        {
            let state = self.state();
            if let Some((last, object)) = &state.last_sender
                && *last == sender
            {
                return Ok(Some(object.bind(py).clone()));
            }
        }
        let Some(object) = socket_address::to_python(py, &sender)? else {
            return Ok(None);
        };
        let known = (sender, object.clone().unbind());
        let previous = self.state().last_sender.replace(known);
        drop(previous);
        Ok(Some(object))
    }
}
