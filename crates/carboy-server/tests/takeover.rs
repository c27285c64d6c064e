//! Connections given to code that writes raw bytes by itself.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod support;

use std::io::{Read, Write};
use std::net::Shutdown as Half;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use carboy_server::{Request, Response, ServerConfig, Timeouts};
use support::{App, TestServer, text};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: websocket\r\n\r\n";
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/// Gives the socket to this function on a worker thread.
fn taking_over(worker: impl Fn(UnixStream) + Send + Clone + 'static) -> TestServer {
    let timeouts = Timeouts {
        drain_linger: Duration::from_millis(10),
        ..Timeouts::default()
    };
    let config = ServerConfig {
        timeouts,
        ..ServerConfig::default()
    };
    TestServer::start(config, move || {
        App::new(move |request: Request| {
            let worker = worker.clone();
            async move {
                let Some(offer) = request.takeover else {
                    return text(200, "plain");
                };
                let (socket, response) = offer.accept().unwrap();
                std::thread::spawn(move || worker(socket));
                response.await.unwrap_or_else(nothing_written)
            }
        })
    })
}

fn nothing_written() -> Response {
    text(500, "nothing was written")
}

fn echo_everything(mut socket: UnixStream) {
    socket.write_all(SWITCH).unwrap();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = socket.read(&mut buffer) {
        if socket.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

#[test]
fn a_101_opens_a_tunnel_both_ways() {
    let server = taking_over(echo_everything);
    let mut client = server.connect();
    client.send(ASK);
    let head = String::from_utf8(client.read_until(b"\r\n\r\n")).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("Upgrade: websocket\r\n"), "{head}");
    assert!(!head.contains("Content-Length"), "{head}");
    // Bytes that would be refused as HTTP.
    client.send(b"\x00\xff\r\n\r\nGET / HTTP/9.9\r\n\r\n");
    client.read_until(b"GET / HTTP/9.9\r\n\r\n");
    assert_eq!(server.statistics.open_connections(), 1);
    client.end();
    assert_eq!(client.read_to_end(), b"");
    server.wait_until(|statistics| statistics.open_connections() == 0);
    assert_eq!(server.statistics.refused_in_total(), 0);
}

#[test]
fn an_answer_that_is_there_at_once_does_not_hide_what_was_written_before_it() {
    let server = TestServer::start(ServerConfig::default(), || {
        App::new(|request: Request| async {
            let (mut socket, response) = request.takeover.unwrap().accept().unwrap();
            // All of it happens before the runtime can notice any.
            socket.write_all(SWITCH).unwrap();
            socket.write_all(b"last words").unwrap();
            drop(socket);
            response.or_answer(async { text(200, "answer") }).await
        })
    });
    let mut client = server.connect();
    client.send(ASK);
    let head = String::from_utf8(client.read_until(b"\r\n\r\n")).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client.read_until(b"last words");
}

#[test]
fn an_answer_counts_if_nothing_was_written() {
    let server = TestServer::start(ServerConfig::default(), || {
        App::new(|request: Request| async {
            let (socket, response) = request.takeover.unwrap().accept().unwrap();
            let answer = response.or_answer(async { text(200, "answer") }).await;
            drop(socket);
            answer
        })
    });
    let mut client = server.connect();
    client.send(ASK).read_until(b"answer");
}

#[test]
fn bytes_sent_before_the_101_are_the_other_protocols() {
    let server = taking_over(echo_everything);
    let mut client = server.connect();
    client.send(format!("{ASK}early")).read_until(b"\r\n\r\n");
    client.read_until(b"early");
}

#[test]
fn much_data_passes_under_back_pressure() {
    const TOTAL: usize = 16 * 1024 * 1024;
    let server = taking_over(echo_everything);
    let mut client = server.connect();
    client.send(ASK).read_until(b"\r\n\r\n");
    let mut writer = client.socket.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let piece: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
        for _ in 0..TOTAL / piece.len() {
            writer.write_all(&piece).unwrap();
        }
        writer.shutdown(Half::Write).unwrap();
    });
    let received = client.read_to_end();
    sending.join().unwrap();
    assert_eq!(received.len(), TOTAL);
    assert!(
        received
            .iter()
            .zip((0..=255).cycle())
            .all(|(found, expected): (_, u8)| *found == expected)
    );
}

