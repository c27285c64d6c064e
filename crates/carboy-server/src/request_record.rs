//! The bookkeeping of one request, from its head to the end of its response.
//!
//! It is kept by whatever carries the request on; when it is dropped, however that
//! came about, the request is counted as ended and written down.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use tokio::time::Instant;

use crate::Admission;
use crate::access_log::{Entry, RequestLine};
use crate::connection_context::ConnectionContext;

/// The bookkeeping of one request.
#[derive(Debug)]
pub(crate) struct RequestRecord {
    context: Rc<ConnectionContext>,
    /// The status sent; until then the one for a client that went away.
    status: StatusCode,
    sent_bytes: u64,
    complete: bool,
    line: Option<Line>,
    admission: Admission,
}

/// What the access log wants to know, kept only if there is one.
#[derive(Debug)]
struct Line {
    request: RequestLine,
    time: SystemTime,
    begun: Instant,
}

impl RequestRecord {
    /// Begins. `request` is asked for only if there is an access log.
    pub(crate) fn begin(
        context: Rc<ConnectionContext>,
        request: impl FnOnce() -> RequestLine,
    ) -> Self {
        context.activity.begin_request();
        context.server().counters().in_flight_requests.increment();
        let line = context.server().config.access_log.as_ref().map(|_| Line {
            request: request(),
            time: SystemTime::now(),
            begun: Instant::now(),
        });
        // nginx's number for 'the client closed the request' is what log readers know.
        let status = StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST);
        Self {
            context,
            status,
            sent_bytes: 0,
            complete: false,
            line,
            admission: Admission::default(),
        }
    }

    /// The request was let in, and is in progress as long as this exists.
    pub(crate) fn admitted(&mut self, admission: Admission) {
        self.admission = admission;
    }

    pub(crate) fn context(&self) -> &Rc<ConnectionContext> {
        &self.context
    }

    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = status;
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent_bytes = self
            .sent_bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// All of the response was given to hyper.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }

    /// The declared length was wrong: the connection can't be used again.
    pub(crate) fn mismatch(&mut self) {
        self.context
            .server()
            .counters()
            .length_mismatches
            .increment();
        self.context.activity.want_close();
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        self.context.activity.end_request(self.complete);
        let server = self.context.server();
        let counters = server.counters();
        counters.in_flight_requests.decrement();
        counters.served_requests.increment();
        if !self.complete {
            counters.broken_responses.increment();
        }
        if let (Some(log), Some(line)) = (&server.config.access_log, self.line.take()) {
            log.record(Entry {
                peer: self.context.peer.clone(),
                time: line.time,
                request: line.request,
                status: self.status,
                bytes: self.sent_bytes,
                duration: Instant::now()
                    .saturating_duration_since(line.begun)
                    .max(Duration::ZERO),
            });
        }
    }
}
