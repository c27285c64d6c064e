//! Follows chunked content (RFC 9112 section 7.1), to the letter.
//!
//! hyper decodes the chunks; this only makes sure that nobody could decode them
//! differently. Chunk data passes at once, chunk lines only when they are whole.

use super::WireLimits;
use super::field::{is_blank, is_token_byte, split_line};

/// The longest chunk line. Extensions are hardly ever used; hyper bounds their sum.
const LONGEST_LINE_BYTES: usize = 4 * 1024;

/// All trailer lines together. Nobody reads them here, and hyper's bound is equal.
const TRAILER_BYTES: usize = 16 * 1024;

/// Content that is not correctly chunked.
struct Malformed;

/// How far a read came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) passed: usize,
    pub(super) outcome: Outcome,
}

/// Why a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// More bytes are needed.
    Continue,
    /// The content has ended with the passed bytes.
    Ended,
    /// The bytes after the passed ones are wrong.
    Malformed,
}

/// One step within a read.
enum Step {
    /// So many bytes pass; none if more are needed.
    Pass(usize),
    /// So many bytes pass, and they are the last.
    End(usize),
}

/// How far into chunked content the stream is.
#[derive(Debug, Default)]
pub(super) struct ChunkedReader {
    part: Part,
    /// No line ends within this many bytes from where the line begins.
    searched: usize,
    trailer_bytes: usize,
    trailer_count: usize,
}

#[derive(Debug, Default)]
enum Part {
    /// `chunk-size [ chunk-ext ] CRLF`
    #[default]
    Size,
    /// `chunk-data`
    Data { remaining: u64 },
    /// The CRLF after `chunk-data`.
    DataEnd,
    /// `trailer-section CRLF`
    Trailers,
}

impl ChunkedReader {
    /// Reads on; `bytes` begins with what did not pass before.
    pub(super) fn read(&mut self, bytes: &[u8], limits: &WireLimits) -> Progress {
        let mut passed = 0;
        loop {
            let rest = bytes.get(passed..).unwrap_or_default();
            let outcome = match self.step(rest, limits) {
                Ok(Step::Pass(0)) => Outcome::Continue,
                Ok(Step::Pass(length)) => {
                    passed += length;
                    continue;
                }
                Ok(Step::End(length)) => {
                    passed += length;
                    Outcome::Ended
                }
                Err(Malformed) => Outcome::Malformed,
            };
            return Progress { passed, outcome };
        }
    }

    fn step(&mut self, rest: &[u8], limits: &WireLimits) -> Result<Step, Malformed> {
        match &mut self.part {
            Part::Size => self.read_size(rest).map(Step::Pass),
            Part::Data { remaining } => {
                let available = u64::try_from(rest.len()).unwrap_or(u64::MAX);
                let taken = available.min(*remaining);
                *remaining -= taken;
                if *remaining == 0 {
                    self.part = Part::DataEnd;
                }
                Ok(Step::Pass(usize::try_from(taken).unwrap_or(rest.len())))
            }
            Part::DataEnd => match rest {
                [b'\r', b'\n', ..] => {
                    self.part = Part::Size;
                    Ok(Step::Pass(2))
                }
                [] | [b'\r'] => Ok(Step::Pass(0)),
                _ => Err(Malformed),
            },
            Part::Trailers => self.read_trailer(rest, limits),
        }
    }

    /// The length of the line that `rest` begins with, once it is whole.
    fn whole_line(&mut self, rest: &[u8], longest: usize) -> Result<Option<usize>, Malformed> {
        let unsearched = rest.get(self.searched..).unwrap_or_default();
        let length = memchr::memchr(b'\n', unsearched).map(|end| self.searched + end + 1);
        if length.unwrap_or(rest.len()) > longest {
            return Err(Malformed);
        }
        self.searched = if length.is_some() { 0 } else { rest.len() };
        Ok(length)
    }

    fn read_size(&mut self, rest: &[u8]) -> Result<usize, Malformed> {
        let Some(length) = self.whole_line(rest, LONGEST_LINE_BYTES)? else {
            return Ok(0);
        };
        let line = rest
            .get(..length)
            .and_then(|line| line.strip_suffix(b"\r\n"));
        let size = parse_size_line(line.ok_or(Malformed)?)?;
        self.part = if size == 0 {
            Part::Trailers
        } else {
            Part::Data { remaining: size }
        };
        Ok(length)
    }

    fn read_trailer(&mut self, rest: &[u8], limits: &WireLimits) -> Result<Step, Malformed> {
        let room = TRAILER_BYTES.saturating_sub(self.trailer_bytes);
        let Some(length) = self.whole_line(rest, room)? else {
            return Ok(Step::Pass(0));
        };
        let line = rest
            .get(..length)
            .and_then(|line| line.strip_suffix(b"\r\n"));
        let line = line.ok_or(Malformed)?;
        if line.is_empty() {
            return Ok(Step::End(length));
        }
        split_line(line).map_err(|_| Malformed)?;
        self.trailer_bytes += length;
        self.trailer_count += 1;
        if self.trailer_count > limits.header_count {
            return Err(Malformed);
        }
        Ok(Step::Pass(length))
    }
}

/// `1*HEXDIG *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`
fn parse_size_line(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (digits, mut rest) = line.split_at(digits);
    // Sixteen digits fill 64 bits.
    if digits.is_empty() || digits.len() > 16 {
        return Err(Malformed);
    }
    let size = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or(Malformed)?;
    while !rest.is_empty() {
        rest = skip_blanks(rest).strip_prefix(b";").ok_or(Malformed)?;
        rest = skip_token(skip_blanks(rest))?;
        if let Some(value) = skip_blanks(rest).strip_prefix(b"=") {
            let value = skip_blanks(value);
            rest = match value.strip_prefix(b"\"") {
                Some(quoted) => skip_quoted(quoted)?,
                None => skip_token(value)?,
            };
        }
    }
    Ok(size)
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|byte| is_blank(**byte)).count();
    bytes.get(blanks..).unwrap_or_default()
}

fn skip_token(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let length = bytes
        .iter()
        .take_while(|byte| is_token_byte(**byte))
        .count();
    if length == 0 {
        Err(Malformed)
    } else {
        bytes.get(length..).ok_or(Malformed)
    }
}

/// The rest after the closing quote (RFC 9110 section 5.6.4).
fn skip_quoted(mut bytes: &[u8]) -> Result<&[u8], Malformed> {
    loop {
        bytes = match bytes {
            [b'"', rest @ ..] => return Ok(rest),
            [b'\\', escaped, rest @ ..] if is_quotable(*escaped) => rest,
            [b'\\', ..] => return Err(Malformed),
            [byte, rest @ ..] if is_quotable(*byte) => rest,
            _ => return Err(Malformed),
        };
    }
}

fn is_quotable(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)
}
