//! From the socket to the protocol.

use std::io;
use std::mem::MaybeUninit;

use carboy_event_loop::Interest;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::net::RecvFlags;

use super::StreamTransport;
use crate::event_loop::system_error::{ends_the_loop, is_try_again, os_error};
use crate::event_loop::tls::TlsProtocol;
use crate::ffi::{buffer, descriptor};
use crate::names;

/// At most this much is read at once, as in asyncio.
const READ_BYTES: usize = 256 * 1024;

/// Reads of up to this many bytes go through the loop's buffer and are copied once; larger
/// ones go straight into a bytes object, which costs an allocation of its full capacity.
const COPIED_READ_BYTES: usize = 16 * 1024;

impl StreamTransport {
    pub(super) fn read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (protocol, is_buffered, last_read_bytes) = {
            let state = slf.get().state();
            let Some(protocol) = &state.protocol else {
                return Ok(());
            };
            if state.lost_count > 0 {
                return Ok(());
            }
            let protocol = protocol.bind(py).clone();
            (protocol, state.is_buffered, state.last_read_bytes)
        };
        if !is_buffered {
            Self::read_for_protocol(slf, &protocol, last_read_bytes)
        } else if let Ok(tls) = protocol.cast_exact::<TlsProtocol>() {
            Self::read_for_tls(slf, tls, last_read_bytes)
        } else {
            Self::read_into_protocol(slf, &protocol)
        }
    }

    fn read_for_protocol(
        slf: &Bound<'_, Self>,
        protocol: &Bound<'_, PyAny>,
        last_read_bytes: usize,
    ) -> PyResult<()> {
        let py = slf.py();
        let Some(data) = Self::receive_bytes(slf, last_read_bytes)? else {
            return Ok(());
        };
        if data.as_bytes().is_empty() {
            return Self::end_of_stream(slf, protocol);
        }
        let received = protocol.call_method1(pyo3::intern!(py, "data_received"), (data,));
        Self::check(slf, received, "protocol.data_received() call failed.")
    }

    /// As [`Self::read_into_protocol`], for a protocol that is native: it needs no buffer.
    fn read_for_tls(
        slf: &Bound<'_, Self>,
        tls: &Bound<'_, TlsProtocol>,
        last_read_bytes: usize,
    ) -> PyResult<()> {
        let Some(data) = Self::receive_bytes(slf, last_read_bytes)? else {
            return Ok(());
        };
        if data.as_bytes().is_empty() {
            return Self::end_of_stream(slf, tls);
        }
        let received = TlsProtocol::receive(tls, &data);
        Self::check(slf, received, "protocol.buffer_updated() call failed.")
    }

    /// Reads what is there; no bytes are the end of the stream. None says that there is nothing
    /// to be done: nothing was there, or the connection has failed and is closed.
    fn receive_bytes<'py>(
        slf: &Bound<'py, Self>,
        last_read_bytes: usize,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let py = slf.py();
        let this = slf.get();
        let data = if last_read_bytes < COPIED_READ_BYTES {
            this.event_loop.get().with_read_buffer(|buffer| {
                let received = this.receive(buffer);
                received.map(|bytes| PyBytes::new(py, bytes))
            })
        } else {
            let capacity_bytes = (2 * last_read_bytes).min(READ_BYTES);
            buffer::new_bytes(py, capacity_bytes, |buffer| {
                this.receive(buffer).map(|bytes| bytes.len())
            })?
        };
        let data = match data {
            Ok(data) => data,
            Err(error) if is_try_again(&error) => return Ok(None),
            Err(error) => {
                Self::read_failed(slf, &error)?;
                return Ok(None);
            }
        };
        let length_bytes = data.as_bytes().len();
        if length_bytes != 0 && length_bytes != last_read_bytes {
            this.state().last_read_bytes = length_bytes;
        }
        Ok(Some(data))
    }

    fn read_into_protocol(slf: &Bound<'_, Self>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let lent = protocol
            .call_method1(pyo3::intern!(py, "get_buffer"), (-1,))
            .and_then(|lent| {
                if lent.len()? == 0 {
                    let message = "get_buffer() returned an empty buffer";
                    return Err(PyRuntimeError::new_err(message));
                }
                Ok(lent)
            });
        let lent = match lent {
            Ok(lent) => lent,
            Err(error) => {
                return Self::check::<()>(slf, Err(error), "protocol.get_buffer() call failed.");
            }
        };
        let received = buffer::with_writable(&lent, |buffer| {
            descriptor::with_borrowed(this.number, |descriptor| {
                rustix::net::recv(descriptor, buffer, RecvFlags::empty())
            })
        });
        let received_bytes = match received {
            Ok(Ok(Ok((_, received_bytes)))) => received_bytes,
            Ok(Ok(Err(error))) => {
                let error = io::Error::from(error);
                if is_try_again(&error) {
                    return Ok(());
                }
                return Self::read_failed(slf, &error);
            }
            Ok(Err(error)) => return Self::read_failed(slf, &error),
            Err(error) => {
                return Self::fatal_error(slf, error, "Fatal read error on socket transport");
            }
        };
        if received_bytes == 0 {
            return Self::end_of_stream(slf, protocol);
        }
        let updated = protocol.call_method1(pyo3::intern!(py, "buffer_updated"), (received_bytes,));
        Self::check(slf, updated, "protocol.buffer_updated() call failed.")
    }

    /// Reads what is there, up to the size of the buffer.
    fn receive<'a>(&self, buffer: &'a mut [MaybeUninit<u8>]) -> io::Result<&'a mut [u8]> {
        descriptor::with_borrowed(self.number, |descriptor| {
            let ((received, _), _) = rustix::net::recv(descriptor, buffer, RecvFlags::empty())?;
            Ok(received)
        })?
    }

    fn read_failed(slf: &Bound<'_, Self>, error: &io::Error) -> PyResult<()> {
        let error = os_error(slf.py(), error);
        Self::fatal_error(slf, error, "Fatal read error on socket transport")
    }

    /// Ends the connection if a method of the protocol has failed.
    fn check<T>(slf: &Bound<'_, Self>, result: PyResult<T>, what: &str) -> PyResult<()> {
        match result {
            Ok(_) => Ok(()),
            Err(error) if ends_the_loop(slf.py(), &error) => Err(error),
            Err(error) => Self::fatal_error(slf, error, &format!("Fatal error: {what}")),
        }
    }

    /// The peer will send nothing more. The protocol says whether it still wants to write.
    fn end_of_stream(slf: &Bound<'_, Self>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.event_loop.get().is_debug() {
            names::asyncio_logger(py)?.call_method1("debug", ("%r received EOF", slf))?;
        }
        let keep_open = protocol
            .call_method0(pyo3::intern!(py, "eof_received"))
            .and_then(|answer| answer.is_truthy());
        match keep_open {
            Ok(true) => {
                this.unwatch(slf.py(), Interest::Read);
                Ok(())
            }
            Ok(false) => Self::close_gracefully(slf),
            Err(error) => {
                Self::check::<()>(slf, Err(error), "protocol.eof_received() call failed.")
            }
        }
    }
}
