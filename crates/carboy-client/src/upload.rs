//! What a request carries, and how far its sending has come.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::{Error, ErrorKind};

/// Content is handed to the connection in pieces of this size, so that progress is seen.
const PIECE_BYTES: usize = 64 * 1024;

/// Pieces that a source may be ahead of the connection.
const QUEUED_PIECES: usize = 4;

/// What a source puts into the channel. A channel that is closed without an end is a source
/// that broke off: half an upload must not look like a whole one.
#[derive(Debug)]
enum Piece {
    Content(Bytes),
    End,
    Failure(String),
}

/// The content of a request.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// No content.
    #[default]
    Empty,
    /// All of it. Can be sent again after a redirect or a retry.
    Full(Bytes),
    /// A stream. Is sent once.
    Stream(UploadStream),
    /// A stream that was sent.
    Sent,
}

impl RequestBody {
    /// A stream, and where its pieces are put. `length` is its size in bytes if that is known;
    /// else it is sent in chunks.
    pub fn stream(length: Option<u64>) -> (UploadSender, Self) {
        let (sender, receiver) = mpsc::channel(QUEUED_PIECES);
        let stream = UploadStream {
            pieces: receiver,
            remaining: length,
            has_begun: false,
        };
        (UploadSender { pieces: sender }, Self::Stream(stream))
    }

    /// Whether it can be sent again.
    pub(crate) fn is_repeatable(&self) -> bool {
        matches!(self, Self::Empty | Self::Full(_))
    }

    /// The body for one more attempt: a copy, or the stream itself if nothing of it was taken.
    pub(crate) fn for_attempt(&mut self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Full(bytes) => Some(Self::Full(bytes.clone())),
            Self::Stream(_) => match std::mem::replace(self, Self::Sent) {
                Self::Stream(stream) if !stream.has_begun => Some(Self::Stream(stream)),
                _ => None,
            },
            Self::Sent => None,
        }
    }
}

/// A stream of content on its way to the connection.
#[derive(Debug)]
pub struct UploadStream {
    pieces: mpsc::Receiver<Piece>,
    remaining: Option<u64>,
    has_begun: bool,
}

/// Where the pieces of a streamed upload are put, from any thread.
#[derive(Clone, Debug)]
pub struct UploadSender {
    pieces: mpsc::Sender<Piece>,
}

/// The request has ended: nobody takes further pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadEnded;

impl UploadSender {
    /// Waits for room, and puts a piece there.
    ///
    /// # Errors
    ///
    /// `UploadEnded` when the request has ended.
    pub async fn send(&self, piece: Bytes) -> Result<(), UploadEnded> {
        self.put(Piece::Content(piece)).await
    }

    /// As `send`, for a thread that is not the runtime's: it waits without it.
    ///
    /// # Errors
    ///
    /// `UploadEnded` when the request has ended.
    pub fn blocking_send(&self, piece: Bytes) -> Result<(), UploadEnded> {
        self.blocking_put(Piece::Content(piece))
    }

    /// Nothing more comes.
    ///
    /// # Errors
    ///
    /// `UploadEnded` when the request has ended.
    pub async fn finish(&self) -> Result<(), UploadEnded> {
        self.put(Piece::End).await
    }

    /// As `finish`, for a thread that is not the runtime's.
    ///
    /// # Errors
    ///
    /// `UploadEnded` when the request has ended.
    pub fn blocking_finish(&self) -> Result<(), UploadEnded> {
        self.blocking_put(Piece::End)
    }

    /// The source has failed: the request is broken off.
    ///
    /// # Errors
    ///
    /// `UploadEnded` when the request has ended.
    pub async fn fail(&self, reason: String) -> Result<(), UploadEnded> {
        self.put(Piece::Failure(reason)).await
    }

    /// As `fail`, for a thread that is not the runtime's.
    ///
    /// # Errors
    ///
    /// `UploadEnded` when the request has ended.
    pub fn blocking_fail(&self, reason: String) -> Result<(), UploadEnded> {
        self.blocking_put(Piece::Failure(reason))
    }

    async fn put(&self, piece: Piece) -> Result<(), UploadEnded> {
        self.pieces.send(piece).await.map_err(|_| UploadEnded)
    }

    fn blocking_put(&self, piece: Piece) -> Result<(), UploadEnded> {
        self.pieces.blocking_send(piece).map_err(|_| UploadEnded)
    }
}

/// How far the sending of a request's content has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UploadState {
    /// A piece was handed over then, and no further one was asked for.
    Handed(Instant),
    /// The connection would take more; there is none yet.
    AwaitsSource,
    /// All was handed over then.
    Complete(Instant),
    /// The source has failed.
    Failed,
}

