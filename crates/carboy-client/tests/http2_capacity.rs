//! HTTP/2 with servers that allow fewer requests at a time than there are, or that refuse some.

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use carboy_client::{Client, Error, ErrorKind, PoolLimits, Request, RequestBody};
use http::Method;
use support::http2::{
    GOAWAY, Gated, HEADERS, OK, REFUSED_STREAM, RST_STREAM, WHOLE, allow_streams, http2_client,
    read_head, read_preface, write_frame,
};
use support::{Upstream, fetch, run, untimed, wait_for};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet, spawn_local};
use url::Url;

fn limited(connections: usize, per_host: usize) -> Client {
    http2_client(PoolLimits {
        connections,
        connections_per_host: per_host,
        ..PoolLimits::default()
    })
}

fn get(url: Url) -> Request {
    Request {
        timeouts: untimed(),
        ..Request::new(Method::GET, url)
    }
}

fn post(url: Url, content: &'static str) -> Request {
    Request {
        body: RequestBody::Full(content.into()),
        timeouts: untimed(),
        ..Request::new(Method::POST, url)
    }
}

/// A call that waits for an answer as long as the test takes.
fn patient(server: &Gated, path: &str) -> Request {
    get(server.upstream.url(path))
}

/// Begins so many calls that are answered when the gate is opened.
fn begin(client: &Client, server: &Gated, calls: usize) -> JoinSet<()> {
    let mut begun = JoinSet::new();
    for _ in 0..calls {
        let (client, request) = (client.clone(), patient(server, "/"));
        begun.spawn_local(async move {
            fetch(&client, request).await.expect("it is answered");
        });
    }
    begun
}

/// The error of a call that fails.
async fn failure(client: &Client, request: Request) -> Error {
    match fetch(client, request).await {
        Ok((response, _)) => panic!("it is answered: {}", response.head.status),
        Err(error) => error,
    }
}

