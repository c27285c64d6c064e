//! Stopping without losing anything that was begun.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use carboy_server::{Request, Response, ResponseBody, ServerConfig, Timeouts};
use support::{App, Client, PATIENCE, TestServer, echo, text};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn config(drain: Duration, drain_linger: Duration) -> ServerConfig {
    let timeouts = Timeouts {
        drain,
        drain_linger,
        ..Timeouts::default()
    };
    ServerConfig {
        timeouts,
        ..ServerConfig::default()
    }
}

/// An application that answers once it is told to.
fn waiting() -> (TestServer, mpsc::Receiver<tokio::sync::oneshot::Sender<()>>) {
    waiting_with(config(PATIENCE, Duration::from_millis(50)))
}

fn waiting_with(
    config: ServerConfig,
) -> (TestServer, mpsc::Receiver<tokio::sync::oneshot::Sender<()>>) {
    let (begun, requests) = mpsc::channel();
    let server = TestServer::start(config, move || {
        App::new(move |_: Request| {
            let (release, released) = tokio::sync::oneshot::channel();
            begun.send(release).unwrap();
            async move {
                drop(released.await);
                text(200, "answered")
            }
        })
    });
    (server, requests)
}

/// What a keep-alive client has seen when its connection ended.
#[derive(Debug, Default)]
struct Seen {
    /// Requests that were sent and not answered, although the server had not said
    /// that it closes.
    lost: usize,
    answered: usize,
}

/// Sends requests over kept connections until nobody listens any more.
fn keep_asking(address: std::net::SocketAddr, warm: &mpsc::Sender<()>) -> Seen {
    let mut seen = Seen::default();
    loop {
        let Ok(socket) = TcpStream::connect(address) else {
            return seen;
        };
        let mut client = Client::new(socket);
        loop {
            if client.socket.write_all(REQUEST).is_err() {
                seen.lost += 1;
                break;
            }
            let Some(reply) = client.reply() else {
                seen.lost += 1;
                break;
            };
            seen.answered += 1;
            if seen.answered == 3 {
                let _ = warm.send(());
            }
            if reply.closes() {
                break;
            }
        }
    }
}

/// Starts a server, stops it under load and checks that nothing is missing.
fn stop_under_load() {
    const CLIENTS: usize = 4;
    let server = TestServer::start(config(PATIENCE, Duration::from_millis(200)), || {
        App::new(|request| async {
            // Leave the loop once, as a real application does.
            tokio::task::yield_now().await;
            echo(request).await
        })
    });
    let (warm, warmed) = mpsc::channel();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (address, warm) = (server.address, warm.clone());
            std::thread::spawn(move || keep_asking(address, &warm))
        })
        .collect();
    for _ in 0..CLIENTS {
        warmed.recv_timeout(PATIENCE).unwrap();
    }
    server.trigger.begin();
    let outcome = server.join();
    let mut answered = 0;
    for client in clients {
        let seen = client.join().unwrap();
        assert_eq!(seen.lost, 0, "{seen:?}");
        answered += seen.answered;
    }
    assert_eq!(outcome.forced, 0);
    assert_eq!(server.statistics.served_requests(), answered as u64);
    assert_eq!(server.statistics.open_connections(), 0);
}

#[test]
fn no_request_is_lost_in_a_hundred_stops_under_load() {
    // Side by side, because a client whose handshake is dropped tries again after a
    // second, and because crowding finds more races.
    let crowd: Vec<_> = (0..20)
        .map(|_| std::thread::spawn(|| (0..5).for_each(|_| stop_under_load())))
        .collect();
    for rounds in crowd {
        rounds.join().unwrap();
    }
}

#[test]
fn what_is_in_flight_is_finished_and_told_to_close() {
    let (server, requests) = waiting();
    let mut client = server.connect();
    client.send(REQUEST);
    let release = requests.recv_timeout(PATIENCE).unwrap();
    server.trigger.begin();
    server.wait_until(carboy_server::Statistics::is_draining);
    release.send(()).unwrap();
    let reply = client.reply().unwrap();
    assert_eq!(reply.text(), "answered");
    assert!(reply.closes());
    assert_eq!(client.reply(), None);
    assert_eq!(server.join().forced, 0);
}

