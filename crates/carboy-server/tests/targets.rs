//! Targets that people send and no URI has: the application gets them as they were sent.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod support;

use bytes::Bytes;
use carboy_server::{Buffered, Limits, Request, ServerConfig};
use support::{App, TestServer};

/// Answers with the target as it was sent, as hyper got it, and with the content.
async fn show(request: Request) -> carboy_server::Response {
    let raw = request.raw_target.as_ref().map_or("-".into(), |target| {
        String::from_utf8_lossy(target).into_owned()
    });
    let uri = request.uri.clone();
    let content = match request.body.buffer(1024).await {
        Buffered::Complete(content) => content,
        _ => Bytes::from_static(b"?"),
    };
    let content = String::from_utf8_lossy(&content).into_owned();
    support::text(200, &format!("{raw} {uri} {content}"))
}

fn server(limits: Limits) -> TestServer {
    let config = ServerConfig {
        limits,
        ..ServerConfig::default()
    };
    TestServer::start(config, || App::new(show))
}

fn head(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn each_of_pipelined_requests_has_its_own_target() {
    let server = server(Limits::default());
    let requests = [
        head("/<1>"),
        head("/2"),
        "POST /`3` HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nGET /<x> ".to_owned(),
        "POST /?\"4\" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\n<4>\r\n0\r\n\r\n"
            .to_owned(),
        head("/5"),
        head("/<6>"),
        // Refused, and nothing after it is served.
        head("/#7"),
        head("/<8>"),
    ];
    let expected = [
        "/<1> /%3C1%3E ",
        "- /2 ",
        "/`3` /%603%60 GET /<x> ",
        "/?\"4\" /?%224%22 <4>",
        "- /5 ",
        "/<6> /%3C6%3E ",
    ];
    let bytes = requests.concat().into_bytes();
    for piece_size in [bytes.len(), 1, 2, 7, 50] {
        let mut client = server.connect();
        for piece in bytes.chunks(piece_size) {
            client.send(piece);
        }
        for text in expected {
            assert_eq!(client.reply().unwrap().text(), text, "in {piece_size}s");
        }
        assert_eq!(client.reply().unwrap().status, 400);
        assert!(client.reply().is_none());
    }
}

#[test]
fn the_longest_targets_pass_though_they_grow() {
    let server = server(Limits::default());
    let target = format!("/{}", "<".repeat(16 * 1024 - "GET / HTTP/1.1\r\n".len()));
    let value = "x".repeat(64 * 1024 - "Host: a\r\nX: \r\n".len());
    let mut client = server.connect();
    client.send(format!(
        "GET {target} HTTP/1.1\r\nHost: a\r\nX: {value}\r\n\r\n"
    ));
    let reply = client.reply().unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.text().starts_with(&format!("{target} /%3C")));
}

#[test]
fn a_target_that_would_be_too_long_for_hyper_is_refused_with_a_sentence() {
    let server = server(Limits {
        request_line_bytes: 1024 * 1024,
        ..Limits::default()
    });
    for target in ["<".repeat(30_000), "x".repeat(70_000)] {
        let mut client = server.connect();
        client.send(head(&format!("/{target}")));
        let reply = client.reply().unwrap();
        assert_eq!(reply.status, 414);
        assert!(!reply.text().is_empty());
    }
}
