//! From the transport below to the application, decrypted.

use carboy_event_loop::transport::FlowSignal;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::engine::Answer;
use super::protocol::TlsProtocol;
use super::state::Phase;
use crate::event_loop::NativeEventLoop;
use crate::event_loop::native_loop::TLS_BUFFER_BYTES;
use crate::ffi::buffer;
use crate::names;

/// What one record of TLS carries at the most (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 * 1024;

/// What one look at the engine has brought.
struct Decrypted {
    bytes: usize,
    /// The peer has said goodbye.
    is_end: bool,
}

impl TlsProtocol {
    /// The loop's buffer holds so many bytes of the peer.
    pub(super) fn receive_from_buffer(slf: &Bound<'_, Self>, count: usize) -> PyResult<()> {
        let data = buffer::part(&slf.get().event_loop.get().tls_buffer(slf.py())?, 0, count)?;
        Self::receive(slf, &data)
    }

    /// These are bytes of the peer.
    pub(crate) fn receive(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.engine.feed(data)?;
        match this.phase(py) {
            Phase::Unwrapped => Ok(()),
            Phase::Handshake => Self::do_handshake(slf),
            Phase::Wrapped => Self::do_read(slf),
            Phase::Flushing => Self::do_flush(slf),
            Phase::Shutdown => Self::do_shutdown(slf),
        }
    }

