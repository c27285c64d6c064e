//! Reads the byte stream strictly before hyper reads it.
//!
//! hyper forgives what RFC 9112 lets a recipient forgive, and repairs some of it
//! (it drops a Content-Length beside a Transfer-Encoding), so by the time a request
//! reaches the service the evidence is gone. Every such kindness is a place where
//! two parties can read the same bytes differently. The wire therefore follows the
//! framing itself, lets only whole, unambiguous heads and correctly framed content
//! pass, and lets nothing pass after the first doubt: no byte of a body can become
//! a request.
//!
//! It knows bytes, not sockets and not what a request means (see `gate`).

mod chunked;
mod field;
mod head;
mod target;

use self::chunked::ChunkedReader;
use self::head::{Content, HeadReader};
pub(crate) use self::target::{UnencodedTarget, copy_encoded};
use crate::{Limits, Refusal};

/// The place in the stream between two bytes.
#[derive(Debug)]
enum State {
    /// Before or within a head.
    Head(HeadReader),
    /// Within content of known length.
    Sized { remaining: u64 },
    /// Within chunked content.
    Chunked(ChunkedReader),
    /// After a request that asks for another protocol. What follows is HTTP or not,
    /// depending on the answer.
    Takeover,
    /// Another protocol from here on.
    Tunnel,
    /// After a head or a chunk that was refused. Nothing passes any more.
    Stopped,
}

/// Follows the framing of one connection.
#[derive(Debug)]
pub(crate) struct Wire {
    state: State,
    limits: WireLimits,
    /// Whether the request whose content is being read asks for another protocol.
    takeover_follows: bool,
}

/// The limits that concern bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireLimits {
    request_line_bytes: usize,
    header_bytes: usize,
    header_count: usize,
    body_bytes: Option<u64>,
}

/// How far a scan came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Bytes from the start that may go on to hyper. The others are to be shown
    /// again with those that follow them.
    pub(crate) passed: usize,
    /// Heads among the passed bytes.
    pub(crate) heads: u32,
    /// Whether one of them asks for another protocol.
    pub(crate) asks_for_takeover: bool,
    /// Targets among the passed bytes that hyper takes only if they are encoded.
    pub(crate) unencoded_targets: Vec<UnencodedTarget>,
    pub(crate) outcome: Outcome,
}

/// Why a scan ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// More bytes are needed.
    Continue,
    /// The bytes after the passed ones are a head to be refused.
    Refused(Refusal),
    /// The bytes after the passed ones are wrongly chunked.
    Malformed,
}

impl Wire {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            state: State::Head(HeadReader::default()),
            limits: WireLimits {
                request_line_bytes: limits.request_line_bytes,
                header_bytes: limits.header_bytes,
                header_count: limits.header_count,
                body_bytes: limits.body_bytes,
            },
            takeover_follows: false,
        }
    }

    /// Reads on. `bytes` begins with what did not pass before.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut scan = Scan {
            passed: 0,
            heads: 0,
            asks_for_takeover: false,
            unencoded_targets: Vec::new(),
            outcome: Outcome::Continue,
        };
        loop {
            let rest = bytes.get(scan.passed..).unwrap_or_default();
            if rest.is_empty() {
                return scan;
            }
            match &mut self.state {
                State::Head(reader) => match reader.read(rest, &self.limits) {
                    Ok(None) => return scan,
                    Ok(Some(head)) => {
                        if let Some(target) = head.unencoded_target {
                            scan.unencoded_targets.push(UnencodedTarget {
                                head: scan.heads,
                                place: scan.passed + target.start..scan.passed + target.end,
                            });
                        }
                        scan.passed += head.length;
                        scan.heads += 1;
                        scan.asks_for_takeover |= head.asks_for_takeover;
                        self.takeover_follows = head.asks_for_takeover;
                        match head.content {
                            Content::None => self.end_message(),
                            Content::Sized(remaining) => self.state = State::Sized { remaining },
                            Content::Chunked => {
                                self.state = State::Chunked(ChunkedReader::default());
                            }
                        }
                    }
                    Err(reason) => {
                        self.state = State::Stopped;
                        scan.outcome = Outcome::Refused(reason);
                        return scan;
                    }
                },
                State::Sized { remaining } => {
                    let available = u64::try_from(rest.len()).unwrap_or(u64::MAX);
                    let taken = available.min(*remaining);
                    *remaining -= taken;
                    let ended = *remaining == 0;
                    scan.passed += usize::try_from(taken).unwrap_or(rest.len());
                    if ended {
                        self.end_message();
                    }
                }
                State::Chunked(reader) => {
                    let progress = reader.read(rest, &self.limits);
                    scan.passed += progress.passed;
                    match progress.outcome {
                        chunked::Outcome::Ended => self.end_message(),
                        chunked::Outcome::Continue => return scan,
                        chunked::Outcome::Malformed => {
                            self.state = State::Stopped;
                            scan.outcome = Outcome::Malformed;
                            return scan;
                        }
                    }
                }
                State::Tunnel => {
                    scan.passed = bytes.len();
                    return scan;
                }
                State::Takeover | State::Stopped => return scan,
            }
        }
    }

    fn end_message(&mut self) {
        self.state = if std::mem::take(&mut self.takeover_follows) {
            State::Takeover
        } else {
            State::Head(HeadReader::default())
        };
    }

    /// Nothing passes any more.
    pub(crate) fn stop(&mut self) {
        self.state = State::Stopped;
    }

    /// What follows the request that asked for another protocol is HTTP after all.
    pub(crate) fn decline_takeover(&mut self) {
        self.state = State::Head(HeadReader::default());
    }

    /// What follows the request that asked for another protocol is that protocol.
    pub(crate) fn accept_takeover(&mut self) {
        self.state = State::Tunnel;
    }

    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    pub(crate) fn is_at_takeover(&self) -> bool {
        matches!(self.state, State::Takeover)
    }

    pub(crate) fn is_tunnel(&self) -> bool {
        matches!(self.state, State::Tunnel)
    }

    /// Whether some but not all of a head has been seen.
    pub(crate) fn is_within_head(&self) -> bool {
        matches!(&self.state, State::Head(reader) if reader.has_begun())
    }

    /// Whether the stream could end here without anything being cut off.
    pub(crate) fn is_between_messages(&self) -> bool {
        match &self.state {
            State::Head(reader) => !reader.has_begun(),
            State::Takeover | State::Tunnel => true,
            State::Sized { .. } | State::Chunked(_) | State::Stopped => false,
        }
    }
}

#[cfg(test)]
mod tests;
