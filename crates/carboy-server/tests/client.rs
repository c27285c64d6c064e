//! Who watches the client of a request learns that it leaves, however it does.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod support;

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use carboy_server::{
    Client as RequestClient, ClientWatch, Departure, HalfClosed, Listener, Request, Response,
    ResponseBody, Server, ServerConfig, Shutdown, Timeouts,
};
use socket2::SockRef;
use support::{App, Client, PATIENCE, TestServer, runtime, text};
use tokio::sync::oneshot;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// What a request gives to its test: its watch, and what lets it end.
type Begun = (ClientWatch, oneshot::Sender<()>);

/// Watches the client of each request and answers once it may.
async fn watched(request: Request, begun: Sender<Begun>) -> Response {
    let (release, released) = oneshot::channel();
    begun.send((request.client.watch(), release)).unwrap();
    released.await.ok();
    text(200, "answered")
}

fn serve_watched() -> (TestServer, Receiver<Begun>) {
    let (begun, receiver) = channel();
    let server = TestServer::start(ServerConfig::default(), move || {
        App::new(move |request| watched(request, begun.clone()))
    });
    (server, receiver)
}

fn begin(server: &TestServer, begun: &Receiver<Begun>, request: &str) -> (Client, Begun) {
    let mut client = server.connect();
    client.send(request);
    (client, begun.recv_timeout(PATIENCE).unwrap())
}

/// Waits on this thread as any other may wait.
fn left(watch: &ClientWatch) -> Option<Departure> {
    wait(watch.left())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = runtime();
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, future).await })
        .expect("never learnt")
}

fn reset(socket: TcpStream) {
    SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(socket);
}

#[test]
fn a_client_that_closes_is_seen() {
    let (server, begun) = serve_watched();
    let (client, (watch, _release)) = begin(&server, &begun, GET);
    assert_eq!(watch.departure(), None);
    drop(client);
    assert_eq!(left(&watch), Some(Departure::Ended));
    assert_eq!(watch.departure(), Some(Departure::Ended));
}

#[test]
fn a_client_that_resets_is_lost() {
    let (server, begun) = serve_watched();
    let (client, (watch, _release)) = begin(&server, &begun, GET);
    reset(client.socket);
    assert_eq!(left(&watch), Some(Departure::Lost));
    assert!(wait(watch.lost()));
}

#[test]
fn a_client_that_closed_its_sending_side_gets_its_answer() {
    let (server, begun) = serve_watched();
    let (mut client, (watch, release)) = begin(&server, &begun, GET);
    client.end();
    assert_eq!(left(&watch), Some(Departure::Ended));
    release.send(()).unwrap();
    assert_eq!(client.reply().unwrap().text(), "answered");
    assert!(!wait(watch.lost()));
    assert!(client.reply().is_none());
}

#[test]
fn a_client_that_stays_has_not_left() {
    let (server, begun) = serve_watched();
    let mut client = server.connect();
    let mut watches = Vec::new();
    for _ in 0..3 {
        client.send(GET);
        let (watch, release) = begun.recv_timeout(PATIENCE).unwrap();
        release.send(()).unwrap();
        assert_eq!(client.reply().unwrap().text(), "answered");
        watches.push(watch);
    }
    drop(client);
    for watch in watches {
        assert_eq!(left(&watch), None, "the request was over before");
        assert!(!wait(watch.lost()));
    }
}

#[test]
fn what_follows_a_request_stays_for_the_next() {
    let (server, begun) = serve_watched();
    let (mut client, (watch, release)) = begin(&server, &begun, &GET.repeat(2));
    client.send(GET);
    release.send(()).unwrap();
    assert_eq!(left(&watch), None);
    let (second, release) = begun.recv_timeout(PATIENCE).unwrap();
    release.send(()).unwrap();
    assert_eq!(left(&second), None);
    // Everything that was sent has been read: now the end is seen.
    let (third, _release) = begun.recv_timeout(PATIENCE).unwrap();
    drop(client);
    assert!(left(&third).is_some());
}

#[test]
fn content_is_read_while_the_client_is_watched() {
    let (begun, receiver) = channel();
    let server = TestServer::start(ServerConfig::default(), move || {
        let begun: Sender<ClientWatch> = begun.clone();
        App::new(move |request: Request| {
            let begun = begun.clone();
            async move {
                begun.send(request.client.watch()).unwrap();
                support::echo(request).await
            }
        })
    });
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    let watch = receiver.recv_timeout(PATIENCE).unwrap();
    assert_eq!(watch.departure(), None);
    client.send("world");
    assert_eq!(client.reply().unwrap().text(), "POST / helloworld");
    assert_eq!(left(&watch), None);
}

