//! Content that is not all there at once, in both directions.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod support;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use bytes::Bytes;
use carboy_server::{
    BodyError, Buffered, Disconnected, Limits, Request, Response, ResponseBody, ServerConfig,
    TrySendError,
};
use support::{App, PATIENCE, TestServer, text};

/// More than every buffer between two ends may hold, the kernel's included.
const MORE_THAN_BUFFERS_HOLD: usize = 64 * 1024 * 1024;

fn limited(body_bytes: u64) -> ServerConfig {
    let limits = Limits {
        body_bytes: Some(body_bytes),
        ..Limits::default()
    };
    ServerConfig {
        limits,
        ..ServerConfig::default()
    }
}

/// Reads the content on a worker thread and tells what came of it.
fn reading_on_a_thread() -> App {
    App::new(async |request: Request| {
        let prefix_and_rest = match request.body.buffer_available(4).await {
            Buffered::Complete(content) => return text(200, &format!("{} at once", content.len())),
            Buffered::Failed(error) => return text(400, &error.to_string()),
            Buffered::Partial { prefix, rest } => (prefix, rest),
        };
        let (prefix, rest) = prefix_and_rest;
        let mut reader = rest.into_reader(prefix);
        let (done, outcome) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut total = 0;
            let outcome = loop {
                match reader.read_chunk_blocking() {
                    Ok(Some(chunk)) => total += chunk.len(),
                    Ok(None) => break Ok(total),
                    Err(error) => {
                        // An error stays an error.
                        assert_eq!(reader.read_chunk_blocking(), Err(error.clone()));
                        break Err(error);
                    }
                }
            };
            assert_eq!(reader.read_chunk_blocking().is_err(), outcome.is_err());
            drop(done.send(outcome));
        });
        match outcome.await.unwrap() {
            Ok(total) => text(200, &format!("{total}")),
            Err(error) => text(400, &error.to_string()),
        }
    })
}

#[test]
fn a_worker_reads_the_content() {
    let server = TestServer::start(ServerConfig::default(), reading_on_a_thread);
    let mut client = server.connect();
    for (framing, expected) in [
        ("Content-Length: 3\r\n\r\nabc", "3 at once"),
        ("Content-Length: 10\r\n\r\n0123456789", "10"),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
            "11",
        ),
        ("Content-Length: 5\r\nExpect: 100-continue\r\n\r\n", "100"),
    ] {
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}"));
        if expected == "100" {
            // The worker's first read asks for it.
            assert_eq!(client.reply().unwrap().status, 100);
            assert_eq!(client.send("hello").reply().unwrap().text(), "5");
        } else {
            assert_eq!(client.reply().unwrap().text(), expected);
        }
    }
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n012345")
        .end();
    let reply = client.reply().unwrap();
    assert_eq!(
        (reply.status, reply.text()),
        (400, BodyError::Incomplete.to_string())
    );
}

#[test]
fn content_over_the_limit_is_refused_or_cut_off() {
    let server = TestServer::start(limited(10), reading_on_a_thread);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n01234567890");
    assert_eq!(client.reply().unwrap().status, 413);
    assert_eq!(client.reply(), None);
    for (chunks, expected) in [
        ("5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n", "10"),
        (
            "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
            "larger than the limit of 10 bytes",
        ),
        (
            "b\r\nhello world\r\n0\r\n\r\n",
            "larger than the limit of 10 bytes",
        ),
    ] {
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let reply = client.send(chunks).reply().unwrap();
        assert!(
            reply.text().contains(expected),
            "{chunks:?}: {}",
            reply.text()
        );
        assert_eq!(reply.closes(), reply.status == 400);
    }
}

#[test]
fn a_refused_upload_is_told_so_while_it_is_still_sending() {
    let server = TestServer::start(limited(10), reading_on_a_thread);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n");
    client.send(vec![b'x'; 500_000]).end();
    // Without lingering, the unread bytes would turn this into a reset.
    assert_eq!(client.reply().unwrap().status, 413);
}

#[test]
fn a_slow_reader_of_content_slows_its_sender() {
    let server = TestServer::start(ServerConfig::default(), || {
        App::new(async |request: Request| {
            let mut reader = request.body.into_reader(Vec::new());
            let (done, total) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || {
                let mut total = 0;
                while let Some(chunk) = reader.read_chunk_blocking().unwrap() {
                    total += chunk.len();
                    if total == chunk.len() {
                        // The first piece is here; the sender must come to a halt
                        // before it has sent everything.
                        std::thread::park();
                    }
                }
                let _ = done.send(total);
            });
            text(200, &total.await.unwrap().to_string())
        })
    });
    let client = server.connect();
    let mut socket = client.socket.try_clone().unwrap();
    write!(
        socket,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {MORE_THAN_BUFFERS_HOLD}\r\n\r\n"
    )
    .unwrap();
    socket.set_nonblocking(true).unwrap();
    let piece = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    let mut refusals = 0;
    // Full for many tries in a row: the loop had every chance to take more.
    while refusals < 1000 && sent < MORE_THAN_BUFFERS_HOLD {
        if let Ok(length) = socket.write(&piece) {
            sent += length;
            refusals = 0;
        } else {
            refusals += 1;
            std::thread::yield_now();
        }
    }
    assert!(
        sent < MORE_THAN_BUFFERS_HOLD / 2,
        "{sent} bytes were taken without being read"
    );
}

