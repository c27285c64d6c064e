//! One request and the head of its response, on one connection.

use std::error::Error as StdError;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::time::Instant;
use tokio_rustls::rustls::Error as RustlsError;

use crate::activity::Activity;
use crate::alarm_clock::{Alarm, AlarmClock};
use crate::deadline::Deadline;
use crate::pool::Lease;
use crate::sending::{Upload, UploadProgress, UploadState};
use crate::settings::Timeouts;
use crate::upload::RequestBody;
use crate::{Error, ErrorKind};

/// How an exchange failed.
pub(crate) enum Failure {
    /// Nothing of the request was sent; here is its content for another connection.
    Unsent(RequestBody, Error),
    /// The connection, which others had used before, ended without a byte of an answer.
    Unanswered {
        error: Error,
        /// Whether it had been idle for a while and ended at once: the server was closing it as
        /// idle when the request was sent.
        is_stale: bool,
    },
    /// The server has said that it has not looked at the request (HTTP/2).
    Refused(Error),
    /// Anything else.
    Final(Error),
}

/// Sends a request and waits for the head of its response.
pub(crate) async fn exchange(
    lease: &mut Lease,
    request: Request<Upload>,
    progress: &UploadProgress,
    timeouts: &Timeouts,
    deadline: Deadline,
    clock: &Rc<AlarmClock>,
) -> Result<Response<Incoming>, Failure> {
    let is_reused = lease.requests() > 0;
    let was_idle = lease.idle_time() >= SHORTEST_KEEP_ALIVE;
    let sent = Instant::now();
    let activity = lease.activity();
    let bytes_before = activity.bytes_read();
    let watch = Watch {
        activity: &activity,
        progress,
        timeouts,
        deadline,
        is_http1: matches!(lease, Lease::Http1(..)),
    };
    let mut sending = pin!(lease.send(request));
    let mut alarm = Alarm::new(clock);
    let mut due = None;
    let outcome = poll_fn(|context| {
        if let Poll::Ready(outcome) = sending.as_mut().poll(context) {
            return Poll::Ready(Ok(outcome));
        }
        // Only when the alarm rings it is looked at what has happened meanwhile.
        while alarm
            .poll(*due.get_or_insert_with(|| watch.next_due().0), context)
            .is_ready()
        {
            let (next, verdict) = watch.next_due();
            if next <= Instant::now() {
                return Poll::Ready(Err(watch.error(verdict)));
            }
            due = Some(next);
        }
        Poll::Pending
    })
    .await;
    let mut failure = match outcome {
        Ok(Ok(response)) => {
            lease.note_keep_alive(response.headers());
            return Ok(response);
        }
        Ok(Err(failure)) => failure,
        Err(timeout) => {
            if timeout.kind() == ErrorKind::ReadTimeout {
                lease.note_silence(bytes_before);
            }
            return Err(Failure::Final(timeout));
        }
    };
    let unsent = failure.take_message();
    if let Some(error) = progress.take_failure() {
        return Err(Failure::Final(error));
    }
    let error = failure.into_error();
    if unsent.is_none()
        && let Some(refusal) = refusal(&error)
    {
        if refusal.is_go_away() {
            lease.note_departure();
        }
        return Err(Failure::Refused(refused(refusal)));
    }
    let error = explain(error);
    match unsent {
        Some(request) => Err(Failure::Unsent(request.into_body().into_body(), error)),
        None if is_reused
            && activity.bytes_read() == bytes_before
            && matches!(
                error.kind(),
                ErrorKind::RemoteProtocol | ErrorKind::Read | ErrorKind::Write
            ) =>
        {
            let is_stale = was_idle && sent.elapsed() <= lease.connect_time() + STALE_SLACK;
            Err(Failure::Unanswered { error, is_stale })
        }
        None => Err(Failure::Final(error)),
    }
}

/// Watches how an exchange goes on.
struct Watch<'a> {
    activity: &'a Rc<Activity>,
    progress: &'a UploadProgress,
    timeouts: &'a Timeouts,
    deadline: Deadline,
    is_http1: bool,
}