#[test]
fn a_watch_may_begin_at_any_time() {
    let (begun, receiver) = channel::<()>();
    let (watching, watches) = channel();
    let server = TestServer::start(ServerConfig::default(), move || {
        let (begun, watching) = (begun.clone(), watching.clone());
        App::new(move |request: Request| {
            let client = request.client;
            // Another task of the loop begins it, when the connection has nothing to do.
            tokio::task::spawn_local(watch_later(client, begun.clone(), watching.clone()));
            std::future::pending()
        })
    });
    let mut client = server.connect();
    client.send(GET);
    receiver.recv_timeout(PATIENCE).unwrap();
    let watch: ClientWatch = watches.recv_timeout(PATIENCE).unwrap();
    drop(client);
    assert_eq!(left(&watch), Some(Departure::Ended));
}

async fn watch_later(client: RequestClient, begun: Sender<()>, watching: Sender<ClientWatch>) {
    begun.send(()).unwrap();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    watching.send(client.watch()).unwrap();
}

#[test]
fn a_watch_that_begins_too_late_has_nothing_to_wait_for() {
    let (kept, clients) = channel();
    let server = TestServer::start(ServerConfig::default(), move || {
        let kept: Sender<ClientWatch> = kept.clone();
        let before = std::rc::Rc::new(std::cell::RefCell::new(None::<RequestClient>));
        App::new(move |request: Request| {
            if let Some(client) = before.borrow_mut().replace(request.client) {
                kept.send(client.watch()).unwrap();
            }
            async { text(200, "answered") }
        })
    });
    let mut client = server.connect();
    client.send(GET);
    client.reply().unwrap();
    client.send(GET);
    client.reply().unwrap();
    let of_same_connection = clients.recv_timeout(PATIENCE).unwrap();
    assert_eq!(left(&of_same_connection), None);
    drop(client);
    server.wait_until(|statistics| statistics.open_connections() == 0);
    server.connect().send(GET).reply().unwrap();
    let of_closed_connection = clients.recv_timeout(PATIENCE).unwrap();
    assert_eq!(left(&of_closed_connection), None);
}

#[test]
fn a_client_that_leaves_in_a_stream_is_lost() {
    let (begun, receiver) = channel();
    let server =
        TestServer::start(ServerConfig::default(), move || {
            let begun: Sender<ClientWatch> = begun.clone();
            App::new(move |request: Request| {
                begun.send(request.client.watch()).unwrap();
                let (mut sender, body) = ResponseBody::stream();
                std::thread::spawn(move || {
                    while sender.send_blocking(Bytes::from_static(b"piece")).is_ok() {}
                });
                async { Response::new(body) }
            })
        });
    let mut client = server.connect();
    client.send(GET);
    let watch = receiver.recv_timeout(PATIENCE).unwrap();
    client.read_until(b"piece");
    assert_eq!(watch.departure(), None);
    reset(client.socket);
    assert!(wait(watch.lost()));
}

#[test]
fn clients_of_a_forced_stop_are_lost() {
    let (server, begun) = serve_watched();
    let (_client, (watch, _release)) = begin(&server, &begun, GET);
    server.trigger.force();
    assert!(wait(watch.lost()));
}

#[test]
fn clients_of_a_stop_that_takes_too_long_are_lost() {
    let (begun, receiver) = channel();
    let timeouts = Timeouts {
        drain: Duration::from_millis(50),
        drain_linger: Duration::ZERO,
        ..Timeouts::default()
    };
    let config = ServerConfig {
        timeouts,
        ..ServerConfig::default()
    };
    let server = TestServer::start(config, move || {
        App::new(move |request| watched(request, begun.clone()))
    });
    let (_client, (watch, _release)) = begin(&server, &receiver, GET);
    server.trigger.begin();
    assert!(wait(watch.lost()));
    assert_eq!(server.join().forced, 1);
}

