//! One keep-alive connection and the request it repeats.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::response::{self, Response};

/// A response must fit in here. The workloads' responses are far smaller, and
/// a fixed buffer keeps the generator's cost per request constant.
const BUFFER_LENGTH: usize = 16 * 1024;

/// A keep-alive connection that carries one request at a time.
///
/// One at a time is what makes a single `read` per wake-up enough: no byte can
/// arrive after a whole response until the next request was sent, and then the
/// edge-triggered poll reports it anew.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    request: Rc<[u8]>,
    buffer: Box<[u8; BUFFER_LENGTH]>,
    filled: usize,
    waiting_since: Option<Instant>,
}

/// What a readable connection turned out to hold.
#[derive(Debug)]
pub enum Received {
    /// Nothing yet, or only a part of the response.
    Incomplete,
    /// A whole response to the request that counts from `since`.
    Response {
        /// The response.
        response: Response,
        /// The time given to [`Connection::send`].
        since: Instant,
    },
    /// The server closed the connection while nothing was asked of it.
    ClosedWhileIdle,
}

impl Connection {
    /// Connects and registers the socket under `token`.
    ///
    /// # Errors
    ///
    /// The server can't be reached, or the poll refuses the socket.
    pub fn open(
        address: SocketAddr,
        request: Rc<[u8]>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE)?;
        Ok(Self {
            stream,
            request,
            buffer: Box::new([0; BUFFER_LENGTH]),
            filled: 0,
            waiting_since: None,
        })
    }

    /// Sends the request; its latency will count from `since`.
    ///
    /// # Errors
    ///
    /// The connection is broken. A request that doesn't fit in the empty socket
    /// buffer is an error too: it can only mean a server that doesn't read.
    pub fn send(&mut self, since: Instant) -> io::Result<()> {
        self.waiting_since = Some(since);
        let request: &[u8] = &self.request;
        if self.stream.write(request)? == request.len() {
            Ok(())
        } else {
            Err(io::Error::other("a request could only be sent in part"))
        }
    }

    /// When the outstanding request's latency began, if one is outstanding.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    /// Reads what has arrived.
    ///
    /// # Errors
    ///
    /// The connection is broken, or what arrived is not a proper response.
    pub fn receive(&mut self) -> io::Result<Received> {
        if self.filled == BUFFER_LENGTH {
            return Err(io::Error::other("a response doesn't fit in the buffer"));
        }
        let count = match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Received::Incomplete);
            }
            Err(error) => return Err(error),
        };
        let Some(since) = self.waiting_since else {
            return if count == 0 {
                Ok(Received::ClosedWhileIdle)
            } else {
                Err(io::Error::other("a response came without a request"))
            };
        };
        if count == 0 {
            let message = "the server closed the connection instead of answering";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.filled += count;
        match response::parse(&self.buffer[..self.filled])? {
            None => Ok(Received::Incomplete),
            Some(response) => {
                self.filled = 0;
                self.waiting_since = None;
                Ok(Received::Response { response, since })
            }
        }
    }
}
