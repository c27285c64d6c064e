//! Targets with characters that people send and that no URI has (RFC 3986 section 2).
//!
//! Servers for Flask take them as they are, so a link with `<` in its path works there. The
//! URI type here does not take these: hyper gets them percent-encoded, which means the same
//! (RFC 3986 section 2.1), and the application is given the bytes that were sent, too.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

/// The longest target that hyper takes.
const LONGEST_TARGET_BYTES: usize = 65_534;

/// How much longer a byte becomes that is percent-encoded.
const ADDED_BYTES: usize = 2;

/// A target among scanned bytes that is to be encoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnencodedTarget {
    /// The number of its head among those of the scan.
    pub(crate) head: u32,
    pub(crate) place: Range<usize>,
}

/// What is to be done with a target whose characters were found valid.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    Pass,
    Encode,
    TooLong,
    /// It has such characters in a form other than a path: its host must not be changed.
    Refuse,
}

pub(super) fn treatment(target: &[u8]) -> Treatment {
    let count = target.iter().fold(0_usize, |count, &byte| {
        count + usize::from(is_encoded(byte))
    });
    if target.len().saturating_add(count * ADDED_BYTES) > LONGEST_TARGET_BYTES {
        Treatment::TooLong
    } else if count == 0 {
        Treatment::Pass
    } else if target.starts_with(b"/") {
        Treatment::Encode
    } else {
        Treatment::Refuse
    }
}

fn is_encoded(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`')
}

/// Copies heads and content with the targets encoded, and passes each as it was to `keep`,
/// with the number of its head.
pub(crate) fn copy_encoded(
    bytes: &[u8],
    targets: &[UnencodedTarget],
    copy: &mut BytesMut,
    mut keep: impl FnMut(u32, Bytes),
) {
    let mut copied = 0;
    for UnencodedTarget { head, place } in targets {
        let target = bytes.get(place.clone()).unwrap_or_default();
        copy.extend_from_slice(bytes.get(copied..place.start).unwrap_or_default());
        encode(target, copy);
        keep(*head, Bytes::copy_from_slice(target));
        copied = place.end;
    }
    copy.extend_from_slice(bytes.get(copied..).unwrap_or_default());
}

fn encode(target: &[u8], copy: &mut BytesMut) {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    for &byte in target {
        if is_encoded(byte) {
            copy.put_slice(&[
                b'%',
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]);
        } else {
            copy.put_u8(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn treatments() {
        let long = |byte: &str, count: usize| format!("/{}", byte.repeat(count)).into_bytes();
        for (target, expected) in [
            (b"/".to_vec(), Treatment::Pass),
            (b"/a|{}^\\?b=c'd".to_vec(), Treatment::Pass),
            (b"*".to_vec(), Treatment::Pass),
            (b"http://a/".to_vec(), Treatment::Pass),
            (b"/<".to_vec(), Treatment::Encode),
            (b"/a>?b".to_vec(), Treatment::Encode),
            (b"/`".to_vec(), Treatment::Encode),
            (b"/?\"".to_vec(), Treatment::Encode),
            (b"http://a<b/".to_vec(), Treatment::Refuse),
            (b"http://a/<".to_vec(), Treatment::Refuse),
            (b"<".to_vec(), Treatment::Refuse),
            (long("x", 65_533), Treatment::Pass),
            (long("x", 65_534), Treatment::TooLong),
            (long("<", 21_844), Treatment::Encode),
            (long("<", 21_845), Treatment::TooLong),
        ] {
            let shown = String::from_utf8_lossy(target.get(..20).unwrap_or(&target));
            assert_eq!(treatment(&target), expected, "{shown}");
        }
    }

    #[test]
    fn only_the_targets_are_encoded() {
        let bytes = b"GET /<a> HTTP/1.1\r\nX: <\r\n\r\n<GET /?\"` HTTP/1.1\r\n\r\n>";
        let places = [(0, 4..8), (3, 32..36)];
        let targets = places.map(|(head, place)| UnencodedTarget { head, place });
        let (mut copy, mut kept) = (BytesMut::new(), Vec::new());
        copy_encoded(bytes, &targets, &mut copy, |head, target| {
            kept.push((head, target));
        });
        let expected = b"GET /%3Ca%3E HTTP/1.1\r\nX: <\r\n\r\n<GET /?%22%60 HTTP/1.1\r\n\r\n>";
        assert_eq!(&copy[..], &expected[..]);
        assert_eq!(kept[0], (0, Bytes::from_static(b"/<a>")));
        assert_eq!(kept[1], (3, Bytes::from_static(b"/?\"`")));
    }
}
