//! Many calls of each kind on few HTTP/2 connections: memory does not grow, and at the end each
//! connection takes as many calls at a time as at its start.
//!
//! `SOAK_CALLS=20000 cargo test -p carboy-client --test http2_soak -- --nocapture` makes more of
//! them than the test does by itself, and shows what they took.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::print_stdout, reason = "the figures are wanted")]

mod support;

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use carboy_client::{Client, ErrorKind, PoolLimits, Request, RequestBody};
use http::Method;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use support::http2::{Local, http2_client};
use support::{Upstream, fetch, untimed, wait_for};
use tokio::task::{JoinSet, spawn_local, yield_now};

const CONNECTIONS: usize = 3;
const STREAMS: u32 = 20;
/// Calls at the same time: more than there are streams, so that some wait.
const AT_ONCE: usize = 80;
/// How much memory may grow between the first third of the calls and their end: what the allocator
/// keeps of uploads that come and go, up to 3 MB where nothing is left. Calls that left three
/// kilobytes each would be noticed.
const MOST_GROWTH_BYTES: usize = 8 * 1024 * 1024;

/// What there is of a response.
enum Answer {
    Whole(Option<Bytes>),
    /// A piece at a time, for ever.
    Endless,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.get_mut() {
            Self::Whole(content) => content.take(),
            Self::Endless => Some(Bytes::from_static(&[b'x'; 1000])),
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A server that answers by the path; and how many requests it never answers, at present.
async fn server() -> (Upstream, Rc<Cell<usize>>) {
    struct Held(Rc<Cell<usize>>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    let held = Rc::new(Cell::new(0));
    let shared = Rc::clone(&held);
    let upstream = Upstream::start(move |stream, _| {
        let held = Rc::clone(&shared);
        async move {
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let held = Rc::clone(&held);
                async move {
                    let answer = match request.uri().path() {
                        "/held" => {
                            held.set(held.get() + 1);
                            let _held = Held(held);
                            std::future::pending().await
                        }
                        "/endless" => Answer::Endless,
                        // The content of the request is dropped unread.
                        _ => Answer::Whole(Some(Bytes::from_static(b"done"))),
                    };
                    Ok::<_, Infallible>(hyper::Response::new(answer))
                }
            });
            hyper::server::conn::http2::Builder::new(Local)
                .max_concurrent_streams(STREAMS)
                // Those who cancel as often as these are taken for attackers else, and those whose
                // content comes when it has been refused.
                .max_pending_accept_reset_streams(usize::MAX)
                .max_local_error_reset_streams(None)
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        }
    })
    .await;
    (upstream, held)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Cancelled,
    TimedOut,
    Left,
    RefusedEarly,
}

fn request(upstream: &Upstream, method: Method, path: &str) -> Request {
    Request {
        timeouts: untimed(),
        ..Request::new(method, upstream.url(path))
    }
}

async fn call(client: &Client, upstream: &Upstream, kind: Kind, number: usize) {
    match kind {
        Kind::Plain => {
            let request = request(upstream, Method::GET, "/");
            assert_eq!(fetch(client, request).await.unwrap().1, "done");
        }
        Kind::Cancelled => {
            // Sooner or later: while it waits for a stream, while it is sent, when it is there.
            let patience = async {
                for _ in 0..number % 23 {
                    yield_now().await;
                }
            };
            tokio::select! {
                _ = fetch(client, request(upstream, Method::GET, "/held")) => {
                    panic!("it is not answered")
                }
                () = patience => {}
            }
        }
        Kind::TimedOut => {
            let mut request = request(upstream, Method::GET, "/held");
            request.timeouts.total = Some(Duration::from_millis(2));
            let error = fetch(client, request).await.map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TotalTimeout);
        }
        Kind::Left => {
            let request = request(upstream, Method::GET, "/endless");
            let mut response = client.send(request).await.unwrap();
            assert!(response.body.chunk().await.unwrap().is_some());
        }
        Kind::RefusedEarly => {
            let mut request = request(upstream, Method::POST, "/early");
            request.body = RequestBody::Full(vec![0; 100_000].into());
            assert_eq!(fetch(client, request).await.unwrap().1, "done");
        }
    }
}

/// Makes so many calls, some at a time.
async fn make(client: &Client, upstream: &Rc<Upstream>, kind: Kind, calls: usize) {
    let next = Rc::new(Cell::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (client, upstream, next) = (client.clone(), Rc::clone(upstream), Rc::clone(&next));
        callers.spawn_local(async move {
            while next.get() < calls {
                let number = next.replace(next.get() + 1);
                call(&client, &upstream, kind, number).await;
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let resident = pages.split(' ').nth(1).unwrap();
    resident.parse::<usize>().unwrap() * 4096
}

async fn soak(kind: Kind, calls: usize) {
    let (upstream, held) = server().await;
    let upstream = Rc::new(upstream);
    let client = http2_client(PoolLimits {
        connections_per_host: CONNECTIONS,
        ..PoolLimits::default()
    });
    // Now, so that no call is cancelled while it opens a connection.
    fill(&client, &upstream, &held).await;
    make(&client, &upstream, kind, calls / 3).await;
    let before = resident_bytes();
    make(&client, &upstream, kind, calls - calls / 3).await;
    let growth = resident_bytes().saturating_sub(before);
    println!("{kind:?}: {calls} calls, {growth} bytes more");
    assert!(growth <= MOST_GROWTH_BYTES, "{kind:?}: {growth} bytes more");

    wait_for(&client, |pool| {
        pool.waiting == 0 && pool.idle == pool.connections
    })
    .await;
    while held.get() > 0 {
        yield_now().await;
    }
    // All streams of all connections can be used still, and nobody else has taken one.
    fill(&client, &upstream, &held).await;
    assert_eq!(upstream.connections(), CONNECTIONS, "{kind:?}: some broke");
}

/// Uses all streams of all connections at the same time.
async fn fill(client: &Client, upstream: &Upstream, held: &Cell<usize>) {
    let all = CONNECTIONS * STREAMS as usize;
    let calls: Vec<_> = (0..all)
        .map(|_| {
            let (client, request) = (client.clone(), request(upstream, Method::GET, "/held"));
            spawn_local(async move { fetch(&client, request).await.map(drop) })
        })
        .collect();
    while held.get() < all {
        yield_now().await;
    }
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    wait_for(client, |pool| pool.waiting == 0 && pool.idle == CONNECTIONS).await;
    while held.get() > 0 {
        yield_now().await;
    }
}

#[test]
fn many_calls_leave_nothing() {
    let calls = std::env::var("SOAK_CALLS").map_or(5000, |calls| calls.parse().unwrap());
    for kind in [
        Kind::Plain,
        Kind::Cancelled,
        Kind::TimedOut,
        Kind::Left,
        Kind::RefusedEarly,
    ] {
        support::run(soak(kind, calls));
    }
}
