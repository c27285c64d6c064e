//! HTTP/1 as clients use it: order, keep-alive, HEAD, HTTP/1.0, expectations.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod support;

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use carboy_server::{Request, Response, ResponseBody, ServerConfig};
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use support::{App, Client, TestServer, echo, text};
use tokio::sync::Notify;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = TestServer::echo();
    let mut client = server.connect();
    let requests: String = (0..100).map(|number| get(&format!("/{number}"))).collect();
    client.send(requests).end();
    for number in 0..100 {
        assert_eq!(client.reply().unwrap().text(), format!("GET /{number} "));
    }
    assert_eq!(client.reply(), None);
}

#[test]
fn a_slow_answer_holds_back_the_ones_after_it() {
    // The first answer waits for another connection, the second does not.
    let server = TestServer::start(ServerConfig::default(), || {
        let released = Rc::new(Notify::new());
        App::new(move |request: Request| {
            let released = Rc::clone(&released);
            async move {
                match request.uri.path() {
                    "/slow" => released.notified().await,
                    "/release" => released.notify_one(),
                    _ => {}
                }
                echo(request).await
            }
        })
    });
    let mut client = server.connect();
    client.send(get("/slow") + &get("/fast"));
    server.wait_until(|statistics| statistics.in_flight_requests() == 1);
    let mut other = server.connect();
    assert_eq!(other.send(get("/release")).reply().unwrap().status, 200);
    assert_eq!(client.reply().unwrap().text(), "GET /slow ");
    assert_eq!(client.reply().unwrap().text(), "GET /fast ");
}

#[test]
fn bodies_before_pipelined_requests_stay_bodies() {
    let server = TestServer::echo();
    let mut client = server.connect();
    for method in ["GET", "OPTIONS", "DELETE", "POST"] {
        client.send(format!(
            "{method} /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /{}",
            get("/2")
        ));
        assert_eq!(client.reply().unwrap().text(), format!("{method} /1 GET /"));
        assert_eq!(client.reply().unwrap().text(), "GET /2 ");
    }
    client.send("HEAD /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /");
    client.send(get("/2"));
    assert_eq!(
        client.reply_to("HEAD").unwrap().header("content-length"),
        Some("13")
    );
    assert_eq!(client.reply().unwrap().text(), "GET /2 ");
}