#[test]
fn a_client_on_a_unix_socket_is_seen() {
    let directory = std::env::temp_dir().join(format!("carboy-client-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("socket");
    let (begun, receiver) = channel();
    let (trigger, shutdown) = Shutdown::pair();
    let listener = Listener::bind_unix(&path, 16).unwrap();
    let thread = std::thread::spawn(move || {
        runtime().block_on(async move {
            let app = App::new(move |request| watched(request, begun.clone()));
            let server = Server::new(app, ServerConfig::default());
            server.serve(vec![listener], shutdown).await.unwrap()
        })
    });
    let mut client = Client::new(UnixStream::connect(&path).unwrap());
    client.send(GET);
    let (watch, _release) = receiver.recv_timeout(PATIENCE).unwrap();
    drop(client);
    assert!(left(&watch).is_some());
    trigger.force();
    thread.join().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}

/// What a request gives to its test: what tells that its client has gone, and what lets it end.
type Gone = (Receiver<()>, oneshot::Sender<()>);

/// Serves requests whose clients are acted upon when they have gone.
fn serve_until_gone(half_closed: HalfClosed) -> (TestServer, Receiver<Gone>) {
    let (begun, receiver) = channel();
    let server = TestServer::start(ServerConfig::default(), move || {
        App::new(move |request: Request| {
            let begun: Sender<Gone> = begun.clone();
            async move {
                let (gone, noticed) = channel();
                let watch = request.client.watch();
                watch.when_gone(half_closed, move || gone.send(()).unwrap());
                let (release, released) = oneshot::channel();
                begun.send((noticed, release)).unwrap();
                released.await.ok();
                text(200, "answered")
            }
        })
    });
    (server, receiver)
}

/// Nothing is sent any more, and nothing was: the action was dropped.
fn was_never_told(gone: &Receiver<()>) -> bool {
    gone.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
}

#[test]
fn a_client_that_closes_is_found_to_have_gone() {
    let (server, begun) = serve_until_gone(HalfClosed::Waits);
    let mut client = server.connect();
    client.send(GET);
    let (gone, _release) = begun.recv_timeout(PATIENCE).unwrap();
    drop(client);
    gone.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_client_that_resets_has_gone() {
    let (server, begun) = serve_until_gone(HalfClosed::Waits);
    let mut client = server.connect();
    client.send(GET);
    let (gone, _release) = begun.recv_timeout(PATIENCE).unwrap();
    reset(client.socket);
    gone.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_half_closed_client_is_asked_once_and_answered() {
    let (server, begun) = serve_until_gone(HalfClosed::Waits);
    let mut client = server.connect();
    client.send(GET);
    let (gone, release) = begun.recv_timeout(PATIENCE).unwrap();
    client.end();
    assert_eq!(client.reply().unwrap().status, 100, "it is asked");
    release.send(()).unwrap();
    assert_eq!(client.reply().unwrap().text(), "answered");
    assert!(client.reply().is_none());
    assert!(was_never_told(&gone));
}

#[test]
fn a_half_closed_client_is_dropped_where_that_is_wanted() {
    let (server, begun) = serve_until_gone(HalfClosed::HasGone);
    let mut client = server.connect();
    client.send(GET);
    let (gone, release) = begun.recv_timeout(PATIENCE).unwrap();
    client.end();
    gone.recv_timeout(PATIENCE).unwrap();
    release.send(()).unwrap();
    assert_eq!(
        client.reply().unwrap().text(),
        "answered",
        "nothing else was sent"
    );
}

#[test]
fn an_old_client_that_ends_at_once_waits() {
    let (server, begun) = serve_until_gone(HalfClosed::Waits);
    let mut client = server.connect();
    client.send("GET / HTTP/1.0\r\n\r\n").end();
    let (gone, release) = begun.recv_timeout(PATIENCE).unwrap();
    release.send(()).unwrap();
    assert_eq!(
        client.reply().unwrap().text(),
        "answered",
        "it was not asked"
    );
    assert!(was_never_told(&gone));
}

#[test]
fn an_old_client_that_ends_later_has_gone() {
    let (server, begun) = serve_until_gone(HalfClosed::Waits);
    let mut client = server.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let (gone, _release) = begun.recv_timeout(PATIENCE).unwrap();
    // This is about a time that passes: longer than one that ends with its request takes.
    assert!(gone.recv_timeout(Duration::from_millis(150)).is_err());
    client.end();
    gone.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_client_that_ends_during_the_response_has_gone() {
    let (begun, receiver) = channel();
    let (senders, bodies) = channel();
    let server = TestServer::start(ServerConfig::default(), move || {
        let (begun, senders) = (begun.clone(), senders.clone());
        App::new(move |request: Request| {
            let begun: Sender<()> = begun.clone();
            request
                .client
                .watch()
                .when_gone(HalfClosed::Waits, move || {
                    begun.send(()).unwrap();
                });
            let (mut sender, body) = ResponseBody::stream();
            sender.try_send(Bytes::from_static(b"piece")).ok();
            // It goes on, without anything to say.
            senders.send(sender).unwrap();
            async { Response::new(body) }
        })
    });
    let mut client = server.connect();
    client.send(GET);
    let _sender = bodies.recv_timeout(PATIENCE).unwrap();
    client.read_until(b"piece");
    client.end();
    receiver.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn what_has_gone_before_is_acted_upon_at_once() {
    let (begun, receiver) = channel();
    let server = TestServer::start(ServerConfig::default(), move || {
        App::new(move |request: Request| {
            let begun: Sender<Receiver<()>> = begun.clone();
            async move {
                let watch = request.client.watch();
                assert!(watch.lost().await);
                let (gone, noticed) = channel();
                watch.when_gone(HalfClosed::Waits, move || gone.send(()).unwrap());
                begun.send(noticed).unwrap();
                text(200, "answered")
            }
        })
    });
    let mut client = server.connect();
    client.send(GET);
    server.wait_until(|statistics| statistics.in_flight_requests() == 1);
    reset(client.socket);
    let gone = receiver.recv_timeout(PATIENCE).unwrap();
    gone.recv_timeout(PATIENCE).unwrap();
}
