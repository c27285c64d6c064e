//! Lets a worker thread read a request's content with blocking calls.
//!
//! The loop's thread must never wait for the worker: a task in between waits
//! instead, so the socket is read only as fast as the worker reads.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use crate::{BodyError, RequestBody, connection_set};

/// Pieces that may wait between the loop and the worker.
///
/// hyper reads at most its buffer's size at a time, so this also bounds the bytes.
const WAITING_CHUNKS: usize = 2;

/// The content of a request, to be read on another thread.
#[derive(Debug)]
pub struct BodyReader {
    prefix: VecDeque<Bytes>,
    source: Source,
}

/// Where the next piece comes from.
#[derive(Debug)]
enum Source {
    /// The pump waits for the first read.
    Unstarted {
        pieces: mpsc::Receiver<Piece>,
        wanted: Arc<Notify>,
    },
    /// The pump is reading.
    Started { pieces: mpsc::Receiver<Piece> },
    /// Everything was read.
    Ended,
    /// The same error is reported from now on.
    Failed(BodyError),
}

#[derive(Debug)]
enum Piece {
    Chunk(Bytes),
    /// The true end. A channel that closes without it is content that broke off.
    End,
    Failure(BodyError),
}

impl BodyReader {
    pub(crate) fn start(body: RequestBody, prefix: Vec<Bytes>) -> Self {
        let prefix = VecDeque::from(prefix);
        if body.has_ended() {
            return Self {
                prefix,
                source: Source::Ended,
            };
        }
        let (sender, pieces) = mpsc::channel(WAITING_CHUNKS);
        let wanted = Arc::new(Notify::new());
        connection_set::spawn_pump(pump(body, sender, Arc::clone(&wanted)));
        Self {
            prefix,
            source: Source::Unstarted { pieces, wanted },
        }
    }

    /// Blocks until the next piece is here; `None` is the true end.
    ///
    /// An error is reported again by every later call, so content that ended
    /// early is never mistaken for content that ended.
    ///
    /// # Errors
    ///
    /// When the content can't be read to its end.
    ///
    /// # Panics
    ///
    /// On the loop's own thread, where waiting for the loop would never end.
    pub fn read_chunk_blocking(&mut self) -> Result<Option<Bytes>, BodyError> {
        if let Some(chunk) = self.prefix.pop_front() {
            return Ok(Some(chunk));
        }
        self.begin();
        let pieces = match &mut self.source {
            Source::Started { pieces } | Source::Unstarted { pieces, .. } => pieces,
            Source::Ended => return Ok(None),
            Source::Failed(error) => return Err(error.clone()),
        };
        match pieces.blocking_recv() {
            Some(Piece::Chunk(chunk)) => Ok(Some(chunk)),
            Some(Piece::End) => {
                self.source = Source::Ended;
                Ok(None)
            }
            Some(Piece::Failure(error)) => Err(self.fail(error)),
            None => Err(self.fail(BodyError::Incomplete)),
        }
    }

    fn begin(&mut self) {
        if let Source::Unstarted { .. } = self.source {
            let unstarted = std::mem::replace(&mut self.source, Source::Ended);
            if let Source::Unstarted { pieces, wanted } = unstarted {
                wanted.notify_one();
                self.source = Source::Started { pieces };
            }
        }
    }

    fn fail(&mut self, error: BodyError) -> BodyError {
        self.source = Source::Failed(error.clone());
        error
    }
}

async fn pump(mut body: RequestBody, pieces: mpsc::Sender<Piece>, wanted: Arc<Notify>) {
    tokio::select! {
        () = wanted.notified() => {}
        // Nobody will ever read: let go of the content at once.
        () = pieces.closed() => return,
    }
    loop {
        let outcome = tokio::select! {
            outcome = body.next_chunk() => outcome,
            () = pieces.closed() => return,
        };
        let (piece, last) = match outcome {
            Ok(Some(chunk)) => (Piece::Chunk(chunk), false),
            Ok(None) => (Piece::End, true),
            Err(error) => (Piece::Failure(error), true),
        };
        if pieces.send(piece).await.is_err() || last {
            return;
        }
    }
}