    /// Gives the application what can be decrypted.
    pub(super) fn do_read(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if !matches!(slf.get().phase(py), Phase::Wrapped | Phase::Flushing) {
            return Ok(());
        }
        match Self::read_and_answer(slf) {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                let error = error.into_value(py);
                Self::fatal_error(slf, error.bind(py), "Fatal error on SSL protocol")
            }
            result => result,
        }
    }

    fn read_and_answer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (is_paused, is_buffered) =
            this.state(py, |state| (state.reading_paused, state.is_buffered));
        if !is_paused {
            let is_end = if is_buffered {
                Self::read_into_protocol(slf)?
            } else {
                Self::read_for_protocol(slf)?
            };
            if is_end {
                Self::call_eof_received(slf)?;
                Self::start_shutdown(slf)?;
            }
            if this.state(py, |state| state.backlog.is_empty()) {
                Self::process_outgoing(slf)?;
            } else {
                Self::do_write(slf)?;
            }
        }
        Self::control_reading(slf)
    }

    /// Decrypts into a memoryview of so many bytes, as much as there is and as it has room for.
    fn decrypt(&self, room: &Bound<'_, PyAny>, room_bytes: usize) -> PyResult<Decrypted> {
        let py = room.py();
        let mut bytes = 0;
        while bytes < room_bytes {
            let rest = if bytes == 0 {
                room.clone()
            } else {
                buffer::part(room, bytes, room_bytes)?
            };
            let rest_bytes = room_bytes - bytes;
            match self.engine.read(rest_bytes, &rest)? {
                Answer::Done(0) => {
                    let is_end = true;
                    return Ok(Decrypted { bytes, is_end });
                }
                Answer::Done(count) => {
                    bytes += count;
                    // A record is taken whole where there is room, so nothing is left then.
                    // To ask once more would cost an exception.
                    if count < rest_bytes && self.engine.incoming_bytes(py)? == 0 {
                        break;
                    }
                }
                Answer::Again => break,
            }
        }
        let is_end = false;
        Ok(Decrypted { bytes, is_end })
    }

    /// Decrypts what is there, if that is no more than one record, straight into the object
    /// that the application is given. None says that it may be more.
    fn decrypt_record<'py>(
        &self,
        py: Python<'py>,
        waiting_bytes: usize,
    ) -> PyResult<Option<Answer<Bound<'py, PyBytes>>>> {
        if waiting_bytes == 0 || waiting_bytes > RECORD_BYTES {
            return Ok(None);
        }
        self.engine.read_bytes(py, waiting_bytes)
    }

    /// Decrypts all there is. Says whether the stream has ended.
    fn decrypt_all<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, bool)> {
        let mut chunks = Vec::new();
        let waiting_bytes = self.engine.incoming_bytes(py)?;
        match self.decrypt_record(py, waiting_bytes)? {
            Some(Answer::Again) => return Ok((PyBytes::new(py, b""), false)),
            Some(Answer::Done(data)) => {
                let bytes = data.as_bytes().len();
                // As in decrypt: there is nothing more, and to ask for it costs an exception.
                let is_all = bytes < waiting_bytes && self.engine.incoming_bytes(py)? == 0;
                if is_all || bytes == 0 {
                    return Ok((data, bytes == 0));
                }
                chunks.push(data);
            }
            None => {}
        }
        let room = self.event_loop.get().tls_buffer(py)?;
        // What does not fit the loop's buffer at once is collected.
        loop {
            let Decrypted { bytes, is_end } = self.decrypt(&room, TLS_BUFFER_BYTES)?;
            let data = buffer::with_bytes(&room, |plain| PyBytes::new(py, &plain[..bytes]))?;
            if is_end || bytes < TLS_BUFFER_BYTES {
                return Ok((joined(chunks, data)?, is_end));
            }
            chunks.push(data);
        }
    }

    /// Calls `data_received`, once, with all there is. Says whether the stream has ended.
    fn read_for_protocol(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let (data, is_end) = this.decrypt_all(py)?;
        if !data.as_bytes().is_empty()
            && let Some(protocol) = this.protocol(py)
        {
            protocol.call_method1(intern!(py, "data_received"), (data,))?;
        }
        Ok(is_end)
    }

    /// Fills the buffer of an `asyncio.BufferedProtocol`. Says whether the stream has ended.
    fn read_into_protocol(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let Some(protocol) = this.protocol(py) else {
            return Ok(false);
        };
        let waiting_bytes = this.engine.incoming_bytes(py)?;
        let room = protocol.call_method1(intern!(py, "get_buffer"), (waiting_bytes,))?;
        let room = names::memory_view(py)?.call1((room,))?;
        let room_bytes = room.len()?;
        let Decrypted { bytes, is_end } = this.decrypt(&room, room_bytes)?;
        if bytes > 0 {
            if bytes == room_bytes {
                let read = slf.getattr(intern!(py, "_do_read"))?;
                let event_loop = this.event_loop.bind(py);
                NativeEventLoop::schedule(event_loop, read, PyTuple::empty(py), None)?;
            }
            protocol.call_method1(intern!(py, "buffer_updated"), (bytes,))?;
        }
        Ok(is_end)
    }

    /// Pauses or resumes the transport below, by what waits to be decrypted.
    pub(super) fn control_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let waiting_bytes = this.engine.incoming_bytes(py)?;
        let Some(signal) = this.state(py, |state| state.read_limits.update(waiting_bytes)) else {
            return Ok(());
        };
        if let Some(lower) = this.lower_object(py) {
            let method = match signal {
                FlowSignal::Pause => intern!(py, "pause_reading"),
                FlowSignal::Resume => intern!(py, "resume_reading"),
            };
            lower.call_method0(method)?;
        }
        Ok(())
    }

    /// The application takes data again, from the next turn on.
    pub(super) fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let was_paused = this.state(py, |state| std::mem::take(&mut state.reading_paused));
        if !was_paused {
            return Ok(());
        }
        let resume = slf.getattr(intern!(py, "_resume"))?;
        let event_loop = this.event_loop.bind(py);
        NativeEventLoop::schedule(event_loop, resume, PyTuple::empty(py), None)
    }

    pub(super) fn go_on(slf: &Bound<'_, Self>) -> PyResult<()> {
        match slf.get().phase(slf.py()) {
            Phase::Unwrapped | Phase::Handshake => Ok(()),
            Phase::Wrapped => Self::do_read(slf),
            Phase::Flushing => Self::do_flush(slf),
            Phase::Shutdown => Self::do_shutdown(slf),
        }
    }
}

/// Chunks and the last one, as one object.
fn joined<'py>(
    mut chunks: Vec<Bound<'py, PyBytes>>,
    last: Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    if chunks.is_empty() {
        return Ok(last);
    }
    let py = last.py();
    chunks.push(last);
    let chunks = PyList::new(py, chunks)?;
    let all = PyBytes::new(py, b"").call_method1(intern!(py, "join"), (chunks,))?;
    Ok(all.cast_into::<PyBytes>()?)
}
