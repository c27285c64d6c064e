//! HTTP/2 with servers that leave something out: the rest of a request, or the answer. The stream
//! is given back, and the calls that come later are served.

mod support;

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use carboy_client::{Client, ErrorKind, PoolLimits, Request, RequestBody};
use http::Method;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use support::http2::{self, Local};
use support::{Upstream, fetch, quick, run, untimed, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The contents of requests that the server keeps and does not read.
type Kept = Rc<RefCell<Vec<Incoming>>>;

/// Answers every request at once, and keeps the content of each unread.
async fn answering_early() -> (Upstream, Kept) {
    let kept = Kept::default();
    let shared = Rc::clone(&kept);
    let upstream = Upstream::start(move |stream, _| {
        let kept = Rc::clone(&shared);
        async move {
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                kept.borrow_mut().push(request.into_body());
                let answer = Full::new(Bytes::from_static(b"early"));
                async { Ok::<_, Infallible>(hyper::Response::new(answer)) }
            });
            let builder = hyper::server::conn::http2::Builder::new(Local);
            builder
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        }
    })
    .await;
    (upstream, kept)
}

fn http2_client() -> Client {
    http2::http2_client(PoolLimits::default())
}

fn upload(upstream: &Upstream, body: RequestBody) -> Request {
    Request {
        timeouts: untimed(),
        body,
        ..Request::new(Method::POST, upstream.url("/"))
    }
}

fn download(upstream: &Upstream) -> Request {
    Request {
        timeouts: untimed(),
        ..Request::new(Method::GET, upstream.url("/"))
    }
}

