//! The content of a request, as a stream that is read only as fast as it is used.
//!
//! It must not know who reads it. Whatever goes wrong comes out as a
//! [`BodyError`]: content that ended early never looks like content that ended.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::activity::Activity;
use crate::{BodyError, BodyReader};

/// The content of one request.
#[derive(Debug)]
pub struct RequestBody {
    source: Source,
    declared_bytes: Option<u64>,
    received_bytes: u64,
    terms: Terms,
    failure: Option<BodyError>,
}

/// Under which terms content is read from a connection.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) read_idle: Option<Duration>,
    pub(crate) expects_continue: bool,
    /// Who must know when the content can't be read to its end.
    pub(crate) activity: Option<Arc<Activity>>,
}

#[derive(Debug)]
enum Source {
    /// Nothing (more) will come.
    Ended,
    /// Content that needs no connection.
    Memory(Bytes),
    /// Content that arrives through hyper.
    Network(Incoming),
}

/// What buffering came to.
#[derive(Debug)]
pub enum Buffered {
    /// The whole content.
    Complete(Bytes),
    /// The beginning of the content, and the rest still to be read.
    Partial {
        /// What has been read, in order.
        prefix: Vec<Bytes>,
        /// What has not.
        rest: RequestBody,
    },
    /// The content can't be read to its end.
    Failed(BodyError),
}

impl RequestBody {
    /// No content.
    pub fn empty() -> Self {
        Self::new(Source::Ended, Some(0))
    }

    /// Content that is already here, for tests and for requests made in process.
    pub fn full(content: Bytes) -> Self {
        if content.is_empty() {
            return Self::empty();
        }
        let length = u64::try_from(content.len()).ok();
        Self::new(Source::Memory(content), length)
    }

