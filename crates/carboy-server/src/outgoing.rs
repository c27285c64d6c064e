//! The last look at a response on its way to hyper.
//!
//! Counts the bytes against the Content-Length the application declared: a
//! response is never padded, never cut without the client noticing, and its
//! connection is not used again if the numbers differ (RFC 9112 section 6.3).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::ResponseBody;
use crate::request_record::RequestRecord;
use crate::response_body::StreamAborted;

/// A response's content with its bookkeeping.
#[derive(Debug)]
pub(crate) struct Outgoing {
    content: ResponseBody,
    length: Length,
    record: RequestRecord,
    /// The response is about to be broken off.
    breaking: Option<OutgoingError>,
}

/// What the response's head promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// Whatever the content is: hyper counts it or chunks it.
    Free,
    /// So many bytes are still owed.
    Owed(u64),
}

/// Why a response was broken off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutgoingError {
    #[error(transparent)]
    Aborted(#[from] StreamAborted),
    #[error("the response is shorter than its Content-Length")]
    TooShort,
}

impl Outgoing {
    pub(crate) fn new(content: ResponseBody, length: Length, mut record: RequestRecord) -> Self {
        if content.is_end_stream() && matches!(length, Length::Free | Length::Owed(0)) {
            record.complete();
        }
        Self {
            content,
            length,
            record,
            breaking: None,
        }
    }

    /// Takes what the promise leaves room for. A kept promise ends the content: what
    /// the application sends after it is refused, not sent.
    fn count(&mut self, mut chunk: Bytes) -> Bytes {
        if let Length::Owed(owed) = self.length {
            let room = usize::try_from(owed).unwrap_or(usize::MAX);
            let excess = chunk.len() > room;
            chunk.truncate(room);
            let taken = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            let owed = owed.saturating_sub(taken);
            self.length = Length::Owed(owed);
            if owed == 0 {
                if excess || self.content.has_waiting_pieces() {
                    self.record.mismatch();
                }
                self.content = ResponseBody::empty();
            }
        }
        self.record.sent(chunk.len());
        chunk
    }
}

impl Outgoing {
    /// Breaks off with the next poll. hyper throws away what it has not sent when it
    /// sees an error, and while a body is pending it sends what it has: the client
    /// then sees the beginning of a response instead of nothing at all.
    fn break_off<T>(&mut self, error: OutgoingError, task: &Context<'_>) -> Poll<T> {
        self.breaking = Some(error);
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = OutgoingError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OutgoingError>>> {
        if let Some(error) = self.breaking.take() {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match ready!(Pin::new(&mut self.content).poll_frame(task)) {
                Some(Ok(frame)) => {
                    // A response body has no trailers, and empty pieces say nothing.
                    let Ok(chunk) = frame.into_data() else {
                        continue;
                    };
                    let chunk = self.count(chunk);
                    if self.is_end_stream() {
                        self.record.complete();
                    }
                    if chunk.is_empty() && !self.is_end_stream() {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(chunk))));
                }
                Some(Err(error)) => return self.break_off(error.into(), task),
                None if matches!(self.length, Length::Owed(1..)) => {
                    self.record.mismatch();
                    return self.break_off(OutgoingError::TooShort, task);
                }
                None => {
                    self.record.complete();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream() && !matches!(self.length, Length::Owed(1..))
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Length::Free => self.content.size_hint(),
            // hyper then takes the number from the head, which is the promise.
            Length::Owed(_) => SizeHint::default(),
        }
    }
}
