//! The byte stream of a connection: TCP or Unix, with TLS or without, through a proxy or not.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use crate::activity::Activity;

/// A stream below HTTP. TLS may lie on TLS: an `https` URL through an `https` proxy.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<Socket>>),
}

/// Calls a method of whichever stream it is.
macro_rules! of_the_inner {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
            Socket::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        of_the_inner!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        of_the_inner!(self, stream => Pin::new(stream).poll_write(context, buffer))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        of_the_inner!(self, stream => Pin::new(stream).poll_write_vectored(context, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_the_inner!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_the_inner!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}

/// A connection's stream as hyper sees it. It writes down what the bytes do.
///
/// A server that does not want the rest of a request may answer and close the connection (RFC 9112
/// section 9.6). To hyper the write that fails then would be the end, with the answer unread. So
/// here it is not told: what is left of the request goes nowhere, the answer is read, and the
/// failure comes where there is none.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    activity: Rc<Activity>,
    /// Whether the server may answer what it does not read to its end (HTTP/1.1).
    answers_early: bool,
    closed: Option<ClosedWrite>,
}

/// What is known since a write has failed because the peer reads no more.
#[derive(Debug)]
struct ClosedWrite {
    /// The failure, until it is told.
    error: Option<io::Error>,
    /// How many bytes had come until then.
    bytes_before: u64,
}

impl Stream {
    pub(crate) fn new(socket: Socket, activity: Rc<Activity>, answers_early: bool) -> Self {
        Self {
            socket,
            activity,
            answers_early,
            closed: None,
        }
    }

    fn note(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(_)) => self.activity.note_written(),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.activity.note_write_blocked(),
        }
    }

    /// What hyper is told of a write of so many bytes.
    fn told(&mut self, written: Poll<io::Result<usize>>, bytes: usize) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error)) if self.answers_early && is_closed_by_peer(&error) => {
                self.activity.note_lost_write();
                self.closed = Some(ClosedWrite {
                    error: Some(error),
                    bytes_before: self.activity.bytes_read(),
                });
                Poll::Ready(Ok(bytes))
            }
            written => written,
        }
    }

    /// The failure of a write, when the end has come and no answer.
    fn failure_at_end(&mut self) -> Option<io::Error> {
        let closed = self.closed.as_mut()?;
        if self.activity.bytes_read() > closed.bytes_before {
            return None;
        }
        closed.error.take()
    }
}

fn is_closed_by_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
    )
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        let bytes = &buffer.filled()[before..];
        if !bytes.is_empty() {
            self.activity.note_read(bytes);
            return read;
        }
        if read.is_ready()
            && buffer.remaining() > 0
            && let Some(error) = self.failure_at_end()
        {
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.closed.is_some() {
            return Poll::Ready(Ok(buffer.len()));
        }
        let written = Pin::new(&mut self.socket).poll_write(context, buffer);
        self.note(&written);
        self.told(written, buffer.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = || buffers.iter().map(|buffer| buffer.len()).sum();
        if self.closed.is_some() {
            return Poll::Ready(Ok(bytes()));
        }
        let written = match buffers {
            // The system call for one buffer is quicker than that for several.
            [buffer] => Pin::new(&mut self.socket).poll_write(context, buffer),
            _ => Pin::new(&mut self.socket).poll_write_vectored(context, buffers),
        };
        self.note(&written);
        self.told(written, bytes())
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed.is_some() {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.socket).poll_flush(context);
        // TLS writes here what it has kept.
        let flushed = flushed.map_ok(|()| 0);
        self.told(flushed, 0).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed.is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