#[test]
fn an_unread_body_never_becomes_a_request() {
    let server = TestServer::start(ServerConfig::default(), || {
        App::new(async |request: Request| text(200, request.uri.path()))
    });
    // Small enough to be drained, or too large and not even sent whole.
    for (length, sent) in [(40_usize, 40_usize), (10_000_000, 100_000)] {
        let mut client = server.connect();
        let body = get("/evil").repeat(sent / 20 + 1);
        let body = body.get(..sent).unwrap();
        client.send(format!(
            "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        assert_eq!(client.reply().unwrap().text(), "/1");
        client.send(get("/2")).end();
        for reply in client.replies() {
            assert_eq!(reply.text(), "/2", "body bytes became a request");
        }
    }
}

#[test]
fn connections_are_kept_until_somebody_closes() {
    let server = TestServer::echo();
    let mut client = server.connect();
    for _ in 0..10 {
        let reply = client.send(get("/")).reply().unwrap();
        assert_eq!((reply.status, reply.header("connection")), (200, None));
        assert!(reply.header("date").is_some());
        assert_eq!(reply.header("server"), None);
    }
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(client.reply().unwrap().closes());
    assert_eq!(client.reply(), None);
    assert_eq!(server.statistics.accepted_connections(), 1);
    server.wait_until(|statistics| statistics.open_connections() == 0);
    assert_eq!(server.statistics.served_requests(), 11);
}

#[test]
fn http_1_0_is_answered_and_closed_unless_kept_alive() {
    let server = TestServer::start(ServerConfig::default(), || {
        App::new(async |request: Request| {
            if request.uri.path() == "/full" {
                return echo(request).await;
            }
            let (mut sender, body) = ResponseBody::stream();
            sender.try_send(Bytes::from_static(b"streamed")).unwrap();
            sender.finish();
            Response::new(body)
        })
    });
    let mut client = server.connect();
    let reply = client.send("GET /full HTTP/1.0\r\n\r\n").reply().unwrap();
    assert_eq!(reply.text(), "GET /full ");
    assert_eq!(client.reply(), None);

    let mut client = server.connect();
    for _ in 0..2 {
        client.send("GET /full HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let reply = client.reply().unwrap();
        assert_eq!(reply.header("connection"), Some("keep-alive"));
    }
    // HTTP/1.0 knows no chunks: the end of the connection is the end of the content.
    client.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let reply = client.reply().unwrap();
    assert_eq!(reply.header("transfer-encoding"), None);
    assert_eq!(reply.text(), "streamed");
}

#[test]
fn head_is_answered_like_get_without_content() {
    let server = TestServer::start(ServerConfig::default(), || {
        App::new(async |request: Request| match request.uri.path() {
            "/full" => text(200, "hello"),
            "/promised" => {
                let mut response = Response::new(ResponseBody::empty());
                response
                    .headers_mut()
                    .insert(CONTENT_LENGTH, HeaderValue::from(7));
                response
            }
            _ => Response::new(ResponseBody::stream().1),
        })
    });
    let mut client = server.connect();
    for (path, length) in [
        ("/full", Some("5")),
        ("/promised", Some("7")),
        ("/stream", None),
    ] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let reply = client.reply_to("HEAD").unwrap();
        assert_eq!(
            (reply.status, reply.header("content-length")),
            (200, length),
            "{path}"
        );
    }
    assert_eq!(client.send(get("/full")).reply().unwrap().text(), "hello");
    assert_eq!(server.statistics.length_mismatches(), 0);
}

#[test]
fn statuses_without_content_have_none() {
    let server = TestServer::start(ServerConfig::default(), || {
        App::new(async |request: Request| {
            let status = request.uri.path().get(1..).unwrap().parse().unwrap();
            let mut response = text(status, "not to be sent");
            response
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from(14));
            response
        })
    });
    let mut client = server.connect();
    for status in [204, 304] {
        assert_eq!(
            client
                .send(get(&format!("/{status}")))
                .reply()
                .unwrap()
                .status,
            status
        );
    }
    // Interim statuses can't be the answer, whatever the application thinks.
    for status in [100, 101, 103] {
        let reply = client.send(get(&format!("/{status}"))).reply().unwrap();
        assert_eq!(reply.status, 500, "{status}");
    }
}

#[test]
fn a_continue_is_sent_once_the_body_is_wanted() {
    let server = TestServer::start(ServerConfig::default(), || {
        App::new(async |request: Request| {
            assert!(request.body.expects_continue());
            match request.uri.path() {
                "/read" => echo(request).await,
                _ => text(403, "no"),
            }
        })
    });
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
    };
    let mut client = server.connect();
    assert_eq!(client.send(head("/read")).reply().unwrap().status, 100);
    assert_eq!(
        client.send("hello").reply().unwrap().text(),
        "POST /read hello"
    );
    // The body at once, and another request behind it.
    client.send(head("/read") + "hello" + &head("/read"));
    let mut statuses = Vec::new();
    while statuses.len() < 3 {
        statuses.push(client.reply().unwrap().status);
    }
    assert!(
        statuses == [100, 200, 100] || statuses == [200, 100],
        "{statuses:?}"
    );

    let mut client = server.connect();
    assert_eq!(client.send(head("/refuse")).reply().unwrap().status, 403);
    // Whether the body comes or not, it is not read as a request.
    client.send("hello").end();
    assert_eq!(client.replies(), []);
}

#[test]
fn buffering_what_has_arrived_does_not_ask_for_more() {
    let server = TestServer::start(ServerConfig::default(), || {
        App::new(
            async |request: Request| match request.body.buffer_available(1024).await {
                carboy_server::Buffered::Complete(content) => {
                    text(200, &format!("{}", content.len()))
                }
                carboy_server::Buffered::Partial { prefix, .. } => {
                    text(200, &format!("{} pieces and more", prefix.len()))
                }
                carboy_server::Buffered::Failed(error) => text(400, &error.to_string()),
            },
        )
    });
    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    for (rest, expected) in [
        ("\r\n", "0"),
        ("Content-Length: 5\r\n\r\nhello", "5"),
        ("Content-Length: 5\r\n\r\nhel", "1 pieces and more"),
        ("Content-Length: 5\r\n\r\n", "0 pieces and more"),
        (
            "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n",
            "0 pieces and more",
        ),
    ] {
        let mut client = server.connect();
        client.send(format!("{head}{rest}"));
        assert_eq!(client.reply().unwrap().text(), expected, "{rest:?}");
    }
}

#[test]
fn a_half_closed_client_still_gets_its_answer() {
    let server = TestServer::echo();
    let mut client = server.connect();
    client.send(get("/1") + &get("/2")).end();
    assert_eq!(client.reply().unwrap().text(), "GET /1 ");
    assert_eq!(client.reply().unwrap().text(), "GET /2 ");
    assert_eq!(client.reply(), None);
}

#[test]
fn a_panic_ends_one_connection_only() {
    let server = TestServer::start(ServerConfig::default(), || {
        App::new(async |request: Request| {
            assert_ne!(
                request.uri.path(),
                "/panic",
                "this panic is part of the test"
            );
            echo(request).await
        })
    });
    let mut other = server.connect();
    assert_eq!(other.send(get("/")).reply().unwrap().status, 200);
    let mut client = server.connect();
    assert_eq!(client.send(get("/panic")).reply(), None);
    server.wait_until(|statistics| statistics.panics() == 1);
    assert_eq!(server.statistics.in_flight_requests(), 0);
    assert_eq!(other.send(get("/")).reply().unwrap().status, 200);
}

