//! The byte stream of one connection, as hyper sees it.
//!
//! Reading goes through the [`Wire`]: hyper sees whole heads and well-framed
//! content only. In place of a head that is refused it sees a [`PLACEHOLDER`], so
//! that the refusal is answered by the service, in its turn among pipelined
//! requests. Writing notes since when the peer takes nothing. Closing waits for
//! the peer if it is still sending, so that it gets to see its answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::access_log::RequestLine;
use crate::activity::{Activity, TakeoverDecision};
use crate::client::{End, State};
use crate::half_close::HalfCloseQuestion;
use crate::socket::Socket;
use crate::wire::{Outcome, Scan, Wire, copy_encoded};
use crate::{Limits, Refusal};

/// What hyper sees in place of a head that is refused. The service knows it by its
/// number, never by its content.
const PLACEHOLDER: &[u8] = b"GET / HTTP/1.1\r\nHost: refused\r\n\r\n";

/// The same for a refused HEAD, whose answer has no content.
const HEAD_PLACEHOLDER: &[u8] = b"HEAD / HTTP/1.1\r\nHost: refused\r\n\r\n";

/// Pieces that are together no larger are copied into one before they are written: the
/// kernel takes one small piece faster than two.
const COPIED_WRITE_BYTES: usize = 2048;

/// The most that is read from a peer that was already answered.
const LINGER_BYTES: usize = 1024 * 1024;

/// The byte stream of one connection.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    activity: Arc<Activity>,
    wire: Wire,
    /// Read, but not allowed to pass yet: the beginning of a head or a chunk line.
    held: BytesMut,
    /// Allowed to pass, but not taken yet.
    passed: BytesMut,
    /// The content is wrongly chunked: every read fails.
    malformed: bool,
    closing: Closing,
    /// What the client was asked that sends nothing more.
    question: Option<HalfCloseQuestion>,
}

/// How far the closing of the writing side has come.
#[derive(Debug)]
enum Closing {
    Open,
    /// The peer has been told; what it still sends is thrown away.
    Lingering {
        thrown_away: usize,
    },
}

impl Stream {
    pub(crate) fn new(socket: Socket, activity: Arc<Activity>, limits: &Limits) -> Self {
        Self {
            socket,
            activity,
            wire: Wire::new(limits),
            held: BytesMut::new(),
            passed: BytesMut::new(),
            malformed: false,
            closing: Closing::Open,
            question: None,
        }
    }

