//! What a request carries, and how far its sending has come.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

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

/// What makes a request's content, piece by piece, when there is a connection for it.
pub trait ContentSource: Send {
    /// Begins to make it, from its start.
    fn begin(&mut self) -> UploadStream;

    /// Whether that can be done more than once.
    fn is_repeatable(&self) -> bool;
}

/// A source, and how far it was used.
pub struct SourceBody {
    source: Box<dyn ContentSource>,
    has_begun: bool,
    /// What was begun for a connection that took nothing of it.
    unsent: Option<UploadStream>,
}

impl fmt::Debug for SourceBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("SourceBody");
        shown.field("has_begun", &self.has_begun);
        shown.finish_non_exhaustive()
    }
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
    /// What makes streams. Can be sent again if it can make another one.
    Source(SourceBody),
    /// A stream that was sent.
    Sent,
}

impl RequestBody {
    /// A stream, and where its pieces are put. `length` is its size in bytes if that is known;
    /// else it is sent in chunks.
    pub fn stream(length: Option<u64>) -> (UploadSender, Self) {
        let (sender, stream) = UploadStream::new(length);
        (sender, Self::Stream(stream))
    }

    /// Content that is made when it is needed.
    pub fn source(source: Box<dyn ContentSource>) -> Self {
        Self::Source(SourceBody {
            source,
            has_begun: false,
            unsent: None,
        })
    }

    /// Whether it can be sent again.
    pub(crate) fn is_repeatable(&self) -> bool {
        match self {
            Self::Empty | Self::Full(_) => true,
            Self::Source(body) => body.source.is_repeatable(),
            Self::Stream(_) | Self::Sent => false,
        }
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
            Self::Source(body) => {
                if let Some(unsent) = body.unsent.take() {
                    return Some(Self::Stream(unsent));
                }
                if body.has_begun && !body.source.is_repeatable() {
                    return None;
                }
                body.has_begun = true;
                Some(Self::Stream(body.source.begin()))
            }
            Self::Sent => None,
        }
    }

    /// Takes back what `for_attempt` has given and nobody has sent.
    pub(crate) fn give_back(&mut self, unsent: Self) {
        match (self, unsent) {
            (Self::Source(body), Self::Stream(stream)) => {
                body.unsent = (!stream.has_begun).then_some(stream);
            }
            (Self::Source(_), _) => {}
            (place, unsent) => *place = unsent,
        }
    }
}

/// A stream of content on its way to the connection.
#[derive(Debug)]
pub struct UploadStream {
    pieces: mpsc::Receiver<Piece>,
    remaining: Option<u64>,
    has_begun: bool,
    when_dropped: DropHook,
}

#[derive(Default)]
struct DropHook(Option<Box<dyn FnOnce() + Send>>);

impl fmt::Debug for DropHook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("DropHook").finish_non_exhaustive()
    }
}

impl Drop for DropHook {
    fn drop(&mut self) {
        if let Some(hook) = self.0.take() {
            hook();
        }
    }
}

impl UploadStream {
    /// A stream, and where its pieces are put; see [`RequestBody::stream`].
    pub fn new(length: Option<u64>) -> (UploadSender, Self) {
        let (sender, receiver) = mpsc::channel(QUEUED_PIECES);
        let stream = Self {
            pieces: receiver,
            remaining: length,
            has_begun: false,
            when_dropped: DropHook::default(),
        };
        (UploadSender { pieces: sender }, stream)
    }

    /// Sets what is called when nobody takes pieces any more, on whatever thread that is.
    pub fn when_dropped(&mut self, hook: impl FnOnce() + Send + 'static) {
        self.when_dropped.0 = Some(Box::new(hook));
    }
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

    /// Nothing more comes.
    ///
    /// # Errors
    ///
    /// `UploadEnded` when the request has ended.
    pub async fn finish(&self) -> Result<(), UploadEnded> {
        self.put(Piece::End).await
    }

    /// The source has failed: the request is broken off.
    ///
    /// # Errors
    ///
    /// `UploadEnded` when the request has ended.
    pub async fn fail(&self, reason: String) -> Result<(), UploadEnded> {
        self.put(Piece::Failure(reason)).await
    }

    /// As `fail`, for who can't wait: right after the start there is room.
    ///
    /// # Errors
    ///
    /// `UploadEnded` when the request has ended, or there is no room.
    pub fn fail_at_once(&self, reason: String) -> Result<(), UploadEnded> {
        let piece = Piece::Failure(reason);
        self.pieces.try_send(piece).map_err(|_| UploadEnded)
    }

    async fn put(&self, piece: Piece) -> Result<(), UploadEnded> {
        self.pieces.send(piece).await.map_err(|_| UploadEnded)
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
    shared: Rc<Shared>,
}

/// What who waits for a response knows of the sending.
#[derive(Clone, Debug)]
pub(crate) struct UploadProgress {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    body: RefCell<RequestBody>,
    state: Cell<UploadState>,
    failure: RefCell<Option<Error>>,
    /// The connection, while it waits for a piece.
    waiting: RefCell<Option<Waker>>,
}

impl UploadProgress {
    pub(crate) fn state(&self) -> UploadState {
        self.shared.state.get()
    }

    /// Whether all of it was handed over.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.state(), UploadState::Complete(_))
    }