async fn reach(server: &Gated, waiting: usize) {
    while server.waiting.get() != waiting {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn end(server: &Gated, mut calls: JoinSet<()>) {
    server.gate.add_permits(calls.len());
    while let Some(ended) = calls.join_next().await {
        ended.expect("no call has failed");
    }
}

#[test]
fn what_exceeds_the_streams_of_a_connection_gets_another() {
    run(async {
        let server = Gated::start(2).await;
        let client = limited(10, 10);
        let calls = begin(&client, &server, 5);
        reach(&server, 5).await;
        assert_eq!(server.upstream.connections(), 3);
        assert_eq!(server.paths.borrow().len(), 5, "none was sent twice");
        end(&server, calls).await;
        wait_for(&client, |pool| pool.idle == 3).await;
        // What is open is used first.
        let calls = begin(&client, &server, 6);
        reach(&server, 6).await;
        assert_eq!(server.upstream.connections(), 3);
        end(&server, calls).await;
    });
}

#[test]
fn without_a_stream_the_wait_is_that_for_the_pool() {
    run(async {
        let server = Gated::start(2).await;
        let client = limited(10, 1);
        let calls = begin(&client, &server, 2);
        reach(&server, 2).await;
        let mut request = patient(&server, "/");
        request.timeouts.pool = Some(Duration::from_millis(50));
        let error = failure(&client, request).await;
        assert_eq!(error.kind(), ErrorKind::PoolTimeout);
        let authority = server.upstream.address.to_string();
        for part in [
            &authority,
            "HTTP/2",
            "0.05 s",
            "2 calls at a time",
            "1 per host",
        ] {
            assert!(error.message().contains(part), "{part}: {error}");
        }
        let mut request = patient(&server, "/");
        request.timeouts.total = Some(Duration::from_millis(50));
        let error = failure(&client, request).await;
        assert_eq!(error.kind(), ErrorKind::TotalTimeout);
        wait_for(&client, |pool| pool.waiting == 0).await;
        end(&server, calls).await;
        assert_eq!(server.paths.borrow().len(), 2, "the others were not sent");
    });
}

#[test]
fn who_waits_for_a_stream_and_goes_leaves_nothing() {
    run(async {
        let server = Gated::start(1).await;
        let client = limited(10, 1);
        let first = begin(&client, &server, 1);
        reach(&server, 1).await;
        let waiting: Vec<JoinHandle<_>> = (0..20)
            .map(|_| {
                let (client, request) = (client.clone(), patient(&server, "/gone"));
                spawn_local(async move { fetch(&client, request).await.map(drop) })
            })
            .collect();
        wait_for(&client, |pool| pool.waiting == 20).await;
        for call in waiting {
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
        }
        assert_eq!(client.statistics().waiting, 0);
        end(&server, first).await;
        wait_for(&client, |pool| pool.idle == 1).await;
        let next = begin(&client, &server, 1);
        end(&server, next).await;
        assert!(!server.paths.borrow().contains(&"/gone".to_owned()));
    });
}

#[test]
fn streams_are_given_out_in_order() {
    run(async {
        let server = Gated::start(2).await;
        let client = limited(10, 1);
        let mut calls = JoinSet::new();
        for number in 0..20 {
            let (client, request) = (client.clone(), patient(&server, &format!("/{number}")));
            calls.spawn_local(async move { drop(fetch(&client, request).await.unwrap()) });
        }
        wait_for(&client, |pool| pool.waiting == 18).await;
        for released in 1..=20 {
            server.gate.add_permits(1);
            let most = (released + 2).min(20);
            while server.paths.borrow().len() != most {
                tokio::task::yield_now().await;
            }
        }
        end(&server, calls).await;
        let expected: Vec<_> = (0..20).map(|number| format!("/{number}")).collect();
        assert_eq!(*server.paths.borrow(), expected);
    });
}

#[test]
fn an_unused_connection_makes_room_for_another_host() {
    run(async {
        let servers = [Gated::start(10).await, Gated::start(10).await];
        let client = limited(1, 1);
        for server in servers.iter().chain(&servers) {
            let calls = begin(&client, server, 1);
            end(server, calls).await;
        }
        assert_eq!(client.statistics().connections, 1);
    });
}

/// Serves each connection by hand, after the beginning.
async fn by_hand<F>(handle: impl Fn(TcpStream, usize) -> F + 'static) -> Upstream
where
    F: Future<Output = ()> + 'static,
{
    let handle = Rc::new(handle);
    Upstream::start(move |mut stream, number| {
        let handle = Rc::clone(&handle);
        async move {
            read_preface(&mut stream).await;
            handle(stream, number).await;
        }
    })
    .await
}

#[test]
fn a_server_that_allows_more_later_is_heard() {
    run(async {
        let upstream = by_hand(|mut stream, _| async move {
            allow_streams(&mut stream, 1).await;
            let first = read_head(&mut stream).await.unwrap();
            allow_streams(&mut stream, 3).await;
            // The first answer comes when the others are here, which need more streams.
            let others = [
                read_head(&mut stream).await.unwrap(),
                read_head(&mut stream).await.unwrap(),
            ];
            for id in [others[0], first, others[1]] {
                write_frame(&mut stream, HEADERS, WHOLE, id, OK).await;
            }
            read_head(&mut stream).await;
        })
        .await;
        let client = limited(1, 1);
        let mut calls = JoinSet::new();
        for _ in 0..3 {
            let (client, request) = (client.clone(), get(upstream.url("/")));
            calls.spawn_local(async move { drop(fetch(&client, request).await.unwrap()) });
        }
        while let Some(ended) = calls.join_next().await {
            ended.unwrap();
        }
    });
}

#[test]
fn what_the_server_refuses_unseen_is_sent_again() {
    run(async {
        let upstream = by_hand(|mut stream, _| async move {
            allow_streams(&mut stream, 10).await;
            let mut refused = false;
            while let Some(id) = read_head(&mut stream).await {
                if std::mem::replace(&mut refused, true) {
                    write_frame(&mut stream, HEADERS, WHOLE, id, OK).await;
                } else {
                    write_frame(&mut stream, RST_STREAM, 0, id, REFUSED_STREAM).await;
                }
            }
        })
        .await;
        let client = limited(10, 10);
        let (response, _) = fetch(&client, post(upstream.url("/"), "content"))
            .await
            .unwrap();
        assert_eq!(response.head.status, 200);
        assert_eq!(upstream.connections(), 1);
    });
}

#[test]
fn what_came_after_the_last_request_of_a_connection_is_sent_on_another() {
    run(async {
        let upstream = by_hand(|mut stream, number| async move {
            allow_streams(&mut stream, 10).await;
            while let Some(id) = read_head(&mut stream).await {
                if number == 0 && id > 1 {
                    // The last stream that is served is the first one; NO_ERROR.
                    write_frame(&mut stream, GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).await;
                } else {
                    write_frame(&mut stream, HEADERS, WHOLE, id, OK).await;
                }
            }
        })
        .await;
        let client = limited(10, 10);
        for _ in 0..2 {
            let (response, _) = fetch(&client, post(upstream.url("/"), "content"))
                .await
                .unwrap();
            assert_eq!(response.head.status, 200);
        }
        assert_eq!(upstream.connections(), 2);
    });
}

#[test]
fn a_server_that_refuses_everything_is_not_asked_for_ever() {
    run(async {
        let requests = Rc::new(Cell::new(0));
        let counter = Rc::clone(&requests);
        let upstream = by_hand(move |mut stream, _| {
            let counter = Rc::clone(&counter);
            async move {
                allow_streams(&mut stream, 10).await;
                while let Some(id) = read_head(&mut stream).await {
                    counter.set(counter.get() + 1);
                    write_frame(&mut stream, RST_STREAM, 0, id, REFUSED_STREAM).await;
                }
            }
        })
        .await;
        let client = limited(10, 10);
        let error = failure(&client, post(upstream.url("/"), "content")).await;
        assert_eq!(error.kind(), ErrorKind::RemoteProtocol);
        assert!(error.message().contains("REFUSED_STREAM"), "{error}");
        assert!(error.message().contains("4 times in a row"), "{error}");
        assert_eq!(requests.get(), 4);
        wait_for(&client, |pool| pool.idle == pool.connections).await;
    });
}

#[test]
fn a_server_that_allows_no_request_at_all_is_told_of() {
    run(async {
        let upstream = by_hand(|mut stream, _| async move {
            allow_streams(&mut stream, 0).await;
            while let Some(id) = read_head(&mut stream).await {
                write_frame(&mut stream, RST_STREAM, 0, id, REFUSED_STREAM).await;
            }
        })
        .await;
        let client = limited(10, 10);
        let error = failure(&client, get(upstream.url("/"))).await;
        assert_eq!(error.kind(), ErrorKind::RemoteProtocol);
        assert!(upstream.connections() <= 4);
        wait_for(&client, |pool| pool.connections == 0).await;
    });
}

#[test]
fn a_stream_that_was_begun_is_not_sent_again() {
    run(async {
        let upstream = by_hand(|mut stream, _| async move {
            allow_streams(&mut stream, 10).await;
            while let Some(id) = read_head(&mut stream).await {
                write_frame(&mut stream, RST_STREAM, 0, id, REFUSED_STREAM).await;
            }
        })
        .await;
        let client = limited(10, 10);
        let (sender, body) = RequestBody::stream(None);
        sender.send("piece".into()).await.unwrap();
        let request = Request {
            body,
            ..post(upstream.url("/"), "")
        };
        let error = failure(&client, request).await;
        assert_eq!(error.kind(), ErrorKind::RemoteProtocol, "{error}");
        assert!(error.message().contains("can't be sent again"), "{error}");
        assert_eq!(upstream.connections(), 1);
    });
}