    /// Reads once from the socket and lets through what the wire lets through.
    /// Resolves to whether the caller has something to report: bytes, or the end.
    fn poll_fill(
        &mut self,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(task, buffer))?;
        let arrived = buffer.filled().get(before..).unwrap_or_default();
        if arrived.is_empty() {
            // The peer has ended; hyper knows whether anything is missing.
            self.held.clear();
            self.activity.head_started.clear();
            return Poll::Ready(Ok(true));
        }
        if self.held.is_empty() {
            // The usual case: whatever passes needs no copy.
            let scan = self.wire.scan(arrived);
            self.held
                .extend_from_slice(arrived.get(scan.passed..).unwrap_or_default());
            if scan.unencoded_targets.is_empty() {
                buffer.set_filled(before + scan.passed);
            } else {
                self.pass_encoded(arrived.get(..scan.passed).unwrap_or_default(), &scan);
                buffer.set_filled(before);
            }
            self.note(&scan);
        } else {
            self.held.extend_from_slice(arrived);
            buffer.set_filled(before);
            self.scan_held();
        }
        Poll::Ready(Ok(buffer.filled().len() > before))
    }

    /// One step of reading: what has passed, what went wrong, or what arrives.
    fn poll_next(
        &mut self,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.passed.is_empty() {
                self.deliver(buffer);
                return Poll::Ready(Ok(()));
            }
            if self.malformed {
                let reason = "the content is not correctly chunked";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
            }
            if self.wire.is_stopped() {
                // The refusal ends the connection; nothing is waited for.
                return Poll::Pending;
            }
            if self.wire.is_at_takeover() {
                match self.activity.takeover_decision(task.waker()) {
                    TakeoverDecision::Open => return Poll::Pending,
                    TakeoverDecision::Declined => self.wire.decline_takeover(),
                    TakeoverDecision::Accepted => self.wire.accept_takeover(),
                }
                self.scan_held();
                continue;
            }
            if self.activity.has_head_timed_out() && self.wire.is_within_head() {
                self.wire.stop();
                self.refuse(Refusal::HeaderTimeout);
                continue;
            }
            if ready!(self.poll_fill(task, buffer))? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn scan_held(&mut self) {
        let scan = self.wire.scan(&self.held);
        if !scan.unencoded_targets.is_empty() {
            let bytes = self.held.split_to(scan.passed);
            self.pass_encoded(&bytes, &scan);
        } else if self.passed.is_empty() {
            self.passed = self.held.split_to(scan.passed);
        } else {
            self.passed
                .extend_from_slice(&self.held.split_to(scan.passed));
        }
        self.note(&scan);
    }

    /// Passes heads on whose targets hyper takes only if they are encoded.
    fn pass_encoded(&mut self, bytes: &[u8], scan: &Scan) {
        let activity = &self.activity;
        let keep = |head, target| activity.keep_raw_target(head, target);
        copy_encoded(bytes, &scan.unencoded_targets, &mut self.passed, keep);
    }

    fn deliver(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = self.passed.len().min(buffer.remaining());
        buffer.put_slice(&self.passed.split_to(length));
        if self.passed.is_empty() {
            self.passed = BytesMut::new();
        }
    }

    /// Writes down what a scan found.
    fn note(&mut self, scan: &Scan) {
        self.activity.pass_heads(scan.heads);
        if scan.asks_for_takeover {
            self.activity.open_takeover();
        }
        match scan.outcome {
            Outcome::Continue => {}
            Outcome::Refused(reason) => self.refuse(reason),
            Outcome::Malformed => self.malformed = true,
        }
        if self.wire.is_within_head() {
            self.activity.head_started.set(self.activity.opened());
        } else {
            self.activity.head_started.clear();
        }
    }

    /// Has the service answer for the head that is held.
    fn refuse(&mut self, reason: Refusal) {
        self.activity
            .refuse_head(reason, RequestLine::raw(&self.held));
        let for_head = self.held.starts_with(b"HEAD ");
        self.passed.extend_from_slice(if for_head {
            HEAD_PLACEHOLDER
        } else {
            PLACEHOLDER
        });
        self.held = BytesMut::new();
        self.activity.head_started.clear();
    }

    /// Whether bytes of the peer may still come that nobody will read.
    fn is_owed_bytes(&self) -> bool {
        !self.wire.is_between_messages()
            || self.held.has_remaining()
            || self.passed.has_remaining()
            || self.activity.has_waiting_heads()
    }

    fn poll_linger(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let owed = self.is_owed_bytes();
        let Closing::Lingering { thrown_away } = &mut self.closing else {
            return Poll::Ready(Ok(()));
        };
        let mut scratch = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.socket).poll_read(task, &mut buffer) {
                // Only bytes that are there already, or are sure to come, matter.
                Poll::Pending if !owed && *thrown_away == 0 => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    self.activity.lingering.set(self.activity.opened());
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    *thrown_away += buffer.filled().len();
                    if *thrown_away > LINGER_BYTES {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
            }
        }
    }

    fn look_for_client(&mut self, task: &mut Context<'_>) {
        self.activity.begin_look();
        match self.socket.poll_peer_end(task) {
            Poll::Pending => self.activity.client_is_here(),
            Poll::Ready(false) => self.activity.client_left(State::Lost),
            Poll::Ready(true) => {
                self.activity.client_left(State::Ended);
                let has_gone = match self.activity.judge_end() {
                    End::Unknown => false,
                    End::Gone => true,
                    End::ToBeAsked => self
                        .question
                        .get_or_insert_with(HalfCloseQuestion::new)
                        .has_gone(&mut self.socket, task),
                };
                if has_gone {
                    self.activity.client_left(State::Lost);
                }
            }
        }
    }

    /// Writes the rest of what the client is being asked, if there is any.
    fn poll_question(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.question {
            Some(question) if question.is_half_written() => {
                question.poll_ask(&mut self.socket, task)
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Notes whether the peer takes bytes.
    fn note_write(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &outcome {
            Poll::Pending => self.activity.write_blocked.set(self.activity.opened()),
            Poll::Ready(_) => self.activity.write_blocked.clear(),
        }
        outcome
    }
}

/// Copies pieces into `buffer`, if they fit together.
fn join_small<'a>(slices: &[IoSlice<'_>], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut length = 0;
    for slice in slices {
        let end = length + slice.len();
        buffer.get_mut(length..end)?.copy_from_slice(slice);
        length = end;
    }
    buffer.get(..length)
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if stream.wire.is_tunnel() && stream.passed.is_empty() {
            return Pin::new(&mut stream.socket).poll_read(task, buffer);
        }
        stream.poll_next(task, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_question(task))?;
        let outcome = Pin::new(&mut self.socket).poll_write(task, bytes);
        self.note_write(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_question(task))?;
        let outcome = match join_small(slices, &mut [0; COPIED_WRITE_BYTES]) {
            Some(bytes) => Pin::new(&mut self.socket).poll_write(task, bytes),
            None => Pin::new(&mut self.socket).poll_write_vectored(task, slices),
        };
        self.note_write(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// hyper calls this with every look at the connection once nothing is left to write,
    /// which makes it the place to look whether a client that waits is there. That of a view on a
    /// worker is watched later, if at all; then there is no need to wake this task for a look.
    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.wire.is_tunnel() {
            if self.activity.is_client_watched() {
                self.look_for_client(task);
            } else if self.activity.is_answering() && self.socket.poll_readable(task).is_pending() {
                self.activity.await_client();
            }
        }
        Pin::new(&mut self.socket).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Closing::Open = self.closing {
            ready!(Pin::new(&mut self.socket).poll_shutdown(task))?;
            if self.wire.is_tunnel() {
                return Poll::Ready(Ok(()));
            }
            self.closing = Closing::Lingering { thrown_away: 0 };
        }
        self.poll_linger(task)
    }
}
