//! Gives a connection to code that writes raw bytes, such as simple-websocket.
//!
//! Such code finds a socket in the request and writes an HTTP response head into
//! it by itself. It gets one end of a socket pair. This module reads the head from
//! the other end; a 101 goes out through hyper, so that it stays in order and is
//! logged, and from then on bytes are pumped both ways (RFC 9110 section 7.8).
//! Anything else is sent as an ordinary response. It must not know WebSocket.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as BlockingStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::TRANSFER_ENCODING;
use http::{HeaderName, HeaderValue, StatusCode};
use hyper::upgrade::OnUpgrade;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::connection_context::ConnectionContext;
use crate::{Response, ResponseBody, StreamSender, TrySendError, tunnel};

/// The longest response head an application may write. Its own code wrote it, so
/// this only stops a stream that never becomes a head.
const LONGEST_HEAD_BYTES: usize = 64 * 1024;

const MOST_HEADERS: usize = 100;

/// Bytes read from the application at a time.
const READ_BYTES: usize = 16 * 1024;

/// The right to speak another protocol on this request's connection.
pub struct TakeoverOffer {
    upgrade: OnUpgrade,
    context: Rc<ConnectionContext>,
}

/// Resolves to the response the application wrote by itself, and to `None` if it
/// closed its end without writing anything.
///
/// If it is dropped, the connection stays with HTTP.
pub struct TakeoverResponse {
    response: Pin<Box<dyn Future<Output = Option<Response>>>>,
    /// The end that `response` reads, to look whether something is there to be read.
    application: OwnedFd,
}

/// Marks a 101 that came from a takeover: no other one may be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenOver;

impl TakeoverOffer {
    pub(crate) fn new(upgrade: OnUpgrade, context: Rc<ConnectionContext>) -> Self {
        Self { upgrade, context }
    }

    /// Accepts: the stream, in blocking mode, is for the application. Must be
    /// called on the loop's thread; the stream may go anywhere.
    ///
    /// # Errors
    ///
    /// When no descriptors are free.
    pub fn accept(self) -> io::Result<(BlockingStream, TakeoverResponse)> {
        let (given, kept) = BlockingStream::pair()?;
        kept.set_nonblocking(true)?;
        let application = OwnedFd::from(kept.try_clone()?);
        let kept = UnixStream::from_std(kept)?;
        let response = Box::pin(read_response(kept, self.upgrade, self.context));
        let response = TakeoverResponse {
            response,
            application,
        };
        Ok((given, response))
    }
}

impl TakeoverResponse {
    /// Resolves to what the application wrote by itself, or else to its ordinary `answer`.
    ///
    /// Code that takes a connection over returns in the end too, and its answer may be
    /// here before the runtime has noticed what it wrote before that. What was written
    /// first counts.
    pub async fn or_answer(mut self, answer: impl Future<Output = Response>) -> Response {
        let mut answer = pin!(answer);
        let answered = tokio::select! {
            biased;
            taken_over = &mut self => match taken_over {
                Some(response) => return response,
                None => return answer.await,
            },
            response = &mut answer => response,
        };
        if !is_readable(&self.application) {
            return answered;
        }
        self.await.unwrap_or(answered)
    }
}

/// Whether there are bytes to be read, or the end of them.
fn is_readable(descriptor: &OwnedFd) -> bool {
    let mut descriptors = [PollFd::new(descriptor, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut descriptors, Some(&now)), Ok(1..))
}

impl Future for TakeoverResponse {
    type Output = Option<Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Response>> {
        self.response.as_mut().poll(context)
    }
}

impl fmt::Debug for TakeoverOffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TakeoverOffer")
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TakeoverResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TakeoverResponse")
            .finish_non_exhaustive()
    }
}

/// What the application's first bytes are.
enum Head {
    Complete {
        length: usize,
        response: http::Response<()>,
    },
    Unfinished,
    Invalid,
}

async fn read_response(
    mut application: UnixStream,
    upgrade: OnUpgrade,
    context: Rc<ConnectionContext>,
) -> Option<Response> {
    let mut received = BytesMut::new();
    let mut response = loop {
        received.reserve(READ_BYTES);
        // A read error means that the application's end is gone.
        let ended = !matches!(application.read_buf(&mut received).await, Ok(1..));
        if ended && received.is_empty() {
            return None;
        }
        match parse_head(&received) {
            Head::Complete { length, response } => {
                drop(received.split_to(length));
                break response;
            }
            Head::Unfinished if !ended && received.len() < LONGEST_HEAD_BYTES => {}
            Head::Unfinished | Head::Invalid => return Some(invalid_response()),
        }
    };
    let rest = received.freeze();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let state = Rc::clone(context.server());
        state
            .connections
            .spawn(tunnel::run(upgrade, application, rest, context));
        response.extensions_mut().insert(TakenOver);
        return Some(response.map(|()| ResponseBody::empty()));
    }
    // Framing is this server's business: what follows is content until it ends.
    if response.headers_mut().remove(TRANSFER_ENCODING).is_some() {
        return Some(invalid_response());
    }
    let (sender, body) = ResponseBody::stream();
    context
        .server()
        .connections
        .spawn(forward(application, rest, sender));
    Some(response.map(|()| body))
}

/// Sends what the application writes until it closes its end.
async fn forward(mut application: UnixStream, rest: Bytes, mut sender: StreamSender) {
    let mut next = rest;
    loop {
        if !next.is_empty() {
            if sender.writable().await.is_err() {
                return;
            }
            match sender.try_send(next) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return,
            }
        }
        let mut received = BytesMut::with_capacity(READ_BYTES);
        match application.read_buf(&mut received).await {
            Ok(0) => return sender.finish(),
            Ok(_) => next = received.freeze(),
            Err(_) => return sender.abort(),
        }
    }
}

fn parse_head(received: &[u8]) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let length = match parsed.parse(received) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Head::Unfinished,
        Err(_) => return Head::Invalid,
    };
    let mut response = http::Response::new(());
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let Some(status) = status else {
        return Head::Invalid;
    };
    *response.status_mut() = status;
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Head::Invalid;
        };
        response.headers_mut().append(name, value);
    }
    Head::Complete { length, response }
}

fn invalid_response() -> Response {
    let mut response = Response::new(ResponseBody::full(Bytes::from_static(
        b"The application took the connection over but did not write a valid response.\n",
    )));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_told_apart() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x02hi";
        let Head::Complete { length, response } = parse_head(head) else {
            unreachable!()
        };
        assert_eq!(head.get(length..), Some(&b"\x81\x02hi"[..]));
        assert_eq!(response.headers()["upgrade"], "websocket");
        assert!(matches!(parse_head(b"HTTP/1.1 101 Swit"), Head::Unfinished));
        assert!(matches!(parse_head(b"\x81\x02hi"), Head::Invalid));
        assert!(matches!(
            parse_head(b"HTTP/1.1 001 X\r\n\r\n"),
            Head::Invalid
        ));
    }
}
