//! The content of a request on its way: how far it has come, and how it is broken off.
//!
//! HTTP/2: what is handed over waits in h2 until the server's window has room for it, and hyper
//! waits for room for no more than the first byte of a piece. A server that answers early may
//! never make room; then its content would stay in h2, and its stream count as one in use, until
//! the connection ends, since nobody has a handle any more to reset it by. So the last byte is a
//! piece of its own: hyper lets go of the content not before there is room for all of it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::upload::{Piece, RequestBody, UploadStream};
use crate::{Error, ErrorKind};

/// Content is handed to the connection in pieces of this size, so that progress is seen.
const PIECE_BYTES: usize = 64 * 1024;

/// Frames that are no longer than this are short to h2, which counts them.
const SHORT_PIECE_BYTES: usize = 256;

/// How far the sending of a request's content has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UploadState {
    /// A piece was handed over then, and no further one was asked for.
    Handed(Instant),
    /// The connection would take more; there is none yet.
    AwaitsSource,
    /// All was handed over then; with HTTP/2, the server's window has had room for it.
    Complete(Instant),
    /// The source has failed.
    Failed,
}

/// The content as hyper takes it, which writes down how far it has come.
#[derive(Debug)]
pub(crate) struct Upload {
    shared: Rc<Shared>,
}

/// The upload that an HTTP/2 connection begins to send: the task that hyper starts next, to send
/// the rest of it, is that upload's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beginning {
    upload: Rc<RefCell<Option<Weak<Shared>>>>,
}

impl Beginning {
    /// Notes the task that was started.
    pub(crate) fn has_task(&self, task: AbortHandle) {
        let upload = self.upload.take().and_then(|upload| upload.upgrade());
        if let Some(upload) = upload {
            upload.task.replace(Some(task));
        }
    }
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
    /// Where it is to be noted that the sending begins (HTTP/2).
    beginning: RefCell<Option<Beginning>>,
    /// Whether a piece is followed by its last byte as a piece of its own (HTTP/2).
    splits_pieces: Cell<bool>,
    last_byte: RefCell<Option<Bytes>>,
    /// hyper's task that sends it (HTTP/2).
    task: RefCell<Option<AbortHandle>>,
    /// Whether hyper has let go of it, and who waits for that.
    has_ended: Cell<bool>,
    ending: RefCell<Option<Waker>>,
}

impl UploadProgress {
    pub(crate) fn state(&self) -> UploadState {
        self.shared.state.get()
    }

    /// Whether all of it was handed over.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.state(), UploadState::Complete(_))
    }

    /// Waits until nothing more of it is taken.
    pub(crate) async fn ended(&self) {
        poll_fn(|context| {
            if self.shared.has_ended.get() {
                return Poll::Ready(());
            }
            self.shared.ending.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Breaks the sending off, if it goes on still: the stream is reset (HTTP/2).
    pub(crate) fn break_off(&self) {
        if self.is_complete() {
            return;
        }
        let task = self.shared.task.take();
        if let Some(task) = task {
            task.abort();
        }
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
            beginning: RefCell::default(),
            splits_pieces: Cell::new(false),
            last_byte: RefCell::default(),
            task: RefCell::default(),
            has_ended: Cell::new(false),
            ending: RefCell::default(),
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

    /// Notes the connection that is to send it (HTTP/2).
    pub(crate) fn begins_with(&self, beginning: &Beginning) {
        self.shared.splits_pieces.set(true);
        self.shared.beginning.replace(Some(beginning.clone()));
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

impl Drop for Upload {
    fn drop(&mut self) {
        self.shared.has_ended.set(true);
        self.shared.note_end();
        if let Some(waiting) = self.shared.ending.take() {
            waiting.wake();
        }
    }
}

impl Shared {
    /// Notes that the last piece was handed over.
    fn note_last_piece(&self) {
        let now = Instant::now();
        self.state.set(if self.splits_pieces.get() {
            // It may still wait for room.
            UploadState::Handed(now)
        } else {
            UploadState::Complete(now)
        });
    }

    /// Notes that hyper has let go of it.
    fn note_end(&self) {
        let is_all_taken = match &*self.body.borrow() {
            RequestBody::Full(bytes) => bytes.is_empty(),
            RequestBody::Empty | RequestBody::Sent => true,
            RequestBody::Stream(_) | RequestBody::Source(_) => false,
        };
        if is_all_taken && matches!(self.state.get(), UploadState::Handed(_)) {
            self.state.set(UploadState::Complete(Instant::now()));
        }
    }

    /// Takes off the last byte of a piece of a stream, to be sent next (HTTP/2). Servers that count
    /// short frames as an attack don't get two for one, but at the end.
    fn split(&self, stream: &mut UploadStream, mut piece: Bytes) -> Bytes {
        let is_wanted = self.splits_pieces.get() && piece.len() > 1;
        if is_wanted && (piece.len() > SHORT_PIECE_BYTES || stream.is_at_end()) {
            self.last_byte
                .replace(Some(piece.split_off(piece.len() - 1)));
        }
        piece
    }

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
        if let Some(last_byte) = self.last_byte.take() {
            self.state.set(UploadState::Handed(Instant::now()));
            return Poll::Ready(Ok(Some(last_byte)));
        }
        let Poll::Ready(piece) = stream.poll_piece(context) else {
            self.state.set(UploadState::AwaitsSource);
            self.waiting.replace(Some(context.waker().clone()));
            return Poll::Pending;
        };
        let message = match piece {
            Some(Piece::Content(piece)) => {
                self.state.set(UploadState::Handed(Instant::now()));
                let length = piece.len() as u64;
                match stream.remaining.map(|left| left.checked_sub(length)) {
                    Some(None) => "the upload is longer than its Content-Length".to_owned(),
                    left => {
                        stream.remaining = left.flatten();
                        return Poll::Ready(Ok(Some(self.split(stream, piece))));
                    }
                }
            }
            Some(Piece::End) if stream.remaining.unwrap_or(0) == 0 => {
                self.note_last_piece();
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
                let mut length = bytes.len().min(PIECE_BYTES);
                if length == bytes.len() && length > 1 && shared.splits_pieces.get() {
                    length -= 1;
                }
                let piece = bytes.split_to(length);
                if bytes.is_empty() {
                    shared.note_last_piece();
                } else {
                    shared.state.set(UploadState::Handed(Instant::now()));
                }
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
        let is_at_end = match &*self.shared.body.borrow() {
            _ if matches!(self.shared.state.get(), UploadState::Failed) => false,
            RequestBody::Empty | RequestBody::Sent => true,
            RequestBody::Full(bytes) => bytes.is_empty(),
            RequestBody::Stream(_) | RequestBody::Source(_) => false,
        };
        // hyper asks this when it begins with a request, one after the other.
        if let Some(beginning) = self.shared.beginning.take() {
            let upload = (!is_at_end).then(|| Rc::downgrade(&self.shared));
            let before = beginning.upload.replace(upload);
            drop(before);
        }
        is_at_end
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