impl Watch<'_> {
    /// When the exchange will have taken too long, as it looks now, and in which way.
    fn next_due(&self) -> (Instant, ErrorKind) {
        let phase = match self.progress.state() {
            UploadState::Handed(since) => {
                Some((since, self.timeouts.write, ErrorKind::WriteTimeout))
            }
            UploadState::AwaitsSource | UploadState::Failed => None,
            UploadState::Complete(since) => match self.activity.write_blocked_since() {
                // The rest of the request is still on its way out.
                Some(blocked) if self.is_http1 => {
                    Some((blocked, self.timeouts.write, ErrorKind::WriteTimeout))
                }
                _ => {
                    let resumed = self.activity.write_resumed().filter(|_| self.is_http1);
                    let since = resumed.map_or(since, |resumed| since.max(resumed));
                    Some((since, self.timeouts.read, ErrorKind::ReadTimeout))
                }
            },
        };
        let phase = phase.and_then(|(since, timeout, kind)| Some((since + timeout?, kind)));
        let total = self.deadline.at().map(|at| (at, ErrorKind::TotalTimeout));
        [phase, total]
            .into_iter()
            .flatten()
            .min_by_key(|(due, _)| *due)
            // Nothing is limited, or the source is waited for: look again later.
            .unwrap_or_else(|| (Instant::now() + LOOK_AGAIN, ErrorKind::ReadTimeout))
    }

    fn error(&self, kind: ErrorKind) -> Error {
        let seconds =
            |timeout: Option<std::time::Duration>| timeout.map_or(0.0, |t| t.as_secs_f64());
        match kind {
            ErrorKind::TotalTimeout => self.deadline.error(),
            ErrorKind::WriteTimeout => Error::new(
                kind,
                format!(
                    "the server took nothing of the request for {} s",
                    seconds(self.timeouts.write)
                ),
            ),
            _ => Error::new(
                ErrorKind::ReadTimeout,
                format!(
                    "the server sent no response within {} s",
                    seconds(self.timeouts.read)
                ),
            ),
        }
    }
}

/// No server closes a connection that was idle for less than this for being idle: gunicorn, the
/// quickest of the usual ones, waits two seconds.
const SHORTEST_KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(1);

/// A server that was closing the connection when the request was sent is heard of after one
/// round trip, which takes no longer than the connection took to be opened, and this for a busy
/// machine. What ends later has worked on the request.
const STALE_SLACK: std::time::Duration = std::time::Duration::from_millis(100);

/// While a slow source is waited for, the watch looks this often whether that is still so.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// What the server of an HTTP/2 connection has refused a request with before it looked at it, as
/// RFC 9113 section 8.7 has it: by `REFUSED_STREAM`, or by a GOAWAY that names an earlier stream as
/// the last one. (h2 gives a GOAWAY of the server only to those who came later.)
fn refusal(error: &hyper::Error) -> Option<&h2::Error> {
    let mut cause = error.source();
    while let Some(deeper) = cause {
        if let Some(error) = deeper.downcast_ref::<h2::Error>() {
            let is_refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let is_refusal = error.is_go_away() || (error.is_reset() && is_refused);
            return (error.is_remote() && is_refusal).then_some(error);
        }
        cause = deeper.source();
    }
    None
}

fn refused(refusal: &h2::Error) -> Error {
    let reason = if refusal.is_go_away() {
        "takes no further requests on this connection (GOAWAY)"
    } else {
        "refused the request without having looked at it (REFUSED_STREAM)"
    };
    Error::new(ErrorKind::RemoteProtocol, format!("the server {reason}"))
}

/// Says what an error of hyper means to who has made the call.
pub(crate) fn explain(error: hyper::Error) -> Error {
    if error.is_parse_too_large() {
        return Error::new(
            ErrorKind::RemoteProtocol,
            "the response's head is larger than allowed",
        );
    }
    if error.is_parse() {
        let message = "the server's answer is not HTTP";
        return Error::caused(ErrorKind::RemoteProtocol, message, error);
    }
    if error.is_incomplete_message() {
        return Error::new(
            ErrorKind::RemoteProtocol,
            "the server closed the connection before its response was complete",
        );
    }
    if error.is_body_write_aborted() {
        return Error::caused(ErrorKind::Write, "the request could not be sent", error);
    }
    if error.is_user() {
        return Error::caused(
            ErrorKind::InvalidRequest,
            "the request can't be sent",
            error,
        );
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(deeper) = cause {
        if let Some(io) = deeper.downcast_ref::<io::Error>() {
            let reason = io.get_ref();
            if reason.is_some_and(<dyn StdError + Send + Sync>::is::<RustlsError>) {
                // With TLS 1.3 a server judges the client's certificate after the handshake.
                let message = "the server ended the TLS connection";
                return Error::caused(ErrorKind::Tls, message, error);
            }
            let kind = match io.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::WriteZero => ErrorKind::Write,
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                    ErrorKind::RemoteProtocol
                }
                io::ErrorKind::UnexpectedEof => {
                    return Error::new(
                        ErrorKind::RemoteProtocol,
                        "the server closed the connection before its response was complete",
                    );
                }
                _ => ErrorKind::Read,
            };
            return Error::caused(kind, "the connection broke", error);
        }
        cause = deeper.source();
    }
    Error::caused(ErrorKind::RemoteProtocol, "the exchange failed", error)
}
