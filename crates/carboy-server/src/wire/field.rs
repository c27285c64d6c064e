//! What the characters of RFC 9110 section 5.6 are.

use crate::Refusal;

/// `tchar`: what methods and field names are made of.
const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = matches!(
            byte,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\''
                | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        );
        byte += 1;
    }
    table
};

pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[usize::from(byte)]
}

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// Splits `name ":" OWS value OWS` (RFC 9112 section 5).
pub(super) fn split_line(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if line.first().is_some_and(|byte| is_blank(*byte)) {
        return Err(Refusal::HeaderFolding);
    }
    let colon = memchr::memchr(b':', line).ok_or(Refusal::HeaderLine)?;
    let (name, value) = line.split_at(colon);
    if !is_token(name) {
        let blank_before_colon = name.last().is_some_and(|byte| is_blank(*byte));
        return Err(if blank_before_colon {
            Refusal::HeaderFolding
        } else {
            Refusal::HeaderLine
        });
    }
    let value = trim(value.get(1..).unwrap_or_default());
    if has_control(value) {
        Err(Refusal::HeaderValue)
    } else {
        Ok((name, value))
    }
}

/// Whether a target has only visible ASCII and no fragment (RFC 9112 section 3.2).
///
/// Stricter tables exist, but browsers send `|`, `{` and their like unencoded.
pub(super) fn is_target(target: &[u8]) -> bool {
    !target.is_empty() && !has_other_than_target_bytes(target)
}

#[expect(
    clippy::needless_bitwise_bool,
    reason = "no early exit, hence vector instructions"
)]
fn has_other_than_target_bytes(target: &[u8]) -> bool {
    target.iter().fold(false, |found, &byte| {
        found | (byte <= 0x20) | (byte >= 0x7f) | (byte == b'#')
    })
}

/// Control characters other than the tab (RFC 9110 section 5.5).
#[expect(
    clippy::needless_bitwise_bool,
    reason = "no early exit, hence vector instructions"
)]
fn has_control(value: &[u8]) -> bool {
    value.iter().fold(false, |found, &byte| {
        found | ((byte < 0x20) & (byte != b'\t')) | (byte == 0x7f)
    })
}

/// `OWS` is spaces and tabs only, unlike what Rust trims.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value
        && is_blank(*first)
    {
        value = rest;
    }
    while let [rest @ .., last] = value
        && is_blank(*last)
    {
        value = rest;
    }
    value
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}
