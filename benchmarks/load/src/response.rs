//! Reading one HTTP/1.1 response from a buffer.

use std::io;

/// What the load generator wants to know of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The length of the body in bytes.
    pub length: usize,
    /// Whether the server closes the connection after this response.
    pub closes: bool,
}

/// Reads a whole response from the start of `buffer`.
///
/// `Ok(None)` means that more bytes are needed. A response must say its length:
/// every server of the comparison does, and decoding chunks would cost the
/// generator time that the server under test doesn't spend.
///
/// # Errors
///
/// The bytes are not an HTTP response, or not one that fits the above.
pub fn parse(buffer: &[u8]) -> io::Result<Option<Response>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_length) = head.parse(buffer).map_err(invalid)? else {
        return Ok(None);
    };
    let mut length = None;
    let mut closes = head.version == Some(0);
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).map_err(invalid)?;
            length = Some(text.parse::<usize>().map_err(invalid)?);
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    let length = length.ok_or_else(|| invalid("a response has no Content-Length"))?;
    if buffer.len() > head_length + length {
        return Err(invalid("a response is longer than its Content-Length"));
    }
    if buffer.len() < head_length + length {
        return Ok(None);
    }
    let status = head
        .code
        .ok_or_else(|| invalid("a response has no status"))?;
    Ok(Some(Response {
        status,
        length,
        closes,
    }))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::{Response, parse};

    #[test]
    fn reads_a_whole_response() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        let expected = Response {
            status: 200,
            length: 2,
            closes: false,
        };
        assert_eq!(parse(bytes).unwrap(), Some(expected));
    }

    #[test]
    fn waits_for_the_rest() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]).unwrap(), None);
        }
    }

    #[test]
    fn refuses_bytes_after_the_body() {
        assert!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhigh").is_err());
    }

    #[test]
    fn refuses_a_response_without_a_length() {
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn sees_that_the_server_closes() {
        let bytes = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert!(
            parse(bytes)
                .unwrap()
                .is_some_and(|response| response.closes)
        );
    }
}
