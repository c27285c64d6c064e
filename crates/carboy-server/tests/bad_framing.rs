//! What must never be misunderstood: where the content of a request ends.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod support;

use carboy_server::ServerConfig;
use support::vectors::{BrokenContent, Fate, PROBE, Refused, Served, ServedBecause, check_all};
use support::{App, TestServer};

const CHUNKED_HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

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
    check_all(CHUNKED_HEAD, chunks, b"");
    let long_extension = [b"5;", "x".repeat(64 * 1024).as_bytes(), b"\r\nhello\r\n"].concat();
    let long_trailer = [b"0\r\nX: ", "x".repeat(100 * 1024).as_bytes(), b"\r\n\r\n"].concat();
    let many_trailers = [b"0\r\n".to_vec(), b"X: y\r\n".repeat(200), b"\r\n".to_vec()].concat();
    check_all(
        CHUNKED_HEAD,
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
    client.send(CHUNKED_HEAD);
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
        let content = format!("5\r\nhello\r\n0\r\n{name}: 1\r\n\r\n");
        client.send(CHUNKED_HEAD).send(content).send(PROBE);
        assert_eq!(
            client.reply().unwrap().text(),
            "host transfer-encoding",
            "{name}"
        );
        assert_eq!(client.reply().unwrap().status, 200, "{name}");
    }
}
