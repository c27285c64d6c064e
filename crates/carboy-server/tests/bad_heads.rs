//! What must never be misunderstood: the head of a request.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod support;

use support::TestServer;
use support::vectors::{Refused, Served, ServedBecause, check_all};

#[test]
fn hosts() {
    check_all(
        b"GET / HTTP/1.1\r\n",
        &[
            (b"Host: a\r\n\r\n", Served("GET / ")),
            (b"Host: a:80\r\n\r\n", Served("GET / ")),
            (b"\r\n", Refused(400)),
            (b"Host:\r\n\r\n", Refused(400)),
            (b"Host: a\r\nHost: a\r\n\r\n", Refused(400)),
            (b"Host: a\r\nHost: b\r\n\r\n", Refused(400)),
            (b"Host: a, b\r\n\r\n", Refused(400)),
            (b"Host: u@a\r\n\r\n", Refused(400)),
            (b"Host: a/p\r\n\r\n", Refused(400)),
        ],
        b"",
    );
}

#[test]
fn request_lines() {
    check_all(
        b"",
        &[
            (b"GET  / HTTP/1.1", Refused(400)),
            (b"GET\t/ HTTP/1.1", Refused(400)),
            (b"GET / HTTP/1.1 ", Refused(400)),
            (b" GET / HTTP/1.1", Refused(400)),
            (b"GET / HTTP/1.1\nHost: a\n\n", Refused(400)),
            (b"GET / HTTP/1.1\rHost: a", Refused(400)),
            (b"GET HTTP/1.1", Refused(400)),
            (b"GET /", Refused(400)),
            (b"GET / HTTP/9.9", Refused(505)),
            (b"GET / HTTP/2.0", Refused(505)),
            (b"GET / HTTP/1.2", Refused(505)),
            (b"GET / HTTP/1", Refused(400)),
            (b"GET / HTTP/01.01", Refused(400)),
            (b"GET / HTTP/ 1.1", Refused(400)),
            (b"GET / http/1.1", Refused(400)),
            (b"GET / HTTP/1.32", Refused(400)),
            (b"GET / HTTPS/1.1", Refused(400)),
            (b"GET ! HTTP/1.1", Refused(400)),
            (b"GET * HTTP/1.1", Refused(400)),
            (b"OPTIONS * HTTP/1.1", Served("OPTIONS * ")),
            (b"CONNECT x:443 HTTP/1.1", Refused(501)),
            (
                b"TRACE / HTTP/1.1",
                ServedBecause("TRACE / ", "methods are the application's"),
            ),
            (
                b"get / HTTP/1.1",
                ServedBecause("get / ", "methods are the application's"),
            ),
            (b"G=\":<>(e) / HTTP/1.1", Refused(400)),
            (b"GET /pa th HTTP/1.1", Refused(400)),
            (b"GET /\x00 HTTP/1.1", Refused(400)),
            (b"GET /\x7f HTTP/1.1", Refused(400)),
            (b"GET /\xc3\xa9 HTTP/1.1", Refused(400)),
            (b"GET /#frag HTTP/1.1", Refused(400)),
            (b"GET /%c0%af HTTP/1.1", Served("GET /%c0%af ")),
            (b"GET /%00 HTTP/1.1", Served("GET /%00 ")),
            (b"GET /%0d%0aX:y HTTP/1.1", Served("GET /%0d%0aX:y ")),
            (b"GET /a\\..\\b HTTP/1.1", Served("GET /a\\..\\b ")),
            (
                b"GET /..%2f..%2fetc/passwd HTTP/1.1",
                Served("GET /..%2f..%2fetc/passwd "),
            ),
            (b"GET //evil/.. HTTP/1.1", Served("GET //evil/.. ")),
            (b"GET /?a|{}^ HTTP/1.1", Served("GET /?a|{}^ ")),
            (
                b"GET /<a>`b`?\"c\" HTTP/1.1",
                Served("GET /%3Ca%3E%60b%60?%22c%22 "),
            ),
            (b"GET /%3ca%3e HTTP/1.1", Served("GET /%3ca%3e ")),
            (b"GET http://a/p HTTP/1.1", Served("GET http://a/p ")),
            (b"GET http://a/<p> HTTP/1.1", Refused(400)),
            (b"GET http://a<b/ HTTP/1.1", Refused(400)),
            (b"GET <a> HTTP/1.1", Refused(400)),
            (b"GET \"/\" HTTP/1.1", Refused(400)),
            (b"GET http://other/ HTTP/1.1", Refused(400)),
            (b"GET http://u@a/ HTTP/1.1", Refused(400)),
            (b"GET ftp://a/ HTTP/1.1", Refused(400)),
        ],
        b"\r\nHost: a\r\n\r\n",
    );
}

