//! Reads the head of a request line by line (RFC 9112 sections 2 to 6).
//!
//! It remembers how far it came, so a head that arrives byte by byte costs no more
//! than one that arrives at once.

use super::WireLimits;
use super::field::{is_target, is_token, is_token_byte, split_line};
use super::target::{Treatment, treatment};
use crate::Refusal;

use std::ops::Range;

/// A first byte that no method begins with but every TLS handshake does.
const TLS_HANDSHAKE: u8 = 0x16;

/// Codings that exist (RFC 9112 section 7.2) but are not spoken here.
const KNOWN_CODINGS: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];

/// A length that leaves room for hyper's special values.
const LARGEST_CONTENT_LENGTH: u64 = i64::MAX as u64;

/// A whole head that may pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the head, its empty line included.
    pub(super) length: usize,
    pub(super) content: Content,
    pub(super) asks_for_takeover: bool,
    /// Where the target stands, if it has to be encoded.
    pub(super) unencoded_target: Option<Range<usize>>,
}

/// How the content after a head is framed (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    None,
    Sized(u64),
    Chunked,
}

/// How far into a head the stream is.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    part: Part,
    /// Where the line being read begins.
    line_start: usize,
    /// No line ends before here.
    searched: usize,
    /// Where the header lines begin.
    headers_start: usize,
    header_count: usize,
    is_version_1_0: bool,
    content_length: Option<u64>,
    is_chunked: bool,
    asks_for_takeover: bool,
    unencoded_target: Option<Range<usize>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// Nothing but an empty line perhaps, which RFC 9112 section 2.2 forgives.
    #[default]
    Before,
    RequestLine,
    Headers,
}