#[test]
fn connections_in_the_kernels_queue_are_served() {
    // The loop is blocked while clients connect and ask, so that the kernel has
    // accepted them and the server has not.
    let (blocked, is_blocked) = mpsc::channel::<()>();
    let (unblock, unblocked) = mpsc::channel::<()>();
    let server = TestServer::start(config(PATIENCE, Duration::from_millis(500)), move || {
        App::new(move |request: Request| {
            if request.uri.path() == "/block" {
                blocked.send(()).unwrap();
                unblocked.recv_timeout(PATIENCE).unwrap();
            }
            echo(request)
        })
    });
    let mut holdup = server.connect();
    holdup.send("GET /block HTTP/1.1\r\nHost: a\r\n\r\n");
    is_blocked.recv_timeout(PATIENCE).unwrap();
    let mut waiting: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.send(REQUEST);
    }
    server.trigger.begin();
    unblock.send(()).unwrap();
    for client in &mut waiting {
        assert_eq!(client.reply().unwrap().status, 200);
        assert_eq!(client.reply(), None);
    }
    assert_eq!(holdup.reply().unwrap().status, 200);
    drop(holdup);
    assert_eq!(server.join().forced, 0);
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn idle_connections_stay_readable_for_a_while() {
    let linger = Duration::from_millis(300);
    let server = TestServer::start(config(PATIENCE, linger), || App::new(echo));
    let mut fresh = server.connect();
    let mut used = server.connect();
    let mut late = server.connect();
    assert_eq!(used.send(REQUEST).reply().unwrap().status, 200);
    server.wait_until(|statistics| statistics.open_connections() == 3);
    let begun = Instant::now();
    server.trigger.begin();
    server.wait_until(carboy_server::Statistics::is_draining);
    // Both are answered although the shutdown has begun.
    for client in [&mut fresh, &mut used] {
        let reply = client.send(REQUEST).reply().unwrap();
        assert!(reply.closes());
        assert_eq!(client.reply(), None);
    }
    // The one that says nothing is closed when the linger is over.
    assert_eq!(late.reply(), None);
    assert!(begun.elapsed() >= linger);
    assert_eq!(server.join().forced, 0);
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn a_head_that_has_begun_is_waited_for() {
    let server = TestServer::start(config(PATIENCE, Duration::from_millis(10)), || {
        App::new(echo)
    });
    let mut client = server.connect();
    client.send(b"GET /slow HTTP/1.1\r\nHo");
    let mut witness = server.connect();
    assert_eq!(witness.send(REQUEST).reply().unwrap().status, 200);
    server.trigger.begin();
    // The witness is idle: its end shows that the linger is over.
    assert_eq!(witness.reply(), None);
    let reply = client.send(b"st: a\r\n\r\n").reply().unwrap();
    assert_eq!(reply.text(), "GET /slow ");
    assert!(reply.closes());
    assert_eq!(server.join().forced, 0);
}

#[test]
fn a_stream_goes_on_and_its_connection_ends_after_it() {
    let server = TestServer::start(config(PATIENCE, Duration::from_millis(10)), || {
        App::new(async |_: Request| {
            let (mut sender, body) = ResponseBody::stream();
            std::thread::spawn(move || {
                for _ in 0..100 {
                    sender
                        .send_blocking(Bytes::from(vec![b'x'; 100_000]))
                        .unwrap();
                }
                sender.finish();
            });
            Response::new(body)
        })
    });
    let mut client = server.connect();
    client.send(REQUEST);
    let head = client.read_until(b"\r\n\r\n");
    server.trigger.begin();
    server.wait_until(carboy_server::Statistics::is_draining);
    let rest = client.read_to_end();
    assert!(
        rest.ends_with(b"\r\n0\r\n\r\n"),
        "after {:?}",
        String::from_utf8_lossy(&head)
    );
    assert_eq!(server.join().forced, 0);
}

#[test]
fn what_takes_too_long_is_broken_off() {
    let drain = Duration::from_millis(100);
    let (server, requests) = waiting_with(config(drain, Duration::from_millis(10)));
    let mut client = server.connect();
    client.send(REQUEST);
    let mut release = requests.recv_timeout(PATIENCE).unwrap();
    let begun = Instant::now();
    server.trigger.begin();
    assert_eq!(client.reply(), None);
    assert!(begun.elapsed() >= drain);
    assert_eq!(server.join().forced, 1);
    // The application's future was dropped, not left behind.
    assert!(release.is_closed());
    support::runtime().block_on(release.closed());
    assert_eq!(server.statistics.open_connections(), 0);
}

#[test]
fn force_breaks_everything_off_at_once() {
    for begin_first in [false, true] {
        let (server, requests) = waiting();
        let mut busy = server.connect();
        busy.send(REQUEST);
        let release = requests.recv_timeout(PATIENCE).unwrap();
        let mut idle = server.connect();
        server.wait_until(|statistics| statistics.open_connections() == 2);
        if begin_first {
            server.trigger.begin();
        }
        server.trigger.force();
        assert_eq!(busy.reply(), None);
        assert_eq!(idle.reply(), None);
        assert!((1..=2).contains(&server.join().forced));
        assert!(release.is_closed());
    }
}

#[test]
fn a_server_that_is_stopped_before_it_begins_returns() {
    let listeners = carboy_server::Listener::bind_tcp("127.0.0.1", 0, 16).unwrap();
    let (trigger, shutdown) = carboy_server::Shutdown::pair();
    trigger.begin();
    let outcome = support::runtime().block_on(async {
        let server = carboy_server::Server::new(App::new(echo), ServerConfig::default());
        server.serve(listeners, shutdown).await.unwrap()
    });
    assert_eq!(outcome.forced, 0);
}

#[test]
fn a_shared_listener_goes_on_for_the_others() {
    // Two servers accept from one socket, as worker processes do.
    let listener = carboy_server::Listener::bind_tcp("127.0.0.1", 0, 16)
        .unwrap()
        .remove(0);
    let address = support::tcp_address(&listener);
    let start = || {
        let descriptor = listener.try_clone_descriptor().unwrap();
        let (trigger, shutdown) = carboy_server::Shutdown::pair();
        let thread = std::thread::spawn(move || {
            support::runtime().block_on(async move {
                let shared = carboy_server::Listener::from_std(descriptor).unwrap();
                let server = carboy_server::Server::new(
                    App::new(echo),
                    config(PATIENCE, Duration::from_millis(10)),
                );
                server.serve(vec![shared], shutdown).await.unwrap()
            })
        });
        (trigger, thread)
    };
    let (stopped, stopped_thread) = start();
    let (going_on, going_on_thread) = start();
    stopped.begin();
    stopped_thread.join().unwrap();
    let mut client = Client::new(TcpStream::connect(address).unwrap());
    assert_eq!(client.send(REQUEST).reply().unwrap().status, 200);
    going_on.begin();
    going_on_thread.join().unwrap();
}

#[test]
fn the_trigger_works_from_any_thread() {
    let server = TestServer::echo();
    let trigger = server.trigger.clone();
    let done = Arc::new(AtomicBool::new(false));
    let was_done = Arc::clone(&done);
    std::thread::spawn(move || {
        trigger.begin();
        done.store(true, Ordering::SeqCst);
    })
    .join()
    .unwrap();
    assert!(was_done.load(Ordering::SeqCst));
    assert_eq!(server.join().forced, 0);
    let mut rest = Vec::new();
    assert!(
        TcpStream::connect(server.address)
            .map(|mut it| it.read_to_end(&mut rest))
            .is_err()
    );
}
