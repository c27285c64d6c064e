//! What must never be misunderstood: framing, chunks and heads.
//!
//! Each vector goes over a fresh connection and is followed by a request for
//! `/probe`. A refused vector gets one answer and the end of the connection; the
//! probe must not be answered, neither as itself nor out of left-over bytes.
//!
//! Sources of the vectors: `Http11Probe`, http-garden's list of found bugs, gunicorn's,
//! llhttp's and aiohttp's tests, and the advisories of many servers.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod support;

use carboy_server::ServerConfig;
use support::{App, TestServer};

const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What must become of a vector.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// One refusal with this status, then the end.
    Refused(u16),
    /// Content that the application is told to be broken, then the end.
    BrokenContent,
    /// A request like any other, with this content; the probe is answered too.
    Served(&'static str),
    /// The same, where the table of vectors allows a refusal too. The second part
    /// says why it is served.
    ServedBecause(&'static str, &'static str),
}
use Fate::{BrokenContent, Refused, Served, ServedBecause};

fn check(server: &TestServer, vector: &[u8], fate: Fate) {
    let name = String::from_utf8_lossy(vector.get(..200).unwrap_or(vector)).into_owned();
    let mut client = server.connect();
    client.send(vector).send(PROBE).end();
    let replies = client.replies();
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    for reply in &replies {
        assert_ne!(reply.text().trim(), "GET /evil", "smuggled by {name:?}");
    }
    match fate {
        Refused(status) => {
            assert_eq!(statuses, [status], "{name:?} -> {replies:?}");
            assert!(replies[0].closes(), "{name:?}");
            assert!(
                replies[0].text().lines().count() >= 2,
                "a sentence for {name:?}"
            );
        }
        BrokenContent => {
            assert_eq!(statuses, [400], "{name:?} -> {replies:?}");
            assert!(
                replies[0].text().contains("the request body"),
                "{name:?} -> {replies:?}"
            );
            assert!(replies[0].closes(), "{name:?}");
        }
        Served(content) | ServedBecause(content, _) => {
            let because = if let ServedBecause(_, because) = fate {
                because
            } else {
                "valid"
            };
            assert_eq!(statuses, [200, 200], "{name:?}, {because} -> {replies:?}");
            assert_eq!(replies[0].text(), content, "{name:?}");
            assert_eq!(replies[1].text(), "GET /probe ", "{name:?}");
        }
    }
}

/// Checks every vector: `before` + vector + `after`.
fn check_all(before: &[u8], vectors: &[(&[u8], Fate)], after: &[u8]) {
    let server = TestServer::echo();
    for (vector, fate) in vectors {
        check(&server, &[before, vector, after].concat(), *fate);
    }
    assert_eq!(server.statistics.panics(), 0);
}

#[test]
fn content_length() {
    const OVERFLOW: &[u8] = b"99999999999999999999";
    let values: &[(&[u8], Fate)] = &[
        (b"5", Served("POST / hello")),
        (
            b" \t5\t ",
            ServedBecause(
                "POST / hello",
                "white space around a value is not part of it",
            ),
        ),
        (
            b"005",
            ServedBecause("POST / hello", "leading zeros are decimal digits too"),
        ),
        (b"+5", Refused(400)),
        (b"-1", Refused(400)),
        (b"-0", Refused(400)),
        (b"0x5", Refused(400)),
        (b"0o5", Refused(400)),
        (b"1_0", Refused(400)),
        (b"1 0", Refused(400)),
        (b"abc", Refused(400)),
        (b"", Refused(400)),
        (b"5, 10", Refused(400)),
        (b"5, 5", Refused(400)),
        (b"5,5", Refused(400)),
        (b"5;", Refused(400)),
        (b"5.0", Refused(400)),
        (b"\"5\"", Refused(400)),
        (OVERFLOW, Refused(400)),
        (b"18446744073709551615", Refused(400)),
        (b"9223372036854775807", Refused(413)),
        (b"1Z", Refused(400)),
        (b"\x0b5", Refused(400)),
        (b"5\x00", Refused(400)),
        (b"\xb5", Refused(400)),
    ];
    check_all(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:",
        values,
        b"\r\n\r\nhello",
    );
    let zeros = format!("0200\r\n\r\n{}", "x".repeat(200));
    let expected: &'static str = Box::leak(format!("POST / {}", "x".repeat(200)).into_boxed_str());
    check_all(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ",
        &[(zeros.as_bytes(), Served(expected))],
        b"",
    );
    check_all(
        b"POST / HTTP/1.1\r\nHost: a\r\n",
        &[
            (
                b"Content-Length: 5\r\nContent-Length: 10\r\n\r\nhelloworld",
                Refused(400),
            ),
            (
                b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
                Refused(400),
            ),
            (
                b"Content-Length: 5\r\ncontent-length: 0\r\n\r\nhello",
                Refused(400),
            ),
            (b"Content-Length : 5\r\n\r\nhello", Refused(400)),
            (b"Content-Length\x85: 5\r\n\r\nhello", Refused(400)),
            (b"Content_Length: 5\r\n\r\n", Served("POST / ")),
            (b"X: y\r\n\tContent-Length: 1\r\n\r\nx", Refused(400)),
            (b"\tContent-Length: 1\r\n\r\nx", Refused(400)),
        ],
        b"",
    );
}

