//! A response's content: read as fast as it is used, decoded, and timed.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::alarm_clock::{Alarm, AlarmClock};
use crate::deadline::Deadline;
use crate::decoding::Decoder;
use crate::exchange::explain;
use crate::pool::Lease;
use crate::timings::Stopwatch;
use crate::{Content, ContentCollector, Error, ErrorKind, Timings};

/// Content up to this size is read to its end for the sake of the connection, when nobody wants
/// it. For more, a new connection is cheaper.
const DRAINED_BYTES: u64 = 64 * 1024;

/// Nor is content read that takes longer than this to come.
const DRAIN_TIME: Duration = Duration::from_millis(250);

/// How long the rest of content may take to come, when its call was cancelled. Whoever has
/// cancelled wants the connection to be at rest or closed soon.
const ABANDONED_TIME: Duration = Duration::from_millis(5);

/// The content of a response. Dropping it before its end closes the connection (HTTP/1.1) or
/// cancels the stream (HTTP/2).
pub struct ResponseBody {
    source: Option<Source>,
    decoder: Option<Decoder>,
    read_timeout: Option<Duration>,
    deadline: Deadline,
    alarm: Alarm,
    stopwatch: Rc<Stopwatch>,
    timings: Option<Timings>,
}

struct Source {
    incoming: Incoming,
    lease: Lease,
}

impl Source {
    fn bytes_read(&self) -> u64 {
        self.lease.activity().bytes_read()
    }
}

impl ResponseBody {
    pub(crate) fn new(
        incoming: Incoming,
        lease: Lease,
        decoder: Option<Decoder>,
        read_timeout: Option<Duration>,
        deadline: Deadline,
        stopwatch: Rc<Stopwatch>,
        clock: &Rc<AlarmClock>,
    ) -> Self {
        let mut body = Self {
            source: Some(Source { incoming, lease }),
            decoder,
            read_timeout,
            deadline,
            alarm: Alarm::new(clock),
            stopwatch,
            timings: None,
        };
        if let Some(source) = &body.source
            && source.incoming.is_end_stream()
        {
            body.end();
        }
        body
    }

    /// From now on only the pieces are timed, not the whole call.
    pub(crate) fn without_deadline(&mut self) {
        self.deadline = Deadline::never();
    }

    /// Changes how long a piece may take to come.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    /// Whether all of it was read.
    pub fn is_at_end(&self) -> bool {
        self.source.is_none()
    }

    /// How long the phases of the call took, so far.
    pub fn timings(&self) -> Timings {
        self.timings.unwrap_or_else(|| self.stopwatch.read())
    }

    /// The end was seen: the connection can serve others.
    fn end(&mut self) {
        self.timings = Some(self.stopwatch.read());
        if let Some(source) = self.source.take() {
            source.lease.finish();
        }
    }

    /// The next piece of content, decoded; `None` at the end.
    ///
    /// # Errors
    ///
    /// `ReadTimeout`, `TotalTimeout`, `Read`, `RemoteProtocol`, `Decoding`, `BodyTooLarge`. After
    /// an error there is nothing more.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let piece = match self.raw_chunk().await {
                Ok(piece) => piece,
                Err(error) => {
                    self.source = None;
                    return Err(error);
                }
            };
            let Some(decoder) = &mut self.decoder else {
                return Ok(piece);
            };
            let decoded = match &piece {
                Some(piece) => decoder.decode(piece),
                None => {
                    let rest = decoder.finish();
                    self.decoder = None;
                    rest
                }
            };
            match decoded {
                Ok(decoded) if decoded.is_empty() && piece.is_some() => {}
                Ok(decoded) if decoded.is_empty() => return Ok(None),
                Ok(decoded) => return Ok(Some(decoded)),
                Err(error) => {
                    self.source = None;
                    return Err(error);
                }
            }
        }
    }

    /// The next piece as it came.
    async fn raw_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let since = Instant::now();
        let bytes_before = self.source.as_ref().map_or(0, Source::bytes_read);
        // That of a wait that was given up: there was time between.
        self.alarm.take_back();
        let piece = poll_fn(|context| self.poll_raw_chunk(since, context)).await;
        if let (Err(error), Some(source)) = (&piece, &self.source)
            && error.kind() == ErrorKind::ReadTimeout
        {
            source.lease.note_silence(bytes_before);
        }
        piece
    }

    fn poll_raw_chunk(
        &mut self,
        since: Instant,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            let Some(source) = &mut self.source else {
                return Poll::Ready(Ok(None));
            };
            match Pin::new(&mut source.incoming).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.alarm.take_back();
                    // Trailers are nobody's headers; they are passed over.
                    let Ok(piece) = frame.into_data() else {
                        continue;
                    };
                    if source.incoming.is_end_stream() {
                        self.end();
                    }
                    if piece.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Ok(Some(piece)));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(explain(error))),
                Poll::Ready(None) => {
                    self.end();
                    return Poll::Ready(Ok(None));
                }
                Poll::Pending => {}
            }
            let read_due = self.read_timeout.map(|timeout| since + timeout);
            let Some(due) = [read_due, self.deadline.at()].into_iter().flatten().min() else {
                return Poll::Pending;
            };
            if self.alarm.poll(due, context).is_pending() {
                return Poll::Pending;
            }
            let error = if self.deadline.has_passed() {
                self.deadline.error()
            } else {
                let seconds = self.read_timeout.unwrap_or_default().as_secs_f64();
                Error::new(
                    ErrorKind::ReadTimeout,
                    format!("no further content came within {seconds} s"),
                )
            };
            return Poll::Ready(Err(error));
        }
    }

    /// How many bytes of content are still to come at least: all, if the server has said how many
    /// there are.
    pub fn least_left_bytes(&self) -> u64 {
        let source = self.source.as_ref();
        source.map_or(0, |source| source.incoming.size_hint().lower())
    }

    /// All of the content.
    ///
    /// # Errors
    ///
    /// As `chunk`, and `BodyTooLarge` when it is more than `limit_bytes`.
    pub async fn collect(&mut self, limit_bytes: u64) -> Result<Content, Error> {
        let mut content = ContentCollector::default();
        let mut size = 0;
        while let Some(piece) = self.chunk().await? {
            size += piece.len() as u64;
            if size > limit_bytes {
                self.source = None;
                return Err(Error::new(
                    ErrorKind::BodyTooLarge,
                    format!("the response's content is larger than {limit_bytes} bytes"),
                ));
            }
            content.push(piece);
        }
        Ok(content.finish())
    }

    /// Lets go of content that nobody wants: reads a short rest, so that the connection can serve
    /// others, and breaks a long one off.
    pub async fn discard(mut self) {
        self.decoder = None;
        self.deadline = self.deadline.at_latest(DRAIN_TIME);
        let is_long = |source: &Source| source.incoming.size_hint().lower() > DRAINED_BYTES;
        if self.source.as_ref().is_some_and(is_long) {
            return;
        }
        let mut read = 0;
        while read <= DRAINED_BYTES {
            match self.raw_chunk().await {
                Ok(Some(piece)) => read += piece.len() as u64,
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Lets go of content whose call was cancelled: a short rest that comes at once is read, so
    /// that the connection can serve others; else the connection is closed, or the stream reset.
    pub async fn abandon(self) {
        let is_short = self.source.as_ref().is_some_and(|source| {
            matches!(source.lease, Lease::Http1(_))
                && source.incoming.size_hint().lower() <= DRAINED_BYTES
        });
        if is_short {
            // What takes longer is dropped here.
            tokio::time::timeout(ABANDONED_TIME, self.discard())
                .await
                .ok();
        }
    }
}