/// How the length an application declares and the bytes it sends may differ.
#[test]
fn declared_lengths_are_kept_or_the_connection_ends() {
    fn declaring(value: &str, body: ResponseBody) -> Response {
        let mut response = Response::new(body);
        let value = HeaderValue::from_str(value).unwrap();
        response.headers_mut().append(CONTENT_LENGTH, value);
        response
    }
    fn stream(pieces: &[&'static str]) -> ResponseBody {
        let (mut sender, body) = ResponseBody::stream();
        for piece in pieces {
            sender
                .try_send(Bytes::from_static(piece.as_bytes()))
                .unwrap();
        }
        sender.finish();
        body
    }
    let server = TestServer::start(ServerConfig::default(), || {
        App::new(async |request: Request| {
            let full = || ResponseBody::full(Bytes::from_static(b"hello"));
            match request.uri.path() {
                "/exact" => declaring("5", full()),
                "/exact-stream" => declaring("5", stream(&["hel", "lo"])),
                "/long" => declaring("3", full()),
                "/long-stream" => declaring("3", stream(&["hel", "lo"])),
                "/long-zero" => declaring("0", full()),
                "/short" => declaring("9", full()),
                "/short-empty" => declaring("9", ResponseBody::empty()),
                "/short-stream" => declaring("9", stream(&["hello"])),
                "/twice" => {
                    let mut response = declaring("5", full());
                    response
                        .headers_mut()
                        .append(CONTENT_LENGTH, HeaderValue::from(5));
                    response
                }
                "/chunked" => {
                    let mut response = declaring("5", full());
                    let chunked = HeaderValue::from_static("chunked");
                    response.headers_mut().insert(TRANSFER_ENCODING, chunked);
                    response
                }
                _ => declaring("five", full()),
            }
        })
    });
    // What the client gets, and whether the connection goes on.
    let cases = [
        ("/exact", "5", "hello", true, 0),
        ("/exact-stream", "5", "hello", true, 0),
        ("/twice", "5", "hello", true, 0),
        ("/chunked", "5", "hello", true, 0),
        ("/long", "3", "hel", false, 1),
        ("/long-stream", "3", "hel", false, 1),
        ("/long-zero", "0", "", false, 1),
        ("/short", "9", "hello", false, 1),
        ("/short-empty", "9", "", false, 1),
        ("/short-stream", "9", "hello", false, 1),
        ("/nonsense", "5", "hello", false, 1),
    ];
    for (path, length, content, goes_on, mismatches) in cases {
        let before = server.statistics.length_mismatches();
        let mut client = server.connect();
        client.send(get(path));
        let head = String::from_utf8(client.read_until(b"\r\n\r\n")).unwrap();
        assert!(
            head.contains(&format!("Content-Length: {length}\r\n")),
            "{path}: {head}"
        );
        assert!(!head.contains("Transfer-Encoding"), "{path}: {head}");
        if goes_on {
            client.read_until(content.as_bytes());
            assert_eq!(
                client.send(get("/exact")).reply().unwrap().text(),
                "hello",
                "{path}"
            );
        } else {
            // A response that broke off may lose bytes that were not flushed yet, but
            // never gains any.
            let received = client.read_to_end();
            assert!(
                content.as_bytes().starts_with(&received),
                "{path}: {received:?}"
            );
        }
        let found = server.statistics.length_mismatches() - before;
        assert_eq!(found, mismatches, "{path}");
    }
}

#[test]
fn a_unix_socket_serves_too() {
    use std::os::unix::net::UnixStream;
    let path = std::env::temp_dir().join(format!("carboy-server-test-{}", std::process::id()));
    let listener = carboy_server::Listener::bind_unix(&path, 16).unwrap();
    let (trigger, shutdown) = carboy_server::Shutdown::pair();
    let server = std::thread::spawn(move || {
        support::runtime().block_on(async move {
            let peers = Cell::new(0);
            let server = carboy_server::Server::new(
                App::new(move |request: Request| {
                    peers.set(peers.get() + 1);
                    let peer = request.connection.peer.to_string();
                    async move { text(200, &peer) }
                }),
                ServerConfig::default(),
            );
            server.serve(vec![listener], shutdown).await.unwrap()
        })
    });
    let mut client = Client::new(UnixStream::connect(&path).unwrap());
    assert_eq!(client.send(get("/")).reply().unwrap().text(), "unix:");
    drop(client);
    trigger.begin();
    assert_eq!(server.join().unwrap().forced, 0);
    // The file is left behind and can be bound again; a live one can't.
    let again = carboy_server::Listener::bind_unix(&path, 16).unwrap();
    assert!(carboy_server::Listener::bind_unix(&path, 16).is_err());
    drop(again);
    std::fs::remove_file(&path).unwrap();
}
