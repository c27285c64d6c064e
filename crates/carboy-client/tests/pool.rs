//! Connections: kept, shared out in order, bounded, given back.

mod support;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use carboy_client::{Client, ClientSettings, ErrorKind, PoolLimits};
use support::{Upstream, client, fetch, get, ok, read_request, run, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

fn limited(connections: usize, per_host: usize) -> Client {
    Client::new(Arc::new(ClientSettings {
        pool: PoolLimits {
            connections,
            connections_per_host: per_host,
            idle_timeout: Duration::from_millis(200),
            ..PoolLimits::default()
        },
        ..ClientSettings::default()
    }))
}

/// Answers when a permit is there.
async fn gated() -> (Upstream, Rc<Semaphore>) {
    let gate = Rc::new(Semaphore::new(0));
    let shared = Rc::clone(&gate);
    let upstream = Upstream::start(move |mut stream, _| {
        let gate = Rc::clone(&shared);
        async move {
            while read_request(&mut stream).await.is_some() {
                gate.acquire().await.expect("the gate stays open").forget();
                if stream.write_all(ok("done").as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (upstream, gate)
}

#[test]
fn a_connection_is_kept_and_closed_when_idle() {
    run(async {
        let upstream = Upstream::always(ok("x")).await;
        let client = limited(10, 10);
        for number in 0..5 {
            let (response, _) = fetch(&client, get(upstream.url("/"))).await.unwrap();
            assert_eq!(response.body.timings().is_reused, number > 0);
        }
        assert_eq!(upstream.connections(), 1);
        assert_eq!(client.statistics().idle, 1);
        wait_for(&client, |pool| pool.connections == 0).await;
    });
}

#[test]
fn a_connection_is_used_no_longer_than_its_server_keeps_it() {
    run(async {
        for (keep_alive, connections) in [("timeout=0", 3), ("timeout=600, max=5", 1)] {
            let head = format!("HTTP/1.1 200 OK\r\nKeep-Alive: {keep_alive}\r\n");
            let upstream = Upstream::always(head + "Content-Length: 1\r\n\r\nx").await;
            let client = client();
            for _ in 0..3 {
                fetch(&client, get(upstream.url("/"))).await.unwrap();
            }
            assert_eq!(upstream.connections(), connections, "{keep_alive}");
            assert_eq!(client.statistics().connections, 1);
        }
    });
}

#[test]
fn no_more_idle_connections_are_kept_than_allowed() {
    run(async {
        let (upstream, gate) = gated().await;
        let client = Client::new(Arc::new(ClientSettings {
            pool: PoolLimits {
                idle_connections: 2,
                ..PoolLimits::default()
            },
            ..ClientSettings::default()
        }));
        let call = || fetch(&client, get(upstream.url("/")));
        let release = async {
            wait_for(&client, |pool| pool.connections == 4).await;
            gate.add_permits(4);
        };
        let (first, second, third, fourth, ()) =
            tokio::join!(call(), call(), call(), call(), release);
        assert!([first, second, third, fourth].iter().all(Result::is_ok));
        wait_for(&client, |pool| pool.connections == 2 && pool.idle == 2).await;
        // What is kept is used.
        gate.add_permits(1);
        fetch(&client, get(upstream.url("/"))).await.unwrap();
        assert_eq!(upstream.connections(), 4);
    });
}

#[test]
fn requests_wait_in_order_and_none_overtakes() {
    run(async {
        let (upstream, gate) = gated().await;
        let client = limited(10, 1);
        let ended = Rc::new(RefCell::new(Vec::new()));
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..10 {
            let (client, ended) = (client.clone(), Rc::clone(&ended));
            let mut request = get(upstream.url("/"));
            request.timeouts.pool = None;
            calls.spawn_local(async move {
                fetch(&client, request).await.unwrap();
                ended.borrow_mut().push(number);
            });
        }
        wait_for(&client, |pool| pool.waiting == 9).await;
        assert_eq!(client.statistics().connections, 1);
        gate.add_permits(10);
        while calls.join_next().await.is_some() {}
        assert_eq!(*ended.borrow(), (0..10).collect::<Vec<_>>());
        assert_eq!(upstream.connections(), 1);
    });
}

#[test]
fn a_full_pool_says_so_in_time() {
    run(async {
        let (upstream, gate) = gated().await;
        let client = limited(1, 1);
        let first = tokio::task::spawn_local({
            let (client, mut request) = (client.clone(), get(upstream.url("/")));
            request.timeouts.read = None;
            async move { fetch(&client, request).await }
        });
        wait_for(&client, |pool| pool.connections == 1).await;
        let error = fetch(&client, get(upstream.url("/"))).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::PoolTimeout);
        gate.add_permits(1);
        first.await.unwrap().unwrap();
        assert_eq!(client.statistics().waiting, 0);
    });
}

#[test]
fn an_idle_connection_makes_room_for_another_host() {
    run(async {
        let (one, other) = (
            Upstream::always(ok("1")).await,
            Upstream::always(ok("2")).await,
        );
        let client = limited(1, 1);
        for upstream in [&one, &other, &one] {
            fetch(&client, get(upstream.url("/"))).await.unwrap();
            assert_eq!(client.statistics().connections, 1);
        }
    });
}

#[test]
fn cancelled_calls_close_their_sockets_and_leave_nothing() {
    run(async {
        let closed = Rc::new(Semaphore::new(0));
        let signal = Rc::clone(&closed);
        let upstream = Upstream::start(move |mut stream, _| {
            let closed = Rc::clone(&signal);
            async move {
                read_request(&mut stream).await;
                // Until the client closes.
                stream.read_u8().await.ok();
                closed.add_permits(1);
            }
        })
        .await;
        let client = limited(3, 3);
        let calls: Vec<_> = (0..10)
            .map(|_| {
                let (client, request) = (client.clone(), get(upstream.url("/")));
                tokio::task::spawn_local(async move { fetch(&client, request).await.map(drop) })
            })
            .collect();
        wait_for(&client, |pool| pool.connections == 3 && pool.waiting == 7).await;
        for call in calls.iter().rev() {
            call.abort();
        }
        wait_for(&client, |pool| pool.connections == 0 && pool.waiting == 0).await;
        closed.acquire_many(3).await.unwrap().forget();
    });
}

#[test]
fn content_that_nobody_reads_is_read_or_broken_off() {
    run(async {
        let upstream = Upstream::always(ok("short")).await;
        let client = limited(3, 3);
        let response = client.send(get(upstream.url("/"))).await.unwrap();
        response.body.discard().await;
        assert_eq!(client.statistics().idle, 1);
        let endless = Upstream::start(async |mut stream, _| {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        })
        .await;
        let response = client.send(get(endless.url("/"))).await.unwrap();
        response.body.discard().await;
        wait_for(&client, |pool| pool.connections == 1).await;
        let response = client.send(get(endless.url("/"))).await.unwrap();
        drop(response);
        wait_for(&client, |pool| pool.connections == 1).await;
    });
}

#[test]
fn a_closed_client_closes_its_connections() {
    run(async {
        let upstream = Upstream::always(ok("x")).await;
        let client = client();
        fetch(&client, get(upstream.url("/"))).await.unwrap();
        client.close();
        wait_for(&client, |pool| pool.connections == 0).await;
        let error = fetch(&client, get(upstream.url("/"))).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Closed);
    });
}

#[test]
fn an_abandoned_response_gives_its_connection_back_if_that_is_quick() {
    run(async {
        let client = limited(9, 9);
        let upstream = Upstream::start(async |mut stream, _| {
            read_request(&mut stream).await;
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n";
            stream.write_all(head).await.unwrap();
            stream.write_all(&vec![b'x'; 20_000]).await.unwrap();
            stream.read_u8().await.ok();
        })
        .await;
        let response = client.send(get(upstream.url("/"))).await.unwrap();
        response.body.abandon().await;
        assert_eq!(client.statistics().idle, 1);
    });
}

#[test]
fn an_abandoned_response_that_is_long_or_slow_is_broken_off() {
    run(async {
        for length in [100, 70_000] {
            let client = limited(9, 9);
            let closed = Rc::new(Semaphore::new(0));
            let signal = Rc::clone(&closed);
            let upstream = Upstream::start(move |mut stream, _| {
                let closed = Rc::clone(&signal);
                async move {
                    read_request(&mut stream).await;
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                    stream.write_all(head.as_bytes()).await.unwrap();
                    // What is announced never comes.
                    stream.read_u8().await.ok();
                    closed.add_permits(1);
                }
            })
            .await;
            let response = client.send(get(upstream.url("/"))).await.unwrap();
            response.body.abandon().await;
            wait_for(&client, |pool| pool.connections == 0).await;
            closed.acquire().await.unwrap().forget();
        }
    });
}

/// A future that is polled once, and is left alone after that.
async fn poll_once<T>(future: &mut Pin<Box<dyn Future<Output = T>>>) -> Poll<T> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

#[test]
fn what_is_handed_to_a_waiter_that_has_gone_is_handed_on() {
    run(async {
        let (upstream, gate) = gated().await;
        let client = limited(1, 1);
        let call = || {
            let (client, mut request) = (client.clone(), get(upstream.url("/")));
            request.timeouts.pool = None;
            request.timeouts.read = None;
            Box::pin(async move { fetch(&client, request).await.map(drop) })
        };
        for _ in 0..20 {
            let first = tokio::task::spawn_local(call());
            wait_for(&client, |pool| pool.connections == 1 && pool.idle == 0).await;
            let mut second: Pin<Box<dyn Future<Output = _>>> = call();
            assert!(poll_once(&mut second).await.is_pending());
            let third = tokio::task::spawn_local(call());
            wait_for(&client, |pool| pool.waiting == 2).await;
            gate.add_permits(1);
            first.await.unwrap().unwrap();
            // The connection was handed to the second one, which never looks.
            assert_eq!(client.statistics().waiting, 1);
            drop(second);
            gate.add_permits(1);
            third.await.unwrap().unwrap();
            wait_for(&client, |pool| {
                pool.connections == pool.idle && pool.waiting == 0
            })
            .await;
        }
    });
}

#[test]
fn waiters_that_go_leave_the_order_of_the_others_as_it_was() {
    run(async {
        let (upstream, gate) = gated().await;
        let client = limited(4, 2);
        let ended = Rc::new(RefCell::new(Vec::new()));
        let calls: Vec<_> = (0..20)
            .map(|number| {
                let (client, ended) = (client.clone(), Rc::clone(&ended));
                let mut request = get(upstream.url("/"));
                request.timeouts.read = None;
                // Each fourth one loses patience.
                request.timeouts.pool = (number % 4 == 3).then_some(Duration::from_millis(50));
                tokio::task::spawn_local(async move {
                    let outcome = fetch(&client, request).await;
                    if outcome.is_ok() {
                        ended.borrow_mut().push(number);
                    }
                    outcome.map(drop).map_err(|error| error.kind())
                })
            })
            .collect();
        wait_for(&client, |pool| pool.connections == 2 && pool.waiting == 13).await;
        for number in (6..20).step_by(4) {
            calls[number].abort();
        }
        wait_for(&client, |pool| pool.waiting == 9).await;
        gate.add_permits(11);
        for (number, call) in calls.into_iter().enumerate() {
            match number {
                6.. if number % 4 == 2 => assert!(call.await.unwrap_err().is_cancelled()),
                _ if number % 4 == 3 => {
                    assert_eq!(call.await.unwrap(), Err(ErrorKind::PoolTimeout));
                }
                _ => assert_eq!(call.await.unwrap(), Ok(())),
            }
        }
        let served = ended.borrow().clone();
        assert!(served.is_sorted(), "{served:?}");
        assert_eq!(served.len(), 11);
        wait_for(&client, |pool| pool.connections == 2 && pool.idle == 2).await;
    });
}

#[test]
fn stuck_calls_hold_their_places_only_as_long_as_they_may() {
    run(async {
        let stuck = Upstream::start(async |mut stream, _| {
            read_request(&mut stream).await;
            stream.read_u8().await.ok();
        })
        .await;
        let client = limited(3, 3);
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..9 {
            let (client, mut request) = (client.clone(), get(stuck.url("/")));
            request.timeouts.pool = None;
            calls.spawn_local(async move { fetch(&client, request).await.map(drop) });
        }
        wait_for(&client, |pool| pool.connections == 3 && pool.waiting == 6).await;
        let (good, gate) = gated().await;
        let late = fetch(&client, get(good.url("/"))).await.err().unwrap();
        assert_eq!(late.kind(), ErrorKind::PoolTimeout);
        while let Some(outcome) = calls.join_next().await {
            assert_eq!(outcome.unwrap().unwrap_err().kind(), ErrorKind::ReadTimeout);
        }
        // All places are there again, and may be used at once.
        wait_for(&client, |pool| pool.connections == 0).await;
        let call = || fetch(&client, get(good.url("/")));
        let release = async {
            wait_for(&client, |pool| pool.connections == 3 && pool.waiting == 1).await;
            gate.add_permits(4);
        };
        let (a, b, c, d, ()) = tokio::join!(call(), call(), call(), call(), release);
        assert!([a, b, c, d].iter().all(Result::is_ok));
    });
}

#[test]
fn a_call_that_waits_for_a_connection_to_share_waits_as_long_as_connecting_may_take() {
    run(async {
        // Nobody knows yet whether this server speaks HTTP/2, so the second call waits for the
        // connection of the first.
        let silent =
            Upstream::start(
                async |mut stream, _| {
                    while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
                },
            )
            .await;
        let client = limited(10, 10);
        let call = |pool_millis, connect_millis| {
            let mut url = silent.url("/");
            url.set_scheme("https").unwrap();
            let mut request = get(url);
            request.timeouts.pool = Some(Duration::from_millis(pool_millis));
            request.timeouts.connect = Some(Duration::from_millis(connect_millis));
            let began = Instant::now();
            let sent = fetch(&client, request);
            async move {
                let error = sent.await.err().unwrap();
                assert_eq!(error.kind(), ErrorKind::ConnectTimeout, "{error}");
                began.elapsed()
            }
        };
        let (_, waited) = tokio::join!(call(100, 2000), call(100, 600));
        assert!(waited >= Duration::from_millis(600), "{waited:?}");
        assert!(waited < Duration::from_millis(1800), "{waited:?}");
        wait_for(&client, |pool| pool.connections == 0 && pool.waiting == 0).await;
    });
}