#[test]
fn transfer_encoding() {
    const EMPTY: &[u8] = b"\r\n\r\n0\r\n\r\n";
    let values: &[(&[u8], Fate)] = &[
        (b"chunked", Served("POST / ")),
        (
            b"Chunked",
            ServedBecause("POST / ", "codings are case-insensitive"),
        ),
        (
            b"chunked ",
            ServedBecause("POST / ", "white space around a value is not part of it"),
        ),
        (b"xchunked", Refused(400)),
        (b"chunked, identity", Refused(400)),
        (b"chunked, gzip", Refused(400)),
        (b"gzip, chunked", Refused(400)),
        (b"identity, chunked", Refused(400)),
        (b"gzip", Refused(501)),
        (b"deflate", Refused(501)),
        (b"identity", Refused(400)),
        (b"", Refused(400)),
        (b",chunked", Refused(400)),
        (b"chunked,", Refused(400)),
        (b"chunked, chunked", Refused(400)),
        (b"chunked;ext=val", Refused(400)),
        (b"\x0bchunked", Refused(400)),
        (b"\x0cchunked", Refused(400)),
        (b"chunked\x00", Refused(400)),
        (b"\xa0chunked\xa0", Refused(400)),
        (b"\xffchunked", Refused(400)),
        (b"\"chunked\"", Refused(400)),
        (b"chunked\r\nTransfer-Encoding: chunked", Refused(400)),
        (b"chunked\r\nTransfer-Encoding: identity", Refused(400)),
        (b"identity\r\nTransfer-Encoding: chunked", Refused(400)),
        (b"chunked\r\nContent-Length: 5", Refused(400)),
        (b"Chunked\r\nContent-Length: 5", Refused(400)),
        (b"chunked\r\nContent-Length: 0", Refused(400)),
        (b"\r\n chunked", Refused(400)),
    ];
    check_all(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ",
        values,
        EMPTY,
    );
    check_all(
        b"POST / HTTP/1.",
        &[
            (
                b"1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
                  GET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
                Refused(400),
            ),
            (
                b"1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n\
                  GET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
                Refused(400),
            ),
            (
                b"1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
                Refused(400),
            ),
            // It must not frame, so what follows is the next request, and a bad one.
            (
                b"1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n",
                Served("POST / "),
            ),
            (
                b"1\r\nHost: a\r\nTransfer-\r\nEncoding: chunked\r\n\r\n0\r\n\r\n",
                Refused(400),
            ),
            (
                b"1\r\nHost: a\r\nX: X\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                Refused(400),
            ),
            (
                b"1\r\nHost: a\r\nX: x\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                Refused(400),
            ),
            (
                b"0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                Refused(400),
            ),
        ],
        b"",
    );
}