#[test]
fn header_lines() {
    check_all(
        b"GET / HTTP/1.1\r\n",
        &[
            (b" \r\nHost: a\r\n\r\n", Refused(400)),
            (b" X: y\r\nHost: a\r\n\r\n", Refused(400)),
            (b"Host: a\r\n: v\r\n\r\n", Refused(400)),
            (b"Host: a\r\nBad[N: v\r\n\r\n", Refused(400)),
            (b"Host: a\r\nNoColon\r\n\r\n", Refused(400)),
            (b"Host: a\r\nX : v\r\n\r\n", Refused(400)),
            (b"Host: a\r\nX\t: v\r\n\r\n", Refused(400)),
            (b"Host: a\r\nX: a\x00b\r\n\r\n", Refused(400)),
            (b"Host: a\r\nX: a\rb\r\n\r\n", Refused(400)),
            (b"Host: a\r\nX: \x07\r\n\r\n", Refused(400)),
            (b"Host: a\r\nX: \x7f\r\n\r\n", Refused(400)),
            (b"Host: a\r\n\xc3\xab: v\r\n\r\n", Refused(400)),
            (b"Host: a\r\nX: y\n\r\n", Refused(400)),
            (b"Host: a\r\nX: y\r\n z\r\n\r\n", Refused(400)),
            (b"Host: a\n\n", Refused(400)),
            (b"Host: a\r\n\n", Refused(400)),
            (b"Host: a\r\nX: \xff\xfe\r\n\r\n", Served("GET / ")),
            (b"Host: a\r\nX:\r\n\r\n", Served("GET / ")),
            (b"Host: a\r\nX: \ty\t \r\n\r\n", Served("GET / ")),
            (b"Host: a\r\nExpect: 200-ok\r\n\r\n", Refused(417)),
        ],
        b"",
    );
}

#[test]
fn oversized_heads() {
    let long = "x".repeat(100 * 1024);
    let many = "X: y\r\n".repeat(10_000);
    check_all(
        b"",
        &[
            (
                format!("{long} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(),
                Refused(414),
            ),
            (
                format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(),
                Refused(414),
            ),
            (
                format!("GET / HTTP/1.1\r\nHost: a\r\n{long}: v\r\n\r\n").as_bytes(),
                Refused(431),
            ),
            (
                format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n").as_bytes(),
                Refused(431),
            ),
            (
                format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n").as_bytes(),
                Refused(431),
            ),
        ],
        b"",
    );
    // The largest that fit: every byte counts, so that hyper's buffer is known to
    // hold them.
    let target = format!("/{}", "x".repeat(16 * 1024 - "GET / HTTP/1.1\r\n".len()));
    let value = "x".repeat(64 * 1024 - "Host: a\r\nX: \r\n".len());
    let server = TestServer::echo();
    let mut client = server.connect();
    client.send(format!(
        "GET {target} HTTP/1.1\r\nHost: a\r\nX: {value}\r\n\r\n"
    ));
    assert_eq!(client.reply().unwrap().status, 200);
}

#[test]
fn other_protocols() {
    let garbage: Vec<u8> = (0..3072_u32)
        .map(|number| (number * 31 % 251) as u8)
        .collect();
    check_all(
        b"",
        &[
            (
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                Refused(400),
            ),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refused(505)),
            (&garbage, Refused(400)),
            (b"\x00", Refused(400)),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Refused(400)),
        ],
        b"",
    );
    let server = TestServer::echo();
    let mut client = server.connect();
    client.send(b"\x16\x03\x01\x02\x00\x01\x00");
    let reply = client.reply().unwrap();
    assert!(reply.text().contains("TLS handshake"), "{}", reply.text());
    assert_eq!(
        server
            .statistics
            .refused(carboy_server::Refusal::TlsHandshake),
        1
    );
}

#[test]
fn empty_lines_before_a_request() {
    check_all(
        b"",
        &[
            (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Served("GET / ")),
            (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
            (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ],
        b"",
    );
}

#[test]
fn half_a_head_is_no_request() {
    let server = TestServer::echo();
    for half in [
        &b"GET"[..],
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
    ] {
        let mut client = server.connect();
        client.send(half).end();
        assert_eq!(client.replies().len(), 0);
    }
}