/// The content as hyper takes it, which writes down how far it has come.
#[derive(Debug)]
pub(crate) struct Upload {
    body: RequestBody,
    state: Rc<Cell<UploadState>>,
    failure: Rc<RefCell<Option<Error>>>,
}

/// What who waits for a response knows of the sending.
#[derive(Clone, Debug)]
pub(crate) struct UploadProgress {
    state: Rc<Cell<UploadState>>,
    failure: Rc<RefCell<Option<Error>>>,
}

impl UploadProgress {
    pub(crate) fn state(&self) -> UploadState {
        self.state.get()
    }

    /// Why the source has failed.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure.take()
    }
}

impl Upload {
    pub(crate) fn new(body: RequestBody) -> (Self, UploadProgress) {
        let now = Instant::now();
        let is_empty = match &body {
            RequestBody::Full(bytes) => bytes.is_empty(),
            RequestBody::Stream(_) => false,
            RequestBody::Empty | RequestBody::Sent => true,
        };
        let state = Rc::new(Cell::new(if is_empty {
            UploadState::Complete(now)
        } else {
            UploadState::Handed(now)
        }));
        let failure = Rc::default();
        let progress = UploadProgress {
            state: Rc::clone(&state),
            failure: Rc::clone(&failure),
        };
        let upload = Self {
            body,
            state,
            failure,
        };
        (upload, progress)
    }

    /// Whether there is no content.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.body, RequestBody::Empty)
    }

    /// The content, when nothing of it was sent.
    pub(crate) fn into_body(self) -> RequestBody {
        self.body
    }

    fn fail(&self, message: String) -> UploadBroken {
        self.state.set(UploadState::Failed);
        self.failure
            .replace(Some(Error::new(ErrorKind::BodySource, message)));
        UploadBroken
    }
}

/// What hyper is told when the source has failed; the reason is in the progress.
#[derive(Debug, thiserror::Error)]
#[error("the source of the upload failed")]
pub(crate) struct UploadBroken;

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadBroken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadBroken>>> {
        let this = &mut *self;
        match &mut this.body {
            RequestBody::Empty | RequestBody::Sent => Poll::Ready(None),
            RequestBody::Full(bytes) => {
                if bytes.is_empty() {
                    return Poll::Ready(None);
                }
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                let now = Instant::now();
                this.state.set(if bytes.is_empty() {
                    UploadState::Complete(now)
                } else {
                    UploadState::Handed(now)
                });
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            RequestBody::Stream(stream) => {
                stream.has_begun = true;
                match stream.pieces.poll_recv(context) {
                    Poll::Pending => {
                        this.state.set(UploadState::AwaitsSource);
                        Poll::Pending
                    }
                    Poll::Ready(Some(Piece::Content(piece))) => {
                        this.state.set(UploadState::Handed(Instant::now()));
                        if let Some(remaining) = &mut stream.remaining {
                            let Some(left) = remaining.checked_sub(piece.len() as u64) else {
                                let message = "the upload is longer than its Content-Length";
                                return Poll::Ready(Some(Err(this.fail(message.into()))));
                            };
                            *remaining = left;
                        }
                        Poll::Ready(Some(Ok(Frame::data(piece))))
                    }
                    Poll::Ready(Some(Piece::End)) if stream.remaining.unwrap_or(0) == 0 => {
                        this.state.set(UploadState::Complete(Instant::now()));
                        this.body = RequestBody::Sent;
                        Poll::Ready(None)
                    }
                    Poll::Ready(Some(Piece::End)) => {
                        let message = "the upload is shorter than its Content-Length";
                        Poll::Ready(Some(Err(this.fail(message.into()))))
                    }
                    Poll::Ready(Some(Piece::Failure(reason))) => {
                        let message = format!("the content to upload can't be read: {reason}");
                        Poll::Ready(Some(Err(this.fail(message))))
                    }
                    Poll::Ready(None) => {
                        let message = "the source of the upload broke off";
                        Poll::Ready(Some(Err(this.fail(message.into()))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            RequestBody::Empty | RequestBody::Sent => true,
            RequestBody::Full(bytes) => bytes.is_empty(),
            RequestBody::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            RequestBody::Empty | RequestBody::Sent => SizeHint::with_exact(0),
            RequestBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            RequestBody::Stream(stream) => match stream.remaining {
                Some(length) => SizeHint::with_exact(length),
                None => SizeHint::default(),
            },
        }
    }
}
