//! Server-sent events, as the HTML standard says (section 9.2.6).

use crate::{Error, ErrorKind};

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its type; `message` when the stream names none.
    pub event: String,
    /// Its data; lines are separated by `\n`.
    pub data: String,
    /// The last identifier that the stream has given, for `Last-Event-ID`.
    pub id: String,
    /// How long to wait before a new connection, in milliseconds, if the event says so.
    pub retry_ms: Option<u64>,
}

/// Finds the events in bytes that come in pieces.
#[derive(Debug)]
pub struct EventStream {
    /// How many bytes of a line and an event that have not ended are kept.
    limit_bytes: u64,
    line: Vec<u8>,
    /// The last byte was a CR: a LF after it ends no further line.
    after_carriage_return: bool,
    has_begun: bool,
    event: String,
    data: String,
    id: String,
    retry_ms: Option<u64>,
}

impl EventStream {
    /// A stream of which nothing has come, and that keeps so many bytes of what has no end yet.
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            line: Vec::new(),
            after_carriage_return: false,
            has_begun: false,
            event: String::new(),
            data: String::new(),
            id: String::new(),
            retry_ms: None,
        }
    }

    /// Takes a piece, and gives the events that are complete with it. What follows the last
    /// empty line is no event, also at the end of the stream.
    ///
    /// # Errors
    ///
    /// `BodyTooLarge` when an event without an end is larger than the limit.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' if self.after_carriage_return => self.after_carriage_return = false,
                b'\n' | b'\r' => {
                    self.after_carriage_return = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.take_line(&line));
                }
                _ => {
                    self.after_carriage_return = false;
                    self.line.push(byte);
                }
            }
        }
        let kept = [self.line.len(), self.data.len(), self.event.len()];
        if kept.iter().sum::<usize>() as u64 > self.limit_bytes {
            let limit_bytes = self.limit_bytes;
            // It is of no use any more, and shall not take the memory.
            *self = Self::new(limit_bytes);
            return Err(Error::new(
                ErrorKind::BodyTooLarge,
                format!("a server-sent event is larger than {limit_bytes} bytes"),
            ));
        }
        Ok(events)
    }

    fn take_line(&mut self, line: &[u8]) -> Option<Event> {
        let mut line = String::from_utf8_lossy(line).into_owned();
        if !std::mem::replace(&mut self.has_begun, true)
            && let Some(rest) = line.strip_prefix('\u{feff}')
        {
            line = rest.to_owned();
        }
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry_ms = value.parse().ok();
            }
            // A comment (an empty name) or an unknown field.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let event = std::mem::take(&mut self.event);
        let mut data = std::mem::take(&mut self.data);
        let retry_ms = self.retry_ms.take();
        // One newline was added after each line; an event without data is none.
        data.pop()?;
        Some(Event {
            event: if event.is_empty() {
                "message".to_owned()
            } else {
                event
            },
            data,
            id: self.id.clone(),
            retry_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event: &str, data: &str, id: &str) -> Event {
        Event {
            event: event.to_owned(),
            data: data.to_owned(),
            id: id.to_owned(),
            retry_ms: None,
        }
    }

    #[test]
    fn splits_and_line_ends_never_matter() {
        let text = "\u{feff}: hello\n\ndata: a\ndata:b\nid: 7\n\nevent: tick\ndata\n\ndata: lost";
        let expected = [event("message", "a\nb", "7"), event("tick", "", "7")];
        for end in ["\n", "\r", "\r\n"] {
            let bytes = text.replace('\n', end).into_bytes();
            for size in 1..bytes.len() {
                let mut stream = EventStream::new(1000);
                let events: Vec<_> = bytes
                    .chunks(size)
                    .flat_map(|piece| stream.feed(piece).unwrap())
                    .collect();
                assert_eq!(events, expected);
            }
        }
    }

    #[test]
    fn the_wait_before_a_new_connection() {
        let mut stream = EventStream::new(1000);
        let events = stream
            .feed(b"retry: 1500\ndata: x\n\nretry: soon\ndata: y\n\n")
            .unwrap();
        assert_eq!(events[0].retry_ms, Some(1500));
        assert_eq!(events[1].retry_ms, None);
    }

    #[test]
    fn what_has_no_end_is_not_kept_for_ever() {
        for text in [&b"data: "[..], b"event: x\ndata: ", b"\xef\xbb\xbf:"] {
            let mut stream = EventStream::new(1000);
            stream.feed(text).unwrap();
            stream.feed(&[b'x'; 900]).unwrap();
            let error = stream.feed(&[b'x'; 200]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BodyTooLarge);
        }
        // Many lines of data are one event.
        let mut stream = EventStream::new(1000);
        let fed: Result<Vec<_>, _> = (0..200).map(|_| stream.feed(b"data: x\n")).collect();
        assert!(fed.is_ok(), "each is two bytes");
        assert!(stream.feed(&b"data: yyyyyyyyyyy\n".repeat(60)).is_err());
        // What comes at once and has its end is as large as it is.
        let mut stream = EventStream::new(1000);
        let events = stream.feed(&[&b"data: "[..], &[b'x'; 5000], b"\n\n"].concat());
        assert_eq!(events.unwrap()[0].data.len(), 5000);
    }
}