    /// Content that arrives through hyper.
    pub(crate) fn from_network(incoming: Incoming, terms: Terms) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let declared_bytes = incoming.size_hint().exact();
        Self {
            terms,
            ..Self::new(Source::Network(incoming), declared_bytes)
        }
    }

    fn new(source: Source, declared_bytes: Option<u64>) -> Self {
        Self {
            source,
            declared_bytes,
            received_bytes: 0,
            terms: Terms::default(),
            failure: None,
        }
    }

    /// Whether the head says that there is no content at all (RFC 9112 section 6.3).
    pub fn is_empty(&self) -> bool {
        self.declared_bytes == Some(0)
    }

    /// Whether the client waits for a 100 before it sends the content (RFC 9110
    /// section 10.1.1). hyper sends it when the content is first read.
    pub fn expects_continue(&self) -> bool {
        self.terms.expects_continue
    }

    /// The length the head declares; `None` when the content is chunked.
    pub fn content_length(&self) -> Option<u64> {
        self.declared_bytes
    }

    /// Collects what has already arrived, without waiting, up to `limit_bytes`.
    ///
    /// A client that waits for a 100 has sent nothing, and asking hyper for
    /// content would send it, so such content is always left for later.
    pub async fn buffer_available(self, limit_bytes: usize) -> Buffered {
        self.collect(limit_bytes, false).await
    }

    /// Waits for the whole content, up to `limit_bytes`; `Partial` when it is larger.
    pub async fn buffer(self, limit_bytes: usize) -> Buffered {
        self.collect(limit_bytes, true).await
    }

    /// Hands the rest to another thread. `prefix` is what has been read of it.
    ///
    /// A task on the loop's thread feeds the reader and waits when it is slow. It
    /// starts with the first read, and only then is a 100 sent to a client that
    /// waits for one. Must be called on the loop's thread.
    pub fn into_reader(self, prefix: Vec<Bytes>) -> BodyReader {
        BodyReader::start(self, prefix)
    }

    /// Waits for the next piece; `None` is the true end of the content.
    pub(crate) async fn next_chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        // Most pieces are there already, and then no timer is made.
        let first = poll_fn(|task| match self.poll_chunk(task) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(outcome) = first.await {
            return outcome;
        }
        let read_idle = self.terms.read_idle;
        let next = poll_fn(|task| self.poll_chunk(task));
        let Some(read_idle) = read_idle else {
            return next.await;
        };
        if let Ok(outcome) = tokio::time::timeout(read_idle, next).await {
            return outcome;
        }
        Err(self.fail(BodyError::TimedOut))
    }

    /// Whether nothing is left to read.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.source, Source::Ended) && self.failure.is_none()
    }

    async fn collect(mut self, limit_bytes: usize, wait: bool) -> Buffered {
        if !wait && self.terms.expects_continue {
            return Buffered::Partial {
                prefix: Vec::new(),
                rest: self,
            };
        }
        let mut collected = Collected::default();
        loop {
            let outcome = if wait {
                Some(self.next_chunk().await)
            } else {
                poll_fn(|task| match self.poll_chunk(task) {
                    Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                    Poll::Pending => Poll::Ready(None),
                })
                .await
            };
            match outcome {
                Some(Ok(Some(chunk))) => {
                    collected.push(chunk);
                    if collected.total_bytes > limit_bytes {
                        let prefix = collected.into_chunks();
                        return Buffered::Partial { prefix, rest: self };
                    }
                }
                Some(Ok(None)) => return Buffered::Complete(collected.join()),
                Some(Err(error)) => return Buffered::Failed(error),
                None => {
                    let prefix = collected.into_chunks();
                    return Buffered::Partial { prefix, rest: self };
                }
            }
        }
    }

    fn poll_chunk(&mut self, task: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        if let Some(error) = &self.failure {
            return Poll::Ready(Err(error.clone()));
        }
        loop {
            let incoming = match &mut self.source {
                Source::Ended => return Poll::Ready(Ok(None)),
                Source::Memory(content) => {
                    let content = std::mem::take(content);
                    self.source = Source::Ended;
                    return Poll::Ready(Ok(Some(content)));
                }
                Source::Network(incoming) => incoming,
            };
            let chunk = match ready!(Pin::new(incoming).poll_frame(task)) {
                None => {
                    self.source = Source::Ended;
                    return Poll::Ready(Ok(None));
                }
                Some(Err(error)) => {
                    let error = BodyError::from_hyper(&error);
                    return Poll::Ready(Err(self.fail(error)));
                }
                Some(Ok(frame)) => frame.into_data(),
            };
            // Trailer fields are not content and nobody asked for them.
            let Ok(chunk) = chunk else { continue };
            let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            self.received_bytes = self.received_bytes.saturating_add(length);
            if let Some(limit_bytes) = self.terms.limit_bytes
                && self.received_bytes > limit_bytes
            {
                return Poll::Ready(Err(self.fail(BodyError::TooLarge { limit_bytes })));
            }
            return Poll::Ready(Ok(Some(chunk)));
        }
    }

    /// Remembers the failure and lets go of the connection's side, so that hyper
    /// stops reading.
    fn fail(&mut self, error: BodyError) -> BodyError {
        self.source = Source::Ended;
        self.failure = Some(error.clone());
        if let Some(activity) = &self.terms.activity {
            activity.break_content();
        }
        error
    }
}

/// Content below this size is copied together: a peer that sends chunks of one
/// byte must not cost a whole record each.
const SMALL_CHUNK_BYTES: usize = 1024;

/// Pieces of content in order.
#[derive(Debug, Default)]
struct Collected {
    chunks: Vec<Bytes>,
    /// Small pieces that follow `chunks`.
    tail: BytesMut,
    total_bytes: usize,
}

impl Collected {
    fn push(&mut self, chunk: Bytes) {
        let is_first = self.total_bytes == 0;
        self.total_bytes = self.total_bytes.saturating_add(chunk.len());
        if chunk.len() < SMALL_CHUNK_BYTES && !is_first {
            self.tail.extend_from_slice(&chunk);
        } else {
            self.flush();
            self.chunks.push(chunk);
        }
    }

    fn flush(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push(self.tail.split().freeze());
        }
    }

    fn into_chunks(mut self) -> Vec<Bytes> {
        self.flush();
        self.chunks
    }

    /// One piece; without a copy if there was one.
    fn join(mut self) -> Bytes {
        self.flush();
        if self.chunks.len() <= 1 {
            return self.chunks.pop().unwrap_or_default();
        }
        let mut joined = BytesMut::with_capacity(self.total_bytes);
        for chunk in &self.chunks {
            joined.extend_from_slice(chunk);
        }
        joined.freeze()
    }
}