#[test]
fn chunks() {
    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks: &[(&[u8], Fate)] = &[
        (b"5\r\nhello\r\n0\r\n\r\n", Served("POST / hello")),
        (b"5;a=b;c\r\nhello\r\n0;x\r\n\r\n", Served("POST / hello")),
        (b"00005\r\nhello\r\n000\r\n\r\n", Served("POST / hello")),
        (b"0x5\r\nhello\r\n0\r\n\r\n", BrokenContent),
        (b"+5\r\nhello\r\n0\r\n\r\n", BrokenContent),
        (b"-1\r\nhello\r\n0\r\n\r\n", BrokenContent),
        (b" 5\r\nhello\r\n0\r\n\r\n", BrokenContent),
        (b"5 \r\nhello\r\n0\r\n\r\n", BrokenContent),
        (b"5\t\r\nhello\r\n0\r\n\r\n", BrokenContent),
        (b"1_0\r\n0123456789012345\r\n0\r\n\r\n", BrokenContent),
        (b"0_2e\r\n\r\n", BrokenContent),
        (b"\r\nhello\r\n0\r\n\r\n", BrokenContent),
        (b"FFFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n\r\n", BrokenContent),
        (b"G\r\nhello\r\n0\r\n\r\n", BrokenContent),
        (b"5;\r\nhello\r\n0\r\n\r\n", BrokenContent),
        (b"5;bad[=x\r\nhello\r\n0\r\n\r\n", BrokenContent),
        (b"5;\x00ext\r\nhello\r\n0\r\n\r\n", BrokenContent),
        (b"5;a\rX\r\nhello\r\n0\r\n\r\n", BrokenContent),
        (b"5;\nhello\r\n0\r\n\r\n", BrokenContent),
        (
            b"5\r\r;ABCD\r\n34\r\nE\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
            BrokenContent,
        ),
        (b"5\nhello\r\n0\r\n\r\n", BrokenContent),
        (b"5\rhello\r\n0\r\n\r\n", BrokenContent),
        (b"5\r\nhello0\r\n\r\n", BrokenContent),
        (b"5\r\nhello!!\r\n0\r\n\r\n", BrokenContent),
        (b"5\r\nhelloXX0\r\n\r\n", BrokenContent),
        (b"5\r\nhello\n0\r\n\r\n", BrokenContent),
        (
            b"0\r\nX:POST / HTTP/1.1\r\nHost: a\r\n\r\n",
            Served("POST / "),
        ),
        (b"0\r\nX : y\r\n\r\n", BrokenContent),
        (b"0\r\n y\r\n\r\n", BrokenContent),
        (b"0\r\nNoColon\r\n\r\n", BrokenContent),
        (b"0\r\nX: a\x00b\r\n\r\n", BrokenContent),
        (b"0\r\n\n", BrokenContent),
        (b"0\n\r\n", BrokenContent),
    ];
    check_all(HEAD, chunks, b"");
    let long_extension = [b"5;", "x".repeat(64 * 1024).as_bytes(), b"\r\nhello\r\n"].concat();
    let long_trailer = [b"0\r\nX: ", "x".repeat(100 * 1024).as_bytes(), b"\r\n\r\n"].concat();
    let many_trailers = [b"0\r\n".to_vec(), b"X: y\r\n".repeat(200), b"\r\n".to_vec()].concat();
    check_all(
        HEAD,
        &[
            (&long_extension, BrokenContent),
            (&long_trailer, BrokenContent),
            (&many_trailers, BrokenContent),
        ],
        b"",
    );
}

#[test]
fn truncated_content_is_never_a_normal_end() {
    let server = TestServer::echo();
    for rest in [
        &b"Content-Length: 10\r\n\r\nhello"[..],
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
    ] {
        let mut client = server.connect();
        client
            .send(b"POST / HTTP/1.1\r\nHost: a\r\n")
            .send(rest)
            .end();
        let reply = client.reply().unwrap();
        assert_eq!(reply.status, 400, "{:?}", String::from_utf8_lossy(rest));
        assert!(
            reply.text().contains("before the whole request body"),
            "{}",
            reply.text()
        );
    }
}

#[test]
fn a_million_chunks_of_one_byte_are_read() {
    let server = TestServer::echo();
    let mut client = server.connect();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let batch = b"1\r\nx\r\n".repeat(10_000);
    for _ in 0..100 {
        client.send(&batch);
    }
    client.send(b"0\r\n\r\n").send(PROBE);
    assert_eq!(
        client.reply().unwrap().body.len(),
        "POST / ".len() + 1_000_000
    );
    assert_eq!(client.reply().unwrap().text(), "GET /probe ");
}

#[test]
fn trailers_are_ignored() {
    let server = TestServer::start(ServerConfig::default(), || {
        App::new(async |request: carboy_server::Request| {
            let names: Vec<_> = request
                .headers
                .keys()
                .map(|name| name.as_str().to_owned())
                .collect();
            drop(request.body.buffer(1024).await);
            support::text(200, &names.join(" "))
        })
    });
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Authorization",
        "Content-Type",
    ] {
        let mut client = server.connect();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\n{name}: 1\r\n\r\n"
        ));
        client.send(PROBE);
        assert_eq!(
            client.reply().unwrap().text(),
            "host transfer-encoding",
            "{name}"
        );
        assert_eq!(client.reply().unwrap().status, 200, "{name}");
    }
}

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