    /// Why the source has failed.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.shared.failure.take()
    }

    /// Takes no further piece of a stream: the content is about to be sent anew, elsewhere. What
    /// was sent of it stays a torso.
    pub(crate) fn give_up(&self) {
        if self.is_complete() {
            return;
        }
        self.shared.state.set(UploadState::Failed);
        let unsent = self.shared.body.replace(RequestBody::Sent);
        drop(unsent);
        if let Some(connection) = self.shared.waiting.take() {
            connection.wake();
        }
    }
}

impl Upload {
    pub(crate) fn new(body: RequestBody) -> (Self, UploadProgress) {
        let now = Instant::now();
        let is_empty = match &body {
            RequestBody::Full(bytes) => bytes.is_empty(),
            RequestBody::Stream(_) | RequestBody::Source(_) => false,
            RequestBody::Empty | RequestBody::Sent => true,
        };
        let state = if is_empty {
            UploadState::Complete(now)
        } else {
            UploadState::Handed(now)
        };
        let shared = Rc::new(Shared {
            body: RefCell::new(body),
            state: Cell::new(state),
            failure: RefCell::default(),
            waiting: RefCell::default(),
        });
        let upload = Self { shared };
        let progress = upload.progress();
        (upload, progress)
    }

    pub(crate) fn progress(&self) -> UploadProgress {
        UploadProgress {
            shared: Rc::clone(&self.shared),
        }
    }

    /// Whether there is no content.
    pub(crate) fn is_empty(&self) -> bool {
        match &*self.shared.body.borrow() {
            RequestBody::Empty => true,
            RequestBody::Full(bytes) => bytes.is_empty(),
            RequestBody::Stream(_) | RequestBody::Source(_) | RequestBody::Sent => false,
        }
    }

    /// The content, when nothing of it was sent.
    pub(crate) fn into_body(self) -> RequestBody {
        self.shared.body.take()
    }
}

impl Shared {
    fn fail(&self, message: String) -> UploadBroken {
        self.state.set(UploadState::Failed);
        self.failure
            .replace(Some(Error::new(ErrorKind::BodySource, message)));
        UploadBroken
    }

    /// The next piece of a stream; `None` at its end.
    fn poll_stream(
        &self,
        stream: &mut UploadStream,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, UploadBroken>> {
        stream.has_begun = true;
        let Poll::Ready(piece) = stream.pieces.poll_recv(context) else {
            self.state.set(UploadState::AwaitsSource);
            self.waiting.replace(Some(context.waker().clone()));
            return Poll::Pending;
        };
        let message = match piece {
            Some(Piece::Content(piece)) => {
                self.state.set(UploadState::Handed(Instant::now()));
                let Some(remaining) = &mut stream.remaining else {
                    return Poll::Ready(Ok(Some(piece)));
                };
                if let Some(left) = remaining.checked_sub(piece.len() as u64) {
                    *remaining = left;
                    return Poll::Ready(Ok(Some(piece)));
                }
                "the upload is longer than its Content-Length".to_owned()
            }
            Some(Piece::End) if stream.remaining.unwrap_or(0) == 0 => {
                self.state.set(UploadState::Complete(Instant::now()));
                return Poll::Ready(Ok(None));
            }
            Some(Piece::End) => "the upload is shorter than its Content-Length".to_owned(),
            Some(Piece::Failure(reason)) => {
                format!("the content to upload can't be read: {reason}")
            }
            None => "the source of the upload broke off".to_owned(),
        };
        Poll::Ready(Err(self.fail(message)))
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
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadBroken>>> {
        let shared = &self.shared;
        if matches!(shared.state.get(), UploadState::Failed) {
            return Poll::Ready(Some(Err(UploadBroken)));
        }
        let mut body = shared.body.borrow_mut();
        match &mut *body {
            RequestBody::Empty | RequestBody::Sent | RequestBody::Source(_) => Poll::Ready(None),
            RequestBody::Full(bytes) => {
                if bytes.is_empty() {
                    return Poll::Ready(None);
                }
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                let now = Instant::now();
                shared.state.set(if bytes.is_empty() {
                    UploadState::Complete(now)
                } else {
                    UploadState::Handed(now)
                });
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            RequestBody::Stream(stream) => match shared.poll_stream(stream, context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(Some(piece))) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                Poll::Ready(Ok(None)) => {
                    let sent = std::mem::replace(&mut *body, RequestBody::Sent);
                    drop(body);
                    // This may call others.
                    drop(sent);
                    Poll::Ready(None)
                }
                Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        if matches!(self.shared.state.get(), UploadState::Failed) {
            return false;
        }
        match &*self.shared.body.borrow() {
            RequestBody::Empty | RequestBody::Sent => true,
            RequestBody::Full(bytes) => bytes.is_empty(),
            RequestBody::Stream(_) | RequestBody::Source(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &*self.shared.body.borrow() {
            RequestBody::Empty | RequestBody::Sent => SizeHint::with_exact(0),
            RequestBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            RequestBody::Stream(stream) => match stream.remaining {
                Some(length) => SizeHint::with_exact(length),
                None => SizeHint::default(),
            },
            RequestBody::Source(_) => SizeHint::default(),
        }
    }
}
