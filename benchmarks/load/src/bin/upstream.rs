//! The slow service that the fan-out views call: `/a` answers `{"name": "a"}`
//! after 10 ms, `/a?20` after 20 ms.
//!
//! It is written in Rust so that it takes little of the core that it shares with
//! the load generator.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use carboy_benchmark_load::serving;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response};
use serde_json::json;
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DELAY_MS: u64 = 10;

/// When an answer is due, and who waits for it.
type Due = (Instant, oneshot::Sender<()>);

fn main() -> io::Result<()> {
    let (timers, begun) = mpsc::channel();
    thread::spawn(move || run_timers(&begun));
    // It lives as long as the program, so that every request can refer to it.
    let timers: &'static mpsc::Sender<Due> = Box::leak(Box::new(timers));
    serving::serve(move |request| answer(request, timers))
}

async fn answer(
    request: Request<Incoming>,
    timers: &'static mpsc::Sender<Due>,
) -> Response<Full<Bytes>> {
    let asked = request.uri().query().and_then(|query| query.parse().ok());
    let (sender, due) = oneshot::channel();
    let at = Instant::now() + Duration::from_millis(asked.unwrap_or(DELAY_MS));
    // The thread of the timers ends with the program only, so neither of these fails.
    timers.send((at, sender)).ok();
    due.await.ok();
    let name = request.uri().path().trim_start_matches('/');
    let body = json!({ "name": name }).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let content_type = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Ends each time of waiting, to some ten microseconds. Tokio's own timers tick in milliseconds:
/// with them 20 ms took up to 22, which a measurement would have taken for the server's.
fn run_timers(begun: &mpsc::Receiver<Due>) {
    let mut waiting: BinaryHeap<Reverse<ByTime>> = BinaryHeap::new();
    loop {
        let next = match waiting.peek() {
            Some(Reverse(ByTime((at, _)))) => {
                begun.recv_timeout(at.saturating_duration_since(Instant::now()))
            }
            None => begun.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(due) => waiting.push(Reverse(ByTime(due))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        while let Some(next) = waiting.peek_mut()
            && next.0.0.0 <= now
        {
            let Reverse(ByTime((_, waiter))) = PeekMut::pop(next);
            // Whoever has gone meanwhile waits no more.
            waiter.send(()).ok();
        }
    }
}

/// In the order of the times.
struct ByTime(Due);

impl PartialEq for ByTime {
    fn eq(&self, other: &Self) -> bool {
        self.0.0 == other.0.0
    }
}

impl Eq for ByTime {}

impl PartialOrd for ByTime {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByTime {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.0.cmp(&other.0.0)
    }
}
