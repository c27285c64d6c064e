//! What servers do that they should not: each has its error, within its time, and the pool is
//! whole afterwards.

mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use carboy_client::{Client, ErrorKind, Request};
use support::{Upstream, client, fetch, get, ok, post, read_request, run, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use url::Url;

/// The call fails so, and nothing of it is left in the pool.
async fn fails_with(client: &Client, request: Request, kind: ErrorKind) -> String {
    let error = match fetch(client, request).await {
        Ok((response, content)) => panic!("{}: {content:?}", response.head.status),
        Err(error) => error,
    };
    assert_eq!(error.kind(), kind, "{error}");
    wait_for(client, |pool| {
        pool.connections == pool.idle && pool.waiting == 0
    })
    .await;
    error.to_string()
}

async fn answer_fails_with(answer: impl Into<Vec<u8>>, kind: ErrorKind) -> String {
    let client = client();
    let upstream = Upstream::once(answer).await;
    fails_with(&client, get(upstream.url("/")), kind).await
}

#[test]
fn slow_head() {
    run(async {
        let upstream = Upstream::start(async |mut stream, _| {
            read_request(&mut stream).await;
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: 1\r\n".iter().cycle() {
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let client = client();
        let began = Instant::now();
        let message = fails_with(&client, get(upstream.url("/")), ErrorKind::ReadTimeout).await;
        assert!(message.contains("0.3 s"), "{message}");
        assert!(began.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn slow_content() {
    run(async {
        let upstream = Upstream::start(async |mut stream, _| {
            read_request(&mut stream).await;
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc";
            stream.write_all(head).await.unwrap();
            stream.read_u8().await.ok();
        })
        .await;
        let client = client();
        fails_with(&client, get(upstream.url("/")), ErrorKind::ReadTimeout).await;
        // Content that trickles is bounded by the whole call's time.
        let upstream = Upstream::start(async |mut stream, _| {
            read_request(&mut stream).await;
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
            stream.write_all(head).await.unwrap();
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let mut request = get(upstream.url("/"));
        request.timeouts.total = Some(Duration::from_millis(500));
        fails_with(&client, request, ErrorKind::TotalTimeout).await;
    });
}

#[test]
fn nothing_is_read() {
    run(async {
        let upstream = Upstream::start(async |stream, _| {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await;
        let mut request = post(upstream.url("/"), "");
        request.body = carboy_client::RequestBody::Full(vec![0; 64 * 1024 * 1024].into());
        fails_with(&client(), request, ErrorKind::WriteTimeout).await;
    });
}

#[test]
fn reset_at_every_byte() {
    run(async {
        let whole = "HTTP/1.1 200 OK\r\nX-Some: thing\r\nTransfer-Encoding: chunked\r\n\r\n\
                     3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        for resets in [false, true] {
            for length in 0..whole.len() {
                let upstream = Upstream::start(move |mut stream, _| async move {
                    read_request(&mut stream).await;
                    stream.write_all(&whole.as_bytes()[..length]).await.unwrap();
                    if resets {
                        // Closing with bytes unread, or without lingering, resets.
                        socket2::SockRef::from(&stream)
                            .set_linger(Some(Duration::ZERO))
                            .unwrap();
                    }
                })
                .await;
                let client = client();
                let error = fetch(&client, get(upstream.url("/"))).await.err();
                let kind = error.map(|error| error.kind());
                assert!(
                    matches!(kind, Some(ErrorKind::RemoteProtocol | ErrorKind::Read)),
                    "{length} bytes, reset {resets}: {kind:?}"
                );
                wait_for(&client, |pool| pool.connections == 0).await;
            }
        }
    });
}

#[test]
fn bad_framing() {
    run(async {
        let head = "HTTP/1.1 200 OK\r\n";
        for rest in [
            "Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            "Content-Length: 10\r\n\r\nshort",
            "Content-Length: ten\r\n\r\n",
            "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            "No colon here\r\n\r\n",
        ] {
            answer_fails_with(format!("{head}{rest}"), ErrorKind::RemoteProtocol).await;
        }
        for answer in ["", "SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 abc\r\n\r\n"] {
            answer_fails_with(answer, ErrorKind::RemoteProtocol).await;
        }
    });
}

#[test]
fn more_content_than_announced_is_not_the_next_answer() {
    run(async {
        let client = client();
        let upstream =
            Upstream::always(ok("abc") + "HTTP/1.1 200 OK\r\nX-Smuggled: 1\r\n\r\n").await;
        for _ in 0..3 {
            let (response, content) = fetch(&client, get(upstream.url("/"))).await.unwrap();
            assert_eq!(content, "abc");
            assert!(!response.head.headers.contains_key("x-smuggled"));
        }
    });
}

#[test]
fn oversized_heads() {
    run(async {
        let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "a".repeat(100_000));
        answer_fails_with(long, ErrorKind::RemoteProtocol).await;
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(200));
        answer_fails_with(many, ErrorKind::RemoteProtocol).await;
    });
}

#[test]
fn endless_redirects() {
    run(async {
        let client = client();
        let upstream = Upstream::always(
            "HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 4\r\n\r\nmore",
        )
        .await;
        let request = get(upstream.url("/"));
        let message = fails_with(&client, request, ErrorKind::TooManyRedirects).await;
        assert!(message.contains("20"), "{message}");
        assert_eq!(upstream.connections(), 1, "the connection was kept");
        for location in ["http://[", "ftp://elsewhere/"] {
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n");
            let error = fetch(&client, get(Upstream::once(answer).await.url("/"))).await;
            let kind = error.err().unwrap().kind();
            assert!(matches!(
                kind,
                ErrorKind::RemoteProtocol | ErrorKind::UnsupportedProtocol
            ));
        }
    });
}

/// 80 MB of zeros, made by Google's encoder.
#[rustfmt::skip]
const BROTLI_BOMB: &[u8] = &[
    0xcb, 0xff, 0xff, 0x3f, 0x00, 0x24, 0x00, 0xe2, 0xb1, 0x40, 0x72, 0xef, 0xff,
    0xf8, 0xff, 0xff, 0x07, 0x80, 0x04, 0x40, 0x1c, 0x16, 0x80, 0xee, 0xfd, 0x1f,
    0xff, 0xff, 0xff, 0x00, 0x90, 0x00, 0x88, 0xc3, 0x02, 0xd0, 0xbd, 0xff, 0xe3,
    0xff, 0xff, 0x1f, 0x00, 0x12, 0x00, 0x71, 0x58, 0x00, 0xba, 0xf7, 0x7f, 0xfc,
    0xff, 0xff, 0x03, 0x40, 0x02, 0x20, 0x0e, 0x0b, 0x40, 0xf7, 0xfe, 0x8f, 0xff,
    0xff, 0x7f, 0x00, 0x48, 0x00, 0xc4, 0x61, 0x01, 0xe8, 0xde, 0xff, 0xf1, 0xff,
    0xff, 0x0f, 0x00, 0x09, 0x80, 0x38, 0x2c, 0x00, 0xdd, 0xfb, 0x3f, 0xfe, 0xff,
    0xff, 0x01, 0x20, 0x01, 0x10, 0x87, 0x05, 0xa0, 0x7b, 0xff, 0xc7, 0xff, 0xff,
    0x3f, 0x00, 0x24, 0x00, 0xe2, 0xb0, 0x00, 0x74, 0xef, 0xff, 0xf8, 0xff, 0xff,
    0x07, 0x80, 0x04, 0x40, 0x1c, 0x16, 0x80, 0xee, 0xfd, 0xdf,
];

#[test]
fn decompression_bombs() {
    run(async {
        let zeros = vec![0; 80 * 1024 * 1024];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&zeros).unwrap();
        let bombs = [
            ("gzip", gzip.finish().unwrap()),
            ("zstd", zstd::encode_all(&zeros[..], 1).unwrap()),
            ("br", BROTLI_BOMB.to_vec()),
        ];
        for (coding, bomb) in bombs {
            let mut answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
                bomb.len()
            )
            .into_bytes();
            answer.extend(bomb);
            // gzip by its size in all (64 MB in these tests), zstd by that of a piece.
            answer_fails_with(answer, ErrorKind::BodyTooLarge).await;
        }
        let broken = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello";
        answer_fails_with(broken, ErrorKind::Decoding).await;
    });
}

#[test]
fn unreachable_hosts() {
    run(async {
        let client = client();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let url = Url::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
        fails_with(&client, get(url), ErrorKind::Connect).await;
        let mut request = get(Url::parse("http://nowhere.invalid/").unwrap());
        request.timeouts.connect = Some(Duration::from_secs(10));
        fails_with(&client, request, ErrorKind::Resolve).await;
        let ftp = get(Url::parse("ftp://127.0.0.1/").unwrap());
        fails_with(&client, ftp, ErrorKind::UnsupportedProtocol).await;
    });
}

#[test]
fn a_handshake_that_is_never_answered() {
    run(async {
        let upstream =
            Upstream::start(
                async |mut stream, _| {
                    while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
                },
            )
            .await;
        let mut url = upstream.url("/");
        url.set_scheme("https").unwrap();
        fails_with(&client(), get(url), ErrorKind::ConnectTimeout).await;
    });
}

#[test]
fn a_connection_that_was_closed_as_idle() {
    run(async {
        // Each connection serves one request and is closed without a word.
        let upstream = Upstream::start(async |mut stream, _| {
            read_request(&mut stream).await;
            stream.write_all(ok("fine").as_bytes()).await.unwrap();
        })
        .await;
        let client = client();
        for _ in 0..20 {
            let (_, content) = fetch(&client, get(upstream.url("/"))).await.unwrap();
            assert_eq!(content, "fine");
            let (_, content) = fetch(&client, post(upstream.url("/"), "x")).await.unwrap();
            assert_eq!(content, "fine");
        }
        assert_eq!(upstream.connections(), 40);
    });
}

/// An upstream that answers the first request of each connection, and closes it when the second
/// one has come.
async fn answers_once() -> Upstream {
    Upstream::start(async |mut stream, _| {
        read_request(&mut stream).await;
        if stream.write_all(ok("fine").as_bytes()).await.is_ok() {
            read_request(&mut stream).await;
        }
    })
    .await
}

#[test]
fn a_connection_that_is_closed_instead_of_an_answer() {
    run(async {
        let upstream = answers_once().await;
        let client = client();
        // It was in use just now, so it was not closed as idle: the server may have acted.
        for (number, request) in [get, |url| post(url, "order")].into_iter().enumerate() {
            fetch(&client, get(upstream.url("/"))).await.unwrap();
            let kind = ErrorKind::RemoteProtocol;
            fails_with(&client, request(upstream.url("/")), kind).await;
            assert_eq!(upstream.connections(), number + 1);
        }
    });
}

/// Lets time pass for the client without waiting.
async fn pass(duration: Duration) {
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
}

#[test]
fn a_connection_that_is_closed_as_idle_when_the_request_comes() {
    run(async {
        let upstream = answers_once().await;
        let client = client();
        let first = async || {
            fetch(&client, get(upstream.url("/"))).await.unwrap();
            pass(Duration::from_secs(2)).await;
        };
        // An idempotent request is made again, once, on a new connection,
        first().await;
        let (_, content) = fetch(&client, get(upstream.url("/"))).await.unwrap();
        assert_eq!(content, "fine");
        assert_eq!(upstream.connections(), 2);
        // another one is not,
        pass(Duration::from_secs(2)).await;
        let kind = ErrorKind::RemoteProtocol;
        let error = fails_with(&client, post(upstream.url("/"), "order"), kind).await;
        for part in ["kept", "may have acted", "POST", "any_method=True"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(upstream.connections(), 2);
        // and none where that is switched off.
        first().await;
        let mut request = get(upstream.url("/"));
        std::sync::Arc::make_mut(&mut request.retries).repeats_stale = false;
        fails_with(&client, request, kind).await;
        assert_eq!(upstream.connections(), 3);
    });
}
