//! What a request carries: content, or where it comes from.

use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Pieces that a source may be ahead of the connection.
const QUEUED_PIECES: usize = 4;

/// What a source puts into the channel. A channel that is closed without an end is a source
/// that broke off: half an upload must not look like a whole one.
#[derive(Debug)]
pub(crate) enum Piece {
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
    /// What was taken out to see whether it is the end.
    next: Option<Piece>,
    pub(crate) remaining: Option<u64>,
    pub(crate) has_begun: bool,
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
            next: None,
            remaining: length,
            has_begun: false,
            when_dropped: DropHook::default(),
        };
        (UploadSender { pieces: sender }, stream)
    }

    /// Takes the next piece; `None` when the source has broken off.
    pub(crate) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        match self.next.take() {
            Some(piece) => Poll::Ready(Some(piece)),
            None => self.pieces.poll_recv(context),
        }
    }

    /// Whether it is known already that nothing more comes.
    pub(crate) fn is_at_end(&mut self) -> bool {
        if self.next.is_none() {
            self.next = self.pieces.try_recv().ok();
        }
        matches!(self.next, Some(Piece::End))
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