impl HeadReader {
    /// Reads on; `bytes` begins where the head begins, every time.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        limits: &WireLimits,
    ) -> Result<Option<Head>, Refusal> {
        loop {
            let unsearched = bytes.get(self.searched..).unwrap_or_default();
            let Some(line_feed) = memchr::memchr(b'\n', unsearched) else {
                self.searched = bytes.len();
                self.check_unfinished_line(bytes, limits)?;
                return Ok(None);
            };
            let line_feed = self.searched + line_feed;
            let line = bytes.get(self.line_start..line_feed).unwrap_or_default();
            let next_line = line_feed + 1;
            self.check_size(next_line, limits)?;
            let is_blank = line == b"\r" && self.line_start == 0;
            let is_first = self.part != Part::Headers && !is_blank;
            if is_first {
                // Whatever else is wrong, a line of another protocol is named so.
                check_method_bytes(line)?;
            }
            let line = line.strip_suffix(b"\r").ok_or(Refusal::LineEnding)?;
            match self.part {
                Part::Before if is_blank => {}
                Part::Before | Part::RequestLine => {
                    self.read_request_line(line)?;
                    self.part = Part::Headers;
                    self.headers_start = next_line;
                }
                Part::Headers => {
                    if line.is_empty() {
                        let content = self.content(limits)?;
                        let asks_for_takeover = self.asks_for_takeover;
                        let head = Head {
                            length: next_line,
                            content,
                            asks_for_takeover,
                            unencoded_target: self.unencoded_target.take(),
                        };
                        return Ok(Some(head));
                    }
                    self.header_count += 1;
                    if self.header_count > limits.header_count {
                        return Err(Refusal::HeadersTooLarge);
                    }
                    self.read_header_line(line)?;
                }
            }
            self.line_start = next_line;
            self.searched = next_line;
        }
    }

    /// Whether the peer owes the rest of a head.
    pub(super) fn has_begun(&self) -> bool {
        self.part != Part::Before
    }

    /// Finds out early that what arrives will never be a head.
    fn check_unfinished_line(&mut self, bytes: &[u8], limits: &WireLimits) -> Result<(), Refusal> {
        self.check_size(bytes.len(), limits)?;
        if self.part == Part::Headers {
            return Ok(());
        }
        let line = bytes.get(self.line_start..).unwrap_or_default();
        // The carriage return of an empty line is no beginning yet.
        if line.is_empty() || (line == b"\r" && self.line_start == 0) {
            return Ok(());
        }
        self.part = Part::RequestLine;
        check_method_bytes(line)
    }

    fn check_size(&self, end: usize, limits: &WireLimits) -> Result<(), Refusal> {
        if self.part == Part::Headers {
            let header_bytes = end.saturating_sub(self.headers_start);
            // The empty line at the end is not a header line.
            if header_bytes > limits.header_bytes.saturating_add(2) {
                return Err(Refusal::HeadersTooLarge);
            }
        } else if end.saturating_sub(self.line_start) > limits.request_line_bytes {
            return Err(Refusal::RequestLineTooLong);
        }
        Ok(())
    }

    /// `method SP request-target SP HTTP-version` (RFC 9112 section 3).
    fn read_request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let (method, rest) = split_at_space(line).ok_or(Refusal::RequestLine)?;
        if !is_token(method) {
            return Err(Refusal::RequestLine);
        }
        let (target, version) = split_at_space(rest).ok_or(Refusal::RequestLine)?;
        self.is_version_1_0 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Refusal::Version);
            }
            _ => return Err(Refusal::RequestLine),
        };
        if target.is_empty() {
            return Err(Refusal::RequestLine);
        }
        if !is_target(target) {
            return Err(Refusal::TargetCharacter);
        }
        match treatment(target) {
            Treatment::Pass => Ok(()),
            Treatment::Encode => {
                let start = self.line_start + method.len() + 1;
                self.unencoded_target = Some(start..start + target.len());
                Ok(())
            }
            Treatment::TooLong => Err(Refusal::RequestLineTooLong),
            Treatment::Refuse => Err(Refusal::TargetCharacter),
        }
    }

    fn read_header_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let (name, value) = split_line(line)?;
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                // HTTP/1.0 has no upgrades (RFC 9110 section 7.8).
                self.asks_for_takeover = !self.is_version_1_0;
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.read_content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.read_transfer_encoding(value)
            }
            _ => Ok(()),
        }
    }

    /// One decimal number, once. RFC 9110 section 8.6 allows to forgive a repeated
    /// equal one; not doing so is what section 6.3 of RFC 9112 recommends to begin
    /// with.
    fn read_content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.content_length.is_some() || value.is_empty() {
            return Err(Refusal::ContentLength);
        }
        let mut length = 0_u64;
        for &byte in value {
            if !byte.is_ascii_digit() {
                return Err(Refusal::ContentLength);
            }
            let digit = u64::from(byte - b'0');
            length = length
                .checked_mul(10)
                .and_then(|length| length.checked_add(digit))
                .filter(|length| *length <= LARGEST_CONTENT_LENGTH)
                .ok_or(Refusal::ContentLength)?;
        }
        self.content_length = Some(length);
        Ok(())
    }

    fn read_transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.is_chunked || self.is_version_1_0 {
            return Err(Refusal::TransferEncoding);
        }
        if KNOWN_CODINGS
            .iter()
            .any(|coding| value.eq_ignore_ascii_case(coding))
        {
            return Err(Refusal::TransferCoding);
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::TransferEncoding);
        }
        self.is_chunked = true;
        Ok(())
    }

    fn content(&self, limits: &WireLimits) -> Result<Content, Refusal> {
        match (self.content_length, self.is_chunked) {
            (Some(_), true) => Err(Refusal::AmbiguousFraming),
            (Some(length), false) if limits.body_bytes.is_some_and(|limit| length > limit) => {
                Err(Refusal::BodyTooLarge)
            }
            (Some(0) | None, false) => Ok(Content::None),
            (Some(length), false) => Ok(Content::Sized(length)),
            (None, true) => Ok(Content::Chunked),
        }
    }
}

/// Whether a line that may go on can still begin with a method.
fn check_method_bytes(line: &[u8]) -> Result<(), Refusal> {
    match line.iter().copied().find(|byte| !is_token_byte(*byte)) {
        None | Some(b' ') => Ok(()),
        Some(TLS_HANDSHAKE) if line.first() == Some(&TLS_HANDSHAKE) => Err(Refusal::TlsHandshake),
        Some(_) => Err(Refusal::RequestLine),
    }
}

fn split_at_space(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memchr(b' ', bytes)?;
    let (before, after) = bytes.split_at(space);
    Some((before, after.get(1..)?))
}