#[test]
fn a_slow_reader_of_a_response_slows_its_producer() {
    let (report, produced) = mpsc::channel();
    let server = TestServer::start(ServerConfig::default(), move || {
        App::new(move |_: Request| {
            let report = report.clone();
            async move {
                let (mut sender, body) = ResponseBody::stream();
                let produced = Arc::new(AtomicUsize::new(0));
                report.send(Arc::clone(&produced)).unwrap();
                std::thread::spawn(move || {
                    let piece = Bytes::from(vec![b'x'; 1024 * 1024]);
                    for _ in 0..MORE_THAN_BUFFERS_HOLD / piece.len() {
                        if sender.send_blocking(piece.clone()).is_err() {
                            return;
                        }
                        produced.fetch_add(piece.len(), Ordering::SeqCst);
                    }
                    sender.finish();
                });
                Response::new(body)
            }
        })
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client.read_until(b"\r\n\r\n");
    let produced = produced.recv_timeout(PATIENCE).unwrap();
    // The producer comes to a halt when the buffers are full...
    let mut before = usize::MAX;
    while before != produced.load(Ordering::SeqCst) {
        before = produced.load(Ordering::SeqCst);
        for _ in 0..10_000 {
            std::thread::yield_now();
        }
    }
    assert!(
        before < MORE_THAN_BUFFERS_HOLD / 2,
        "{before} bytes were produced ahead"
    );
    // ... and goes on when they are read.
    let mut rest = Vec::new();
    client.socket.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"\r\n0\r\n\r\n"));
    assert!(rest.len() > MORE_THAN_BUFFERS_HOLD - 1024 * 1024);
}

#[test]
fn a_pipelined_request_does_not_hold_back_a_stream_before_it() {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let server = TestServer::start(ServerConfig::default(), move || {
        App::new(move |_: Request| {
            let released = Arc::clone(&released);
            async move {
                let (mut sender, body) = ResponseBody::stream();
                std::thread::spawn(move || {
                    sender.send_blocking(Bytes::from_static(b"first")).unwrap();
                    released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                    sender.send_blocking(Bytes::from_static(b"last")).unwrap();
                    sender.finish();
                });
                Response::new(body)
            }
        })
    });
    let mut client = server.connect();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..2 {
        client.read_until(b"first");
        release.send(()).unwrap();
        client.read_until(b"last\r\n0\r\n\r\n");
    }
}

#[test]
fn a_stream_that_is_not_finished_has_no_end() {
    let server = TestServer::start(ServerConfig::default(), || {
        App::new(async |request: Request| {
            let (mut sender, body) = ResponseBody::stream();
            sender.try_send(Bytes::from_static(b"half")).unwrap();
            match request.uri.path() {
                "/abort" => sender.abort(),
                "/drop" => drop(sender),
                _ => sender.finish(),
            }
            Response::new(body)
        })
    });
    for path in ["/abort", "/drop"] {
        let mut client = server.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let received = client.read_to_end();
        assert!(received.ends_with(b"4\r\nhalf\r\n"), "{path}: {received:?}");
    }
    let mut client = server.connect();
    assert_eq!(
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .reply()
            .unwrap()
            .text(),
        "half"
    );
    assert_eq!(server.statistics.broken_responses(), 2);
}

#[test]
fn a_producer_learns_that_its_client_is_gone() {
    let (report, outcome) = mpsc::channel();
    let server = TestServer::start(ServerConfig::default(), move || {
        App::new(move |_: Request| {
            let report = report.clone();
            async move {
                let (mut sender, body) = ResponseBody::stream();
                std::thread::spawn(move || {
                    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
                    let error = loop {
                        if let Err(error) = sender.send_blocking(piece.clone()) {
                            break error;
                        }
                    };
                    let after = sender.try_send(piece);
                    report.send((error, after)).unwrap();
                });
                Response::new(body)
            }
        })
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_until(b"\r\n\r\n");
    drop(client);
    let (error, after) = outcome.recv_timeout(PATIENCE).unwrap();
    assert_eq!(error, Disconnected);
    assert_eq!(after, Err(TrySendError::Disconnected(Disconnected)));
}

#[test]
fn a_full_stream_gives_the_piece_back_and_says_when_there_is_room() {
    support::runtime().block_on(async {
        use http_body::Body;
        let (mut sender, mut body) = ResponseBody::stream();
        let piece = Bytes::from_static(b"x");
        let refused = loop {
            if let Err(error) = sender.try_send(piece.clone()) {
                break error;
            }
        };
        assert_eq!(refused, TrySendError::Full(piece.clone()));
        let next = std::future::poll_fn(|task| std::pin::Pin::new(&mut body).poll_frame(task));
        let (writable, _) = tokio::join!(sender.writable(), next);
        assert_eq!(writable, Ok(()));
        assert_eq!(sender.try_send(piece), Ok(()));
        drop(body);
        assert_eq!(sender.writable().await, Err(Disconnected));
    });
}
