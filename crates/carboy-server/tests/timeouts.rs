//! What the server waits for, and for how long. Time is paused: it passes only when
//! nothing else can happen.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod support;

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use carboy_server::{
    Buffered, Listener, Refusal, Request, Response, ResponseBody, Server, ServerConfig, Shutdown,
    Statistics, Timeouts,
};
use support::{App, echo, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::Instant;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Runs a server and its client on one thread with paused time.
fn run<F: Future<Output = ()>>(
    app: impl FnOnce() -> App,
    client: impl FnOnce(SocketAddr, Statistics) -> F,
) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build_local(LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let listeners = Listener::bind_tcp("127.0.0.1", 0, 16).unwrap();
        let address = support::tcp_address(&listeners[0]);
        let server = Rc::new(Server::new(app(), ServerConfig::default()));
        let statistics = server.statistics();
        let (trigger, shutdown) = Shutdown::pair();
        let serving =
            tokio::task::spawn_local(
                async move { server.serve(listeners, shutdown).await.unwrap() },
            );
        client(address, statistics).await;
        trigger.force();
        serving.await.unwrap();
    });
}

async fn read_to_end(socket: &mut TcpStream) -> String {
    let mut received = Vec::new();
    let _ = socket.read_to_end(&mut received).await;
    String::from_utf8(received).unwrap()
}

/// Reads one small response.
async fn read_some(socket: &mut TcpStream) -> String {
    let mut buffer = [0; 4096];
    let length = socket.read(&mut buffer).await.unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[track_caller]
fn assert_about(elapsed: Duration, expected: Duration) {
    let latest = expected + expected / 8 + Duration::from_secs(1);
    assert!(
        (expected..=latest).contains(&elapsed),
        "{elapsed:?} instead of {expected:?}"
    );
}

#[test]
fn a_head_that_does_not_end_is_answered_with_408() {
    run(
        || App::new(echo),
        async |address, statistics| {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            let begun = Instant::now();
            let received = read_to_end(&mut socket).await;
            assert_about(begun.elapsed(), Timeouts::default().header_read);
            assert!(received.starts_with("HTTP/1.1 408 "), "{received}");
            assert!(received.contains("Connection: close\r\n"), "{received}");
            assert_eq!(statistics.refused(Refusal::HeaderTimeout), 1);
        },
    );
}

#[test]
fn trickling_a_head_gains_no_time() {
    run(
        || App::new(echo),
        async |address, _| {
            let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
            let trickle = async {
                let mut bytes = b"GET / HTTP/1.1\r\nX: "
                    .iter()
                    .chain(std::iter::repeat(&b'x'));
                while writer.write_all(&[*bytes.next().unwrap()]).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            let begun = Instant::now();
            let mut received = Vec::new();
            tokio::select! {
                () = trickle => {}
                outcome = reader.read_to_end(&mut received) => drop(outcome),
            }
            assert_about(begun.elapsed(), Timeouts::default().header_read);
            assert!(received.starts_with(b"HTTP/1.1 408 "));
        },
    );
}

#[test]
fn a_head_behind_a_long_request_is_not_timed_out() {
    let long = Duration::from_secs(300);
    let app = || {
        App::new(async |request: Request| {
            if request.uri.path() == "/long" {
                tokio::time::sleep(Duration::from_secs(300)).await;
            }
            echo(request).await
        })
    };
    run(app, async |address, _| {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let begun = Instant::now();
        socket
            .write_all(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\nGET /next HT")
            .await
            .unwrap();
        assert!(read_some(&mut socket).await.ends_with("GET /long "));
        assert_about(begun.elapsed(), long);
        socket
            .write_all(b"TP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        assert!(read_some(&mut socket).await.ends_with("GET /next "));
    });
}

#[test]
fn idle_connections_are_closed() {
    run(
        || App::new(echo),
        async |address, statistics| {
            let idle = Timeouts::default().keep_alive_idle;
            // Before the first request, even if it began with an empty line.
            for before in [&b""[..], b"\r\n"] {
                let mut socket = TcpStream::connect(address).await.unwrap();
                socket.write_all(before).await.unwrap();
                let begun = Instant::now();
                assert_eq!(read_to_end(&mut socket).await, "");
                assert_about(begun.elapsed(), idle);
            }
            // After requests, whose number and times do not matter.
            let mut socket = TcpStream::connect(address).await.unwrap();
            for pause in [0, 70, 1, 74, 30] {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                socket.write_all(REQUEST).await.unwrap();
                assert!(read_some(&mut socket).await.starts_with("HTTP/1.1 200 "));
            }
            let begun = Instant::now();
            assert_eq!(read_to_end(&mut socket).await, "");
            assert_about(begun.elapsed(), idle);
            assert_eq!(statistics.refused_in_total(), 0);
        },
    );
}

#[test]
fn a_request_may_take_as_long_as_it_likes() {
    let app = || {
        App::new(async |request: Request| {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            echo(request).await
        })
    };
    run(app, async |address, _| {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(REQUEST).await.unwrap();
        assert!(read_some(&mut socket).await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn content_that_does_not_come_is_not_waited_for() {
    let app = || {
        App::new(
            async |request: Request| match request.body.buffer(1024).await {
                Buffered::Failed(error) => text(408, &error.to_string()),
                _ => text(200, "whole"),
            },
        )
    };
    run(app, async |address, _| {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket
            .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            .await
            .unwrap();
        // Each piece gets the whole time.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            socket.write_all(b"x").await.unwrap();
        }
        let begun = Instant::now();
        let received = read_to_end(&mut socket).await;
        assert_about(begun.elapsed(), Timeouts::default().body_read_idle);
        assert!(received.starts_with("HTTP/1.1 408 "), "{received}");
        assert!(received.contains("Connection: close\r\n"), "{received}");
    });
}

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    let app = || {
        App::new(async |_: Request| {
            let (mut sender, body) = ResponseBody::stream();
            tokio::task::spawn_local(async move {
                let piece = Bytes::from(vec![b'x'; 64 * 1024]);
                while sender.writable().await.is_ok() && sender.try_send(piece.clone()).is_ok() {}
            });
            Response::new(body)
        })
    };
    run(app, async |address, statistics| {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(REQUEST).await.unwrap();
        let begun = Instant::now();
        while statistics.accepted_connections() == 0 || statistics.open_connections() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_about(begun.elapsed(), Timeouts::default().write_stall);
        assert_eq!(statistics.broken_responses(), 1);
    });
}

#[test]
fn a_refused_peer_that_never_closes_is_left() {
    run(
        || App::new(echo),
        async |address, statistics| {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(b"nonsense\r\n\r\n").await.unwrap();
            let begun = Instant::now();
            while statistics.accepted_connections() == 0 || statistics.open_connections() > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert_about(begun.elapsed(), Duration::from_secs(2));
            assert!(read_to_end(&mut socket).await.starts_with("HTTP/1.1 400 "));
        },
    );
}
