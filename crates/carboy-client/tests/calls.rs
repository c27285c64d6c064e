//! What a call does besides its exchange: redirects, authentication, cookies, retries, uploads,
//! proxies.

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use carboy_client::{
    Authentication, Client, ClientSettings, CookieJar, ErrorKind, Proxy, Request, RequestBody, Way,
};
use http::{HeaderValue, Method, header};
use support::{Upstream, client, fetch, get, ok, post, read_request, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Answers each request with what the function makes of it.
async fn answering(answer: impl Fn(&str, usize) -> String + Clone + 'static) -> Upstream {
    Upstream::start(move |mut stream, number| {
        let answer = answer.clone();
        async move {
            while let Some(request) = read_request(&mut stream).await {
                let answer = answer(&request, number);
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

fn echo(request: &str, _: usize) -> String {
    ok(request)
}

#[test]
fn the_request_on_the_wire() {
    run(async {
        let upstream = answering(echo).await;
        let (_, head) = fetch(&client(), get(upstream.url("/a%20b?c=d#e")))
            .await
            .unwrap();
        let expected = format!(
            "GET /a%20b?c=d HTTP/1.1\r\nHost: {}\r\nUser-Agent: carboy/0.1.0\r\nAccept: */*\r\n\
             Accept-Encoding: gzip, deflate, br, zstd\r\n\r\n",
            upstream.address
        );
        assert_eq!(head, expected);
        let (_, request) = fetch(&client(), post(upstream.url("/"), "content"))
            .await
            .unwrap();
        assert!(request.contains("\r\nContent-Length: 7\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\ncontent"));
    });
}

#[test]
fn redirects_take_along_what_they_should() {
    run(async {
        let other = answering(echo).await;
        let elsewhere = other.url("/end").to_string();
        let upstream = answering(move |request, _| {
            let (status, location) = match request.split(' ').nth(1) {
                Some("/near") => ("302 Found", "/same"),
                Some("/far") => ("307 Temporary Redirect", elsewhere.as_str()),
                _ => return ok(request),
            };
            format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
        })
        .await;
        let client = client();
        let with_secrets = |path: &str| {
            let mut request = post(upstream.url(path), "content");
            let headers = Arc::make_mut(&mut request.headers);
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            headers.insert(header::COOKIE, HeaderValue::from_static("a=b"));
            request.authentication = Authentication::bearer("secret").map(Arc::new);
            request
        };
        let (response, near) = fetch(&client, with_secrets("/near")).await.unwrap();
        assert!(near.starts_with("GET /same "), "{near}");
        assert!(near.contains("Authorization: Bearer secret") && near.contains("Cookie: a=b"));
        assert!(!near.contains("Content-"), "{near}");
        assert_eq!(response.history.len(), 1);
        assert_eq!(response.head.url.path(), "/same");
        let (_, far) = fetch(&client, with_secrets("/far")).await.unwrap();
        assert!(
            far.starts_with("POST /end ") && far.ends_with("content"),
            "{far}"
        );
        assert!(!far.contains("secret") && !far.contains("Cookie"), "{far}");
        let mut request = with_secrets("/near");
        request.redirects = None;
        let (response, _) = fetch(&client, request).await.unwrap();
        assert_eq!(response.head.status, 302);
    });
}

#[test]
fn digest_answers_the_challenge_and_basic_comes_from_the_url() {
    run(async {
        let upstream = answering(|request, _| {
            if request.contains("Authorization: Digest username=\"user\"") {
                ok(request)
            } else {
                "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\
                 WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\n\r\n"
                    .to_owned()
            }
        })
        .await;
        let client = client();
        let mut request = get(upstream.url("/x"));
        let digest = Arc::new(Authentication::digest("user", "password"));
        request.authentication = Some(Arc::clone(&digest));
        let (_, answer) = fetch(&client, request).await.unwrap();
        assert!(answer.contains("nc=00000001"), "{answer}");
        // The second time nothing has to be asked.
        let mut request = get(upstream.url("/x"));
        request.authentication = Some(digest);
        let (_, answer) = fetch(&client, request).await.unwrap();
        assert!(answer.contains("nc=00000002"), "{answer}");
        let upstream = answering(echo).await;
        let mut url = upstream.url("/");
        url.set_username("us er").unwrap();
        url.set_password(Some("p@ss")).unwrap();
        let (response, head) = fetch(&client, get(url)).await.unwrap();
        assert!(
            head.contains("Authorization: Basic dXMgZXI6cEBzcw=="),
            "{head}"
        );
        assert_eq!(response.head.url, upstream.url("/"));
    });
}

#[test]
fn a_server_that_asks_anew_for_ever_is_answered_once() {
    run(async {
        let asked = Rc::new(Cell::new(0));
        let counter = Rc::clone(&asked);
        let upstream = answering(move |request, _| {
            let number = counter.replace(counter.get() + 1);
            let stale = if request.starts_with("GET /stale") {
                ", stale=true"
            } else {
                ""
            };
            format!(
                "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\
                 WWW-Authenticate: Digest realm=\"r\", nonce=\"{number}\", qop=\"auth\"{stale}\
                 \r\n\r\n"
            )
        })
        .await;
        let client = client();
        for (path, requests) in [("/", 2), ("/stale", 3)] {
            let mut request = get(upstream.url(path));
            request.authentication = Some(Arc::new(Authentication::digest("user", "wrong")));
            let (response, _) = fetch(&client, request).await.unwrap();
            assert_eq!(response.head.status, 401);
            assert_eq!(asked.take(), requests, "{path}");
        }
        assert_eq!(upstream.connections(), 1);
    });
}

#[test]
fn calls_at_the_same_time_may_be_asked_the_same() {
    run(async {
        let waiting = Rc::new(tokio::sync::Barrier::new(4));
        let upstream = Upstream::start(move |mut stream, _| {
            let waiting = Rc::clone(&waiting);
            async move {
                while let Some(request) = read_request(&mut stream).await {
                    let answer = if request.contains("Authorization: Digest") {
                        ok("in")
                    } else {
                        waiting.wait().await;
                        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\
                         WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\n\r\n"
                            .to_owned()
                    };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        })
        .await;
        let client = client();
        let digest = Arc::new(Authentication::digest("user", "password"));
        let call = || {
            let mut request = get(upstream.url("/"));
            request.authentication = Some(Arc::clone(&digest));
            fetch(&client, request)
        };
        let (a, b, c, d) = tokio::join!(call(), call(), call(), call());
        for answer in [a, b, c, d] {
            assert_eq!(answer.unwrap().0.head.status, 200);
        }
    });
}

#[test]
fn cookies_come_back() {
    run(async {
        let upstream = answering(|request, _| {
            let content = ok(request);
            content.replacen("\r\n", "\r\nSet-Cookie: session=1; Path=/\r\n", 1)
        })
        .await;
        let jar = Arc::new(CookieJar::default());
        let client = client();
        let with_jar = || {
            let mut request = get(upstream.url("/"));
            request.cookies = Some(Arc::clone(&jar));
            request
        };
        let (_, first) = fetch(&client, with_jar()).await.unwrap();
        assert!(!first.contains("Cookie"));
        let (_, second) = fetch(&client, with_jar()).await.unwrap();
        assert!(second.contains("\r\nCookie: session=1\r\n"), "{second}");
    });
}

#[test]
fn retries_are_for_what_may_be_repeated() {
    run(async {
        let count = Rc::new(Cell::new(0));
        let counter = Rc::clone(&count);
        let upstream = answering(move |_, _| {
            counter.set(counter.get() + 1);
            if counter.get() % 3 == 0 {
                ok("at last")
            } else {
                "HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n".to_owned()
            }
        })
        .await;
        let client = client();
        let (response, _) = fetch(&client, get(upstream.url("/"))).await.unwrap();
        assert_eq!(
            response.head.status, 503,
            "nothing is retried unless asked for"
        );
        count.set(0);
        let mut request = get(upstream.url("/"));
        Arc::make_mut(&mut request.retries).attempts = 2;
        let (_, content) = fetch(&client, request).await.unwrap();
        assert_eq!((content.as_str(), count.get()), ("at last", 3));
        count.set(0);
        let mut request = post(upstream.url("/"), "order");
        Arc::make_mut(&mut request.retries).attempts = 2;
        let (response, _) = fetch(&client, request).await.unwrap();
        assert_eq!((response.head.status.as_u16(), count.get()), (503, 1));
    });
}

#[test]
fn uploads_are_streamed_and_half_ones_never_look_whole() {
    run(async {
        let upstream = Upstream::start(async |mut stream, _| {
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"0\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => bytes.push(byte),
                    Err(_) => return,
                }
            }
            let text = String::from_utf8(bytes).unwrap();
            stream.write_all(ok(&text).as_bytes()).await.ok();
        })
        .await;
        let client = client();
        let streamed = || {
            let (sender, body) = RequestBody::stream(None);
            let request = Request {
                body,
                ..post(upstream.url("/"), "")
            };
            (sender, request)
        };
        let (sender, request) = streamed();
        let pump = async {
            for piece in ["one", "three"] {
                sender.send(piece.into()).await.unwrap();
            }
            sender.finish().await.unwrap();
        };
        let ((), answer) = tokio::join!(pump, fetch(&client, request));
        let (_, echoed) = answer.unwrap();
        assert!(echoed.contains("Transfer-Encoding: chunked"), "{echoed}");
        assert!(
            echoed.ends_with("3\r\none\r\n5\r\nthree\r\n0\r\n\r\n"),
            "{echoed}"
        );
        for breaks_off in [false, true] {
            let (sender, request) = streamed();
            let pump = async {
                sender.send("half".into()).await.unwrap();
                if breaks_off {
                    drop(sender);
                } else {
                    sender.fail("no such file".into()).await.unwrap();
                }
            };
            let ((), answer) = tokio::join!(pump, fetch(&client, request));
            let error = answer.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::BodySource, "{error}");
        }
        assert_eq!(client.statistics().idle, 0);
    });
}

#[test]
fn a_slow_source_is_not_a_slow_server() {
    run(async {
        let upstream = answering(echo).await;
        let (sender, body) = RequestBody::stream(Some(2));
        let request = Request {
            body,
            ..post(upstream.url("/"), "")
        };
        let pump = async {
            sender.send("a".into()).await.unwrap();
            // Longer than the timeouts for reading and writing.
            tokio::time::sleep(Duration::from_millis(700)).await;
            sender.send("b".into()).await.unwrap();
            sender.finish().await.unwrap();
        };
        let client = client();
        let ((), answer) = tokio::join!(pump, fetch(&client, request));
        assert!(answer.unwrap().1.ends_with("ab"));
    });
}

/// Passes bytes on between two streams until either ends.
async fn pump(mut client: TcpStream, address: std::net::SocketAddr) {
    let mut server = TcpStream::connect(address).await.expect("it listens");
    tokio::io::copy_bidirectional(&mut client, &mut server)
        .await
        .ok();
}

fn through(proxy: &str, mut request: Request) -> Request {
    request.way = Way::Proxy(Arc::new(Proxy::parse(proxy).expect("a proxy")));
    request
}

#[test]
fn proxies_forward_plain_requests() {
    run(async {
        let proxy = answering(echo).await;
        let url = format!("http://user:secret@{}", proxy.address);
        let request = get(url::Url::parse("http://example.invalid/x?y").unwrap());
        let (_, head) = fetch(&client(), through(&url, request)).await.unwrap();
        assert!(
            head.starts_with("GET http://example.invalid/x?y HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(head.contains("Host: example.invalid\r\n"), "{head}");
        assert!(
            head.contains("Proxy-Authorization: Basic dXNlcjpzZWNyZXQ="),
            "{head}"
        );
    });
}

#[test]
fn a_proxy_may_refuse_a_tunnel() {
    run(async {
        let proxy = answering(|request, _| {
            assert!(request.starts_with("CONNECT example.invalid:443 HTTP/1.1\r\n"));
            "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".to_owned()
        })
        .await;
        let request = get(url::Url::parse("https://example.invalid/").unwrap());
        let request = through(&format!("http://{}", proxy.address), request);
        let error = fetch(&client(), request).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Proxy);
        assert!(error.message().contains("403 No"), "{error}");
    });
}

#[test]
fn socks_proxies_connect_by_name() {
    run(async {
        let upstream = answering(echo).await;
        let address = upstream.address;
        let proxy = Upstream::start(move |mut stream, _| async move {
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting).await.unwrap();
            assert_eq!(greeting, [5, 2, 0, 2]);
            stream.write_all(&[5, 2]).await.unwrap();
            let mut password = [0; 1 + 1 + 4 + 1 + 6];
            stream.read_exact(&mut password).await.unwrap();
            assert_eq!(&password, b"\x01\x04user\x06secret");
            stream.write_all(&[1, 0]).await.unwrap();
            let mut target = [0; 5 + 15 + 2];
            stream.read_exact(&mut target).await.unwrap();
            assert_eq!(&target[5..20], b"example.invalid");
            stream
                .write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
                .await
                .unwrap();
            pump(stream, address).await;
        })
        .await;
        let request = get(url::Url::parse("http://example.invalid:81/x").unwrap());
        let request = through(&format!("socks5h://user:secret@{}", proxy.address), request);
        let (_, head) = fetch(&client(), request).await.unwrap();
        assert!(
            head.starts_with("GET /x HTTP/1.1\r\nHost: example.invalid:81\r\n"),
            "{head}"
        );
    });
}

#[test]
fn answers_to_head_and_without_content() {
    run(async {
        let upstream = answering(|request, _| {
            if request.starts_with("HEAD") {
                "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nContent-Encoding: gzip\r\n\r\n".into()
            } else {
                "HTTP/1.1 204 No Content\r\n\r\n".into()
            }
        })
        .await;
        let client = Client::new(Arc::new(ClientSettings::default()));
        for method in [Method::HEAD, Method::DELETE, Method::HEAD] {
            let request = Request {
                method,
                ..get(upstream.url("/"))
            };
            let (_, content) = fetch(&client, request).await.unwrap();
            assert_eq!(content, "");
        }
        assert_eq!(upstream.connections(), 1);
    });
}