/// The server is told that nothing more comes, and the connection is whole.
async fn is_given_back(client: &Client, upstream: &Upstream, kept: &Kept) {
    let mut content = kept.borrow_mut().remove(0);
    let error = loop {
        match content.frame().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("half of the content looks like all of it"),
        }
    };
    assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
    wait_for(client, |pool| pool.connections == 1 && pool.idle == 1).await;
    let (_, answer) = fetch(client, download(upstream))
        .await
        .expect("it serves on");
    assert_eq!(answer, "early");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_source_without_end_is_left() {
    run(async {
        let (upstream, kept) = answering_early().await;
        let client = http2_client();
        let (sender, body) = RequestBody::stream(None);
        sender.send(Bytes::from_static(b"begin")).await.unwrap();
        let (_, answer) = fetch(&client, upload(&upstream, body)).await.unwrap();
        assert_eq!(answer, "early");
        let began = Instant::now();
        // Somebody who waits for more than that is waited for no longer.
        while sender.send(Bytes::from_static(b"more")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        is_given_back(&client, &upstream, &kept).await;
    });
}

#[test]
fn content_that_the_server_takes_no_more_of_is_left() {
    run(async {
        let (upstream, kept) = answering_early().await;
        let client = http2_client();
        let body = RequestBody::Full(vec![0; 8 * 1024 * 1024].into());
        let (_, answer) = fetch(&client, upload(&upstream, body)).await.unwrap();
        assert_eq!(answer, "early");
        assert_eq!(client.statistics().idle, 0, "the stream is in use still");
        wait_for(&client, |pool| pool.idle == 1).await;
        is_given_back(&client, &upstream, &kept).await;
    });
}

#[test]
fn many_early_answers_leave_nothing() {
    run(async {
        let (upstream, kept) = answering_early().await;
        let client = http2_client();
        for _ in 0..3 {
            let mut calls = tokio::task::JoinSet::new();
            for _ in 0..50 {
                let body = RequestBody::Full(vec![0; 2 * 1024 * 1024].into());
                let (client, request) = (client.clone(), upload(&upstream, body));
                calls.spawn_local(async move { fetch(&client, request).await.map(drop) });
            }
            while let Some(outcome) = calls.join_next().await {
                outcome.unwrap().unwrap();
            }
            wait_for(&client, |pool| pool.connections == 1 && pool.idle == 1).await;
        }
        assert_eq!(kept.borrow().len(), 150);
        is_given_back(&client, &upstream, &kept).await;
    });
}

#[test]
fn what_still_comes_for_calls_that_were_left_does_not_end_the_connection() {
    /// More of what is forgotten than h2 takes by default, and as many that are remembered.
    const FORGOTTEN: usize = 1100;
    const CALLS: usize = 2 * FORGOTTEN;
    run(async {
        let upstream = Upstream::start(|mut stream, _| async move {
            http2::read_preface(&mut stream).await;
            http2::allow_streams(&mut stream, 100).await;
            let mut left = Vec::new();
            while let Some(id) = http2::read_head(&mut stream).await {
                if left.len() < CALLS {
                    left.push(id);
                    // The head alone, with its end but not that of the stream.
                    http2::write_frame(&mut stream, http2::HEADERS, 4, id, http2::OK).await;
                    continue;
                }
                for late in &left[CALLS - FORGOTTEN..] {
                    let (kind, end) = (http2::HEADERS, http2::WHOLE);
                    http2::write_frame(&mut stream, kind, end, *late, http2::OK).await;
                }
                http2::write_frame(&mut stream, http2::HEADERS, http2::WHOLE, id, http2::OK).await;
            }
        })
        .await;
        let client = http2_client();
        for _ in 0..CALLS {
            drop(client.send(download(&upstream)).await.unwrap());
        }
        let (response, _) = fetch(&client, download(&upstream)).await.unwrap();
        assert_eq!(response.head.status, 200);
        assert_eq!(upstream.connections(), 1);
    });
}

/// Content that counts while it is in memory.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl Counted {
    fn new(bytes: usize, count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(vec![0; bytes], Arc::clone(count))
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A server with a small window answers more calls than it allows streams, and takes the content
/// of none: the streams and the contents must be given back.
async fn leaves_nothing(window: u32, bytes: usize, is_streamed: bool) {
    const STREAMS: u32 = 20;
    let kept = Kept::default();
    let upstream = Upstream::start(move |stream, _| {
        let kept = Rc::clone(&kept);
        async move {
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                kept.borrow_mut().push(request.into_body());
                let answer = Full::new(Bytes::from_static(b"early"));
                async { Ok::<_, Infallible>(hyper::Response::new(answer)) }
            });
            hyper::server::conn::http2::Builder::new(Local)
                .initial_stream_window_size(window)
                .max_concurrent_streams(STREAMS)
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        }
    })
    .await;
    let client = http2::http2_client(PoolLimits {
        connections_per_host: 1,
        ..PoolLimits::default()
    });
    let count = Arc::new(AtomicUsize::new(0));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..3 * STREAMS {
        let content = Bytes::from_owner(Counted::new(bytes, &count));
        let body = if is_streamed {
            let (sender, body) = RequestBody::stream(None);
            sender.send(content).await.expect("there is room");
            sender.finish().await.expect("there is room");
            body
        } else {
            RequestBody::Full(content)
        };
        let request = upload(&upstream, body);
        let client = client.clone();
        calls.spawn_local(async move { fetch(&client, request).await.map(|(_, answer)| answer) });
    }
    while let Some(outcome) = calls.join_next().await {
        let answer = outcome.expect("no panic").expect("an answer");
        assert_eq!(answer, "early", "{window} {bytes}");
    }
    wait_for(&client, |pool| pool.connections == 1 && pool.idle == 1).await;
    while count.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn content_that_no_window_is_given_for_is_left() {
    run(async {
        let mut servers = tokio::task::JoinSet::new();
        for window in [0, 1, 1000] {
            for bytes in [1, 2, 1001, 60_000, 70_000] {
                for is_streamed in [false, true] {
                    servers.spawn_local(leaves_nothing(window, bytes, is_streamed));
                }
            }
        }
        while let Some(outcome) = servers.join_next().await {
            outcome.unwrap();
        }
    });
}

/// Speaks HTTP/2 on all connections but the first, which is silent after these bytes.
async fn silent_at_first(bytes: &'static [u8]) -> Upstream {
    Upstream::start(move |mut stream, number| async move {
        if number == 0 {
            stream.write_all(bytes).await.expect("it is there");
            while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
            return;
        }
        let service = service_fn(async |_: hyper::Request<Incoming>| {
            let answer = Full::new(Bytes::from_static(b"fine"));
            Ok::<_, Infallible>(hyper::Response::new(answer))
        });
        let builder = hyper::server::conn::http2::Builder::new(Local);
        builder
            .serve_connection(TokioIo::new(stream), service)
            .await
            .ok();
    })
    .await
}

#[test]
fn a_connection_on_which_nothing_comes_is_not_used_again() {
    /// Empty SETTINGS (RFC 9113 section 6.5), and their acknowledgement.
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";
    /// The head of a response with status 200 on the first stream, and one byte of its content.
    const BEGUN: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0\
        \0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x01\0\0\0\0\0\x01x";
    run(async {
        for bytes in [SETTINGS, BEGUN] {
            let upstream = silent_at_first(bytes).await;
            let client = http2_client();
            let mut failures = 0;
            let answer = loop {
                let mut request = download(&upstream);
                request.timeouts.read = quick().read;
                match fetch(&client, request).await {
                    Ok((_, answer)) => break answer,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ReadTimeout),
                }
                failures += 1;
            };
            // To the first call something has come: what the server begins a connection with.
            assert!(failures <= 2, "{bytes:?}: {failures}");
            assert_eq!(answer, "fine");
            assert_eq!(upstream.connections(), 2);
            wait_for(&client, |pool| pool.connections == 1 && pool.idle == 1).await;
        }
    });
}

/// Content that never comes.
struct Silent;

impl Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[test]
fn who_leaves_the_response_leaves_the_request_too() {
    run(async {
        let kept = Kept::default();
        let shared = Rc::clone(&kept);
        let upstream = Upstream::start(move |stream, _| {
            let kept = Rc::clone(&shared);
            async move {
                let service = service_fn(move |request: hyper::Request<Incoming>| {
                    kept.borrow_mut().push(request.into_body());
                    async { Ok::<_, Infallible>(hyper::Response::new(Silent)) }
                });
                let builder = hyper::server::conn::http2::Builder::new(Local);
                builder
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .ok();
            }
        })
        .await;
        let client = http2_client();
        let (sender, body) = RequestBody::stream(None);
        let response = client.send(upload(&upstream, body)).await.unwrap();
        drop(response);
        while sender.send(Bytes::from_static(b"more")).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let mut content = kept.borrow_mut().remove(0);
        while let Some(Ok(_)) = content.frame().await {}
        wait_for(&client, |pool| pool.connections == 1 && pool.idle == 1).await;
    });
}
