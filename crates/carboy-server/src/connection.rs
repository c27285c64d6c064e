//! One connection from its first byte to its last.
//!
//! The only file that names hyper's server. A connection's states:
//!
//! - *serving*: requests are read and answered in order;
//! - *draining*: a shutdown began. What is in flight goes on, every response says
//!   `Connection: close`, and an idle connection stays readable for the linger
//!   time, so that a request already under way in the network is answered;
//! - *closing*: nothing more is read once what is in flight is answered;
//! - *broken off*: dropped, because the peer stalls or a shutdown was forced.
//!
//! Dropping the task at any moment releases everything.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use hyper::server::conn::http1::Builder;
use hyper_util::rt::TokioIo;

use crate::connection_context::ConnectionContext;
use crate::patience::{Patience, Verdict};
use crate::service::Service;
use crate::socket::Socket;
use crate::stream::Stream;
use crate::{Application, Limits, Refusal};

/// Room that hyper's buffer needs above the largest head that passes the wire.
const BUFFER_ROOM_BYTES: usize = 4 * 1024;

/// How many bytes one byte of a target may become on its way to hyper.
const LONGEST_ENCODING: usize = 3;

/// The settings that all connections share.
///
/// hyper's `pipeline_flush` stays off: with it, nothing is written while a further
/// pipelined request waits, so a streamed response before it never arrives and
/// its bytes pile up without a bound.
pub(crate) fn protocol(limits: &Limits) -> Builder {
    let head_bytes = limits
        .request_line_bytes
        .saturating_mul(LONGEST_ENCODING)
        .saturating_add(limits.header_bytes);
    let mut builder = Builder::new();
    builder
        .half_close(true)
        // Names have no case (RFC 9110 section 5.1); people and their scripts expect this one.
        .title_case_headers(true)
        // Both have timers of their own: see patience.rs.
        .header_read_timeout(None)
        .max_buf_size(head_bytes.saturating_add(BUFFER_ROOM_BYTES).max(64 * 1024));
    // Naming hyper's own number would move its parse table to the heap.
    if limits.header_count > 100 {
        builder.max_headers(limits.header_count);
    }
    builder
}

/// Serves one connection until it ends, however that comes about.
pub(crate) async fn run<A: Application>(
    protocol: Builder,
    application: Rc<A>,
    context: Rc<ConnectionContext>,
    socket: Socket,
) {
    let server = Rc::clone(context.server());
    let activity = Arc::clone(&context.activity);
    let stream = Stream::new(socket, Arc::clone(&activity), &server.config.limits);
    let service = Service {
        application,
        context,
    };
    let http = protocol
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut http = pin!(http);
    let mut patience = Patience::new(Arc::clone(&activity), &server.config.timeouts);
    let mut draining = false;
    // Polled once, so that a change of the stage wakes this task.
    let mut stage_changed = pin!(Arc::clone(&server.stage_changed).notified_owned());
    let mut watches_stage = false;

    let ended = poll_fn(|task| {
        if !watches_stage {
            watches_stage = true;
            activity.set_task(task.waker());
            let _ = stage_changed.as_mut().poll(task);
        }
        let _polled = activity.begin_poll();
        loop {
            if let Poll::Ready(outcome) = http.as_mut().poll(task) {
                return Poll::Ready(outcome.err());
            }
            if activity.take_close_wanted() {
                patience.begin_close();
                http.as_mut().graceful_shutdown();
                continue;
            }
            if !draining && server.is_draining() {
                draining = true;
                patience.begin_drain(server.config.timeouts.drain_linger);
            }
            match patience.poll(task) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Verdict::TimeOutHead) => activity.time_out_head(),
                Poll::Ready(Verdict::Close) => {
                    patience.begin_close();
                    http.as_mut().graceful_shutdown();
                }
                Poll::Ready(Verdict::BreakOff) => return Poll::Ready(None),
            }
        }
    });
    if let Some(error) = ended.await
        && error.is_parse()
    {
        server.counters().count_refusal(Refusal::Unparsable);
    }
}
