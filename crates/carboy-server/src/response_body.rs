//! The content of a response: none, all at once, or as a stream from anywhere.
//!
//! It must not know HTTP's framing. A stream that was not finished on purpose
//! ends in an error, so that a client never takes half an answer for a whole one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// Pieces that may wait between the producer and the loop.
const WAITING_CHUNKS: usize = 4;

/// A blocking producer's pieces are cut to this size, so that at most
/// `WAITING_CHUNKS` times this many bytes wait.
const LARGEST_CHUNK_BYTES: usize = 64 * 1024;

/// The content of one response.
#[derive(Debug)]
pub struct ResponseBody(Source);

#[derive(Debug)]
enum Source {
    /// Nothing (more) to send.
    Ended,
    /// One piece.
    Full(Bytes),
    /// Pieces from a producer that may be on another thread.
    Stream {
        pieces: mpsc::Receiver<Bytes>,
        finished: Arc<AtomicBool>,
    },
    /// A stream that was broken off, once hyper had the time to write what it was given.
    BrokenOff,
}

impl ResponseBody {
    /// No content.
    pub fn empty() -> Self {
        Self(Source::Ended)
    }

    /// The whole content at once.
    pub fn full(content: Bytes) -> Self {
        if content.is_empty() {
            Self::empty()
        } else {
            Self(Source::Full(content))
        }
    }

    /// Whether more pieces are known to come.
    pub(crate) fn has_waiting_pieces(&self) -> bool {
        matches!(&self.0, Source::Stream { pieces, .. } if !pieces.is_empty())
    }

    /// Content that a producer sends piece by piece, from any thread.
    pub fn stream() -> (StreamSender, Self) {
        let (sender, pieces) = mpsc::channel(WAITING_CHUNKS);
        let finished = Arc::new(AtomicBool::new(false));
        let stream = Source::Stream {
            pieces,
            finished: Arc::clone(&finished),
        };
        (
            StreamSender {
                pieces: sender,
                finished,
            },
            Self(stream),
        )
    }
}

/// The producer broke the stream off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response was broken off before its end")]
pub struct StreamAborted;

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = StreamAborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamAborted>>> {
        let (pieces, finished) = match &mut self.0 {
            Source::Ended => return Poll::Ready(None),
            Source::Full(content) => {
                let content = std::mem::take(content);
                self.0 = Source::Ended;
                return Poll::Ready(Some(Ok(Frame::data(content))));
            }
            Source::BrokenOff => {
                self.0 = Source::Ended;
                return Poll::Ready(Some(Err(StreamAborted)));
            }
            Source::Stream { pieces, finished } => (pieces, finished),
        };
        if let Some(piece) = ready!(pieces.poll_recv(task)) {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let finished = finished.load(Ordering::Acquire);
        if finished {
            self.0 = Source::Ended;
            return Poll::Ready(None);
        }
        // An error makes hyper drop what it has not written. The client is to see the head
        // and what there was of the body: then it knows that the request was served.
        self.0 = Source::BrokenOff;
        task.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Source::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Ended => SizeHint::with_exact(0),
            Source::Full(content) => {
                SizeHint::with_exact(u64::try_from(content.len()).unwrap_or(u64::MAX))
            }
            Source::Stream { .. } | Source::BrokenOff => SizeHint::default(),
        }
    }
}

/// The producing end of a streamed response.
///
/// Dropping it without [`finish`](Self::finish) breaks the connection off, so
/// that a chunked message never gets a valid-looking end (RFC 9112 section 8).
#[derive(Debug)]
pub struct StreamSender {
    pieces: mpsc::Sender<Bytes>,
    finished: Arc<AtomicBool>,
}

/// The client is gone, or the response is no longer wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client disconnected before the response was complete")]
pub struct Disconnected;

/// Why a piece was not taken at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError {
    /// The client is slower than the producer; here is the piece again.
    #[error("the client has not taken what was sent before")]
    Full(Bytes),
    /// Nobody will take anything any more.
    #[error(transparent)]
    Disconnected(#[from] Disconnected),
}

impl StreamSender {
    /// Sends a piece from a worker thread and blocks while the client is slow.
    ///
    /// # Errors
    ///
    /// When the client is gone.
    ///
    /// # Panics
    ///
    /// On the loop's own thread, where waiting for the loop would never end.
    pub fn send_blocking(&mut self, mut chunk: Bytes) -> Result<(), Disconnected> {
        while !chunk.is_empty() {
            let piece = chunk.split_to(chunk.len().min(LARGEST_CHUNK_BYTES));
            self.pieces.blocking_send(piece).map_err(|_| Disconnected)?;
        }
        if self.pieces.is_closed() {
            Err(Disconnected)
        } else {
            Ok(())
        }
    }

    /// Sends a piece if there is room for one, from any thread.
    ///
    /// # Errors
    ///
    /// When there is no room, with the piece, and when the client is gone.
    pub fn try_send(&mut self, chunk: Bytes) -> Result<(), TrySendError> {
        self.pieces.try_send(chunk).map_err(|error| match error {
            mpsc::error::TrySendError::Full(chunk) => TrySendError::Full(chunk),
            mpsc::error::TrySendError::Closed(_) => Disconnected.into(),
        })
    }

    /// Waits until [`try_send`](Self::try_send) has room.
    ///
    /// # Errors
    ///
    /// When the client is gone.
    pub async fn writable(&mut self) -> Result<(), Disconnected> {
        self.pieces
            .reserve()
            .await
            .map(drop)
            .map_err(|_| Disconnected)
    }

    /// Ends the response as it should end.
    pub fn finish(self) {
        self.finished.store(true, Ordering::Release);
    }

    /// Breaks the response off: the client must not take it for complete.
    pub fn abort(self) {
        drop(self);
    }
}
