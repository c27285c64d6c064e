//! Heads of HTTP/1.1 responses as they came. hyper gives the names of fields in lower case; who
//! wants their letters, and the order of all fields, has them from here.

/// Takes down the head of the next response while its bytes pass.
#[derive(Debug, Default)]
pub(crate) enum HeadRecorder {
    /// Nobody wants it.
    #[default]
    Off,
    /// The head has not come to its end.
    Recording(Vec<u8>),
    /// The head is whole; what follows is content.
    Complete(RawHead),
}

impl HeadRecorder {
    /// Begins anew, with the next byte.
    pub(crate) fn begin(&mut self) {
        *self = Self::Recording(Vec::new());
    }

    /// Takes down bytes, as far as they belong to the head.
    pub(crate) fn note(&mut self, mut bytes: &[u8]) {
        let Self::Recording(head) = self else {
            return;
        };
        loop {
            if head.is_empty() {
                let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
                bytes = &bytes[start.unwrap_or(bytes.len())..];
            }
            let known = head.len();
            head.extend_from_slice(bytes);
            let Some(end) = end_of_head(head, known.saturating_sub(2)) else {
                return;
            };
            bytes = &bytes[end - known..];
            head.truncate(end);
            if !is_interim(head) {
                *self = Self::Complete(RawHead(std::mem::take(head)));
                return;
            }
            head.clear();
        }
    }

    /// The head that was taken down.
    pub(crate) fn take(&mut self) -> Option<RawHead> {
        match std::mem::take(self) {
            Self::Complete(head) => Some(head),
            Self::Off | Self::Recording(_) => None,
        }
    }
}

/// Where the empty line ends that ends a head. `from` may be in the middle of it.
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        at += found + 1;
        match bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Whether it is the head of a 1xx response, which another one follows.
fn is_interim(head: &[u8]) -> bool {
    let status = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    status.starts_with(b"1") && !status.starts_with(b"101")
}

/// A head as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawHead(Vec<u8>);

impl RawHead {
    /// Names and values of the fields, in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0
            .split(|byte| *byte == b'\n')
            .skip(1)
            .filter_map(|line| {
                let colon = line.iter().position(|byte| *byte == b':')?;
                Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(pieces: &[&[u8]]) -> Option<RawHead> {
        let mut recorder = HeadRecorder::default();
        recorder.begin();
        for piece in pieces {
            recorder.note(piece);
        }
        recorder.take()
    }

    #[test]
    fn fields_are_the_same_however_the_bytes_are_split() {
        let message =
            b"\r\nHTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nX-One: 1\r\nx-two:  a: b \r\nX-ONE:\r\n\r\nbo\r\n\r\ndy";
        for split in 0..message.len() {
            for second in split..message.len() {
                let pieces = [
                    &message[..split],
                    &message[split..second],
                    &message[second..],
                ];
                let head = recorded(&pieces).expect("the head is whole");
                let fields: Vec<_> = head.fields().collect();
                let expected: [(&[u8], &[u8]); 3] =
                    [(b"X-One", b"1"), (b"x-two", b"a: b"), (b"X-ONE", b"")];
                assert_eq!(fields, expected);
            }
        }
    }

    #[test]
    fn bare_line_feeds_end_lines_too() {
        let head = recorded(&[b"HTTP/1.1 200 OK\nA: 1\n", b"\nrest"]).expect("the head is whole");
        assert_eq!(head.fields().count(), 1);
    }

    #[test]
    fn a_head_that_is_not_whole_is_none() {
        assert_eq!(recorded(&[b"HTTP/1.1 200 OK\r\nA: 1\r\n"]), None);
        let mut recorder = HeadRecorder::default();
        recorder.note(b"HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(recorder.take(), None);
    }

    #[test]
    fn switching_protocols_is_the_last_head() {
        let head = recorded(&[b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n\0\0"]);
        assert_eq!(head.expect("the head is whole").fields().count(), 1);
    }
}
