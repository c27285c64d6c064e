//! What a TLS connection remembers.

use std::collections::VecDeque;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::transport::TlsTransport;
use super::watermarks::Watermarks;
use crate::event_loop::stream::StreamTransport;

/// The limits of what is buffered, in bytes, as `asyncio.constants` has them.
const WRITE_HIGH_BYTES: i64 = 512 * 1024;
const READ_HIGH_BYTES: i64 = 256 * 1024;

/// Where the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before the handshake, and after the end: nothing is encrypted.
    Unwrapped,
    Handshake,
    /// Application data go both ways.
    Wrapped,
    /// It is being closed; what arrived is still read.
    Flushing,
    /// The two sides say goodbye.
    Shutdown,
}

impl Phase {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unwrapped => "unwrapped",
            Self::Handshake => "handshake",
            Self::Wrapped => "wrapped",
            Self::Flushing => "flushing",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Where the application's protocol is:
/// *made*, data, then *eof* at the most once, then *lost*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    ConnectionMade,
    Eof,
    ConnectionLost,
}

/// The transport below.
pub(super) enum Lower {
    Native(Py<StreamTransport>),
    Other(Py<PyAny>),
}

impl Lower {
    pub(super) fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Native(transport) => transport.as_any(),
            Self::Other(transport) => transport,
        }
    }

    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Native(transport) => Self::Native(transport.clone_ref(py)),
            Self::Other(transport) => Self::Other(transport.clone_ref(py)),
        }
    }
}

/// The part that changes.
#[expect(
    clippy::struct_excessive_bools,
    reason = "asyncio's own flags, which are independent of each other"
)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) told: Told,
    pub(super) protocol: Option<Py<PyAny>>,
    pub(super) is_buffered: bool,
    pub(super) transport: Option<Py<TlsTransport>>,
    pub(super) lower: Option<Lower>,
    pub(super) waiter: Option<Py<PyAny>>,
    pub(super) handshake_timer: Option<Py<PyAny>>,
    pub(super) shutdown_timer: Option<Py<PyAny>>,
    pub(super) handshake_start_seconds: f64,
    /// Data that the engine does not take yet, in plain text.
    pub(super) backlog: VecDeque<Py<PyAny>>,
    pub(super) backlog_bytes: usize,
    pub(super) write_limits: Watermarks,
    pub(super) read_limits: Watermarks,
    /// Counts writes after the end.
    pub(super) lost_count: usize,
    pub(super) eof_received: bool,
    /// The transport below has asked for a pause.
    pub(super) lower_paused: bool,
    /// The application has asked for a pause.
    pub(super) reading_paused: bool,
    pub(super) transport_closed: bool,
}

/// What a state held.
pub(super) type References = (
    Option<Py<PyAny>>,
    Option<Py<TlsTransport>>,
    Option<Lower>,
    Option<Py<PyAny>>,
    [Option<Py<PyAny>>; 2],
    VecDeque<Py<PyAny>>,
);

impl State {
    /// Before the connection is made.
    pub(super) fn new(told: Told, waiter: Option<Py<PyAny>>) -> Self {
        Self {
            phase: Phase::Unwrapped,
            told,
            protocol: None,
            is_buffered: false,
            transport: None,
            lower: None,
            waiter,
            handshake_timer: None,
            shutdown_timer: None,
            handshake_start_seconds: 0.0,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            write_limits: Watermarks::new(WRITE_HIGH_BYTES),
            read_limits: Watermarks::new(READ_HIGH_BYTES),
            lost_count: 0,
            eof_received: false,
            lower_paused: false,
            reading_paused: false,
            transport_closed: false,
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.protocol)?;
        visit.call(&self.transport)?;
        visit.call(&self.waiter)?;
        visit.call(&self.handshake_timer)?;
        visit.call(&self.shutdown_timer)?;
        if let Some(lower) = &self.lower {
            visit.call(lower.object())?;
        }
        for data in &self.backlog {
            visit.call(data)?;
        }
        Ok(())
    }

    pub(super) fn take_references(&mut self) -> References {
        (
            self.protocol.take(),
            self.transport.take(),
            self.lower.take(),
            self.waiter.take(),
            [self.handshake_timer.take(), self.shutdown_timer.take()],
            std::mem::take(&mut self.backlog),
        )
    }
}