#[test]
fn the_application_may_end_first() {
    let server = taking_over(|mut socket| {
        socket.write_all(SWITCH).unwrap();
        socket.write_all(b"bye").unwrap();
    });
    let mut client = server.connect();
    client.send(ASK).read_until(b"\r\n\r\n");
    assert_eq!(client.read_to_end(), b"bye");
    drop(client);
    server.wait_until(|statistics| statistics.open_connections() == 0);
}

#[test]
fn either_side_may_end_one_direction_only() {
    let server = taking_over(|mut socket| {
        socket.write_all(SWITCH).unwrap();
        socket.shutdown(Half::Write).unwrap();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"still read");
    });
    let mut client = server.connect();
    client.send(ASK).read_until(b"\r\n\r\n");
    assert_eq!(client.read_to_end(), b"");
    client.send(b"still read").end();
    server.wait_until(|statistics| statistics.open_connections() == 0);
}

#[test]
fn another_status_is_an_ordinary_response() {
    let server = taking_over(|mut socket| {
        // In pieces, to show that a head need not come at once.
        for piece in [
            &b"HTTP/1.1 400 Bad"[..],
            b" Request\r\nX: y\r\n",
            b"\r\nbad",
            b" key",
        ] {
            socket.write_all(piece).unwrap();
        }
    });
    let mut client = server.connect();
    client.send(ASK);
    let reply = client.reply().unwrap();
    assert_eq!((reply.status, reply.header("x")), (400, Some("y")));
    assert_eq!(reply.text(), "bad key");
    // The connection is HTTP's still.
    let reply = client
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .reply()
        .unwrap();
    assert_eq!(reply.text(), "plain");
}

#[test]
fn writing_nothing_or_nonsense_is_told() {
    let server = taking_over(drop);
    assert_eq!(
        server.connect().send(ASK).reply().unwrap().text(),
        "nothing was written"
    );
    for nonsense in [
        &b"\x81\x02hi"[..],
        b"HTTP/1.1 101 Switching",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let server = taking_over(move |mut socket| socket.write_all(nonsense).unwrap());
        assert_eq!(
            server.connect().send(ASK).reply().unwrap().status,
            502,
            "{nonsense:?}"
        );
    }
}

#[test]
fn only_a_request_that_asks_gets_an_offer() {
    let server = taking_over(echo_everything);
    let mut client = server.connect();
    for ask in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
        "GET / HTTP/1.0\r\nConnection: upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n",
    ] {
        assert_eq!(client.send(ask).reply().unwrap().text(), "plain", "{ask}");
    }
}

#[test]
fn pipelined_requests_behind_a_declined_upgrade_are_answered() {
    let server = TestServer::echo();
    let mut client = server.connect();
    client.send(format!("{ASK}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.reply().unwrap().text(), "GET /ws ");
    assert_eq!(client.reply().unwrap().text(), "GET /next ");
}

#[test]
fn a_tunnel_is_drained_or_broken_off() {
    let server = taking_over(echo_everything);
    let mut client = server.connect();
    client.send(ASK).read_until(b"\r\n\r\n");
    server.trigger.begin();
    server.wait_until(carboy_server::Statistics::is_draining);
    // A shutdown waits for it...
    client.send("ping").read_until(b"ping");
    client.end();
    assert_eq!(client.read_to_end(), b"");
    assert_eq!(server.join().forced, 0);

    let server = taking_over(echo_everything);
    let mut client = server.connect();
    client.send(ASK).read_until(b"\r\n\r\n");
    server.wait_until(|statistics| statistics.in_flight_requests() == 0);
    // ... until it no longer can.
    server.trigger.force();
    assert_eq!(client.read_to_end(), b"");
    assert_eq!(server.join().forced, 1);
}
