//! More requests than the server may have in progress are told so at once.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod support;

use std::sync::mpsc;
use std::time::Duration;

use carboy_server::{Admission, ClientWatch, Refusal, Request, Response, ServerConfig};
use socket2::SockRef;
use support::{App, PATIENCE, Reply, TestServer, text};
use tokio::sync::oneshot;

/// A request that waits in the application: what it answers with, and its place.
struct Waiting {
    answer: oneshot::Sender<Response>,
    admission: Admission,
    client: ClientWatch,
}

/// A server whose requests for `/wait` are answered by the test.
fn start(request_limit: Option<usize>) -> (TestServer, mpsc::Receiver<Waiting>) {
    let (sender, waiting) = mpsc::channel();
    let config = ServerConfig {
        request_limit,
        ..ServerConfig::default()
    };
    let server = TestServer::start(config, move || {
        App::new(move |request: Request| {
            let sender = sender.clone();
            async move {
                if request.uri.path() != "/wait" {
                    return text(200, "at once");
                }
                let (answer, answered) = oneshot::channel();
                let admission = request.admission.clone();
                let client = request.client.watch();
                let waiting = Waiting {
                    answer,
                    admission,
                    client,
                };
                sender.send(waiting).unwrap();
                answered.await.unwrap()
            }
        })
    });
    (server, waiting)
}

const WAIT: &str = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
const AT_ONCE: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn assert_refused(reply: &Reply) {
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert!(!reply.closes(), "nothing was wrong with the request");
}

#[test]
fn one_more_than_the_limit_is_refused_at_once_and_its_connection_goes_on() {
    let (server, waiting) = start(Some(2));
    let mut first = server.connect();
    let mut second = server.connect();
    first.send(WAIT);
    second.send(WAIT);
    let in_progress: Vec<Waiting> = (0..2)
        .map(|_| waiting.recv_timeout(PATIENCE).unwrap())
        .collect();

    let mut third = server.connect();
    for _ in 0..3 {
        assert_refused(&third.send(AT_ONCE).reply().unwrap());
    }
    assert_eq!(server.statistics.refused(Refusal::Overloaded), 3);

    for request in in_progress {
        drop(request.admission);
        request.answer.send(text(200, "waited")).unwrap();
    }
    assert_eq!(first.reply().unwrap().text(), "waited");
    assert_eq!(second.reply().unwrap().text(), "waited");
    server.wait_until(|statistics| statistics.in_flight_requests() == 0);
    assert_eq!(third.send(AT_ONCE).reply().unwrap().text(), "at once");
    assert_eq!(server.statistics.refused_in_total(), 3);
}

#[test]
fn content_of_a_refused_request_is_never_the_next_request() {
    let (server, waiting) = start(Some(1));
    let mut first = server.connect();
    first.send(WAIT);
    let request = waiting.recv_timeout(PATIENCE).unwrap();

    let mut second = server.connect();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = smuggled.len();
    second.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{smuggled}"
    ));
    assert_refused(&second.reply().unwrap());
    // The connection may end or go on, but there is no answer to what was content.
    second.end();
    assert_eq!(second.replies(), []);
    drop(request.admission);
    request.answer.send(text(200, "")).unwrap();
}

#[test]
fn idle_connections_do_not_count() {
    let (server, _waiting) = start(Some(1));
    let mut clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.send(AT_ONCE).reply().unwrap().status, 200);
    }
    server.wait_until(|statistics| statistics.in_flight_requests() == 0);
    assert_eq!(server.statistics.idle_connections(), 50);
    assert_eq!(server.statistics.refused_in_total(), 0);
}

#[test]
fn a_request_counts_until_the_application_is_done_although_its_client_has_gone() {
    let (server, waiting) = start(Some(1));
    let mut first = server.connect();
    first.send(WAIT);
    let request = waiting.recv_timeout(PATIENCE).unwrap();
    // A reset: a client that only closes may still read its answer.
    SockRef::from(&first.socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(first);
    server.wait_until(|_| request.client.departure().is_some());

    let mut second = server.connect();
    assert_refused(&second.send(AT_ONCE).reply().unwrap());
    assert_eq!(server.statistics.in_flight_requests(), 1);
    // The application gives up, on the server's thread.
    drop(request);
    server.wait_until(|statistics| statistics.in_flight_requests() == 0);
    assert_eq!(second.send(AT_ONCE).reply().unwrap().status, 200);
}

#[test]
fn without_a_limit_nothing_is_refused() {
    let (server, waiting) = start(None);
    let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(WAIT);
    }
    for _ in 0..100 {
        let request = waiting.recv_timeout(PATIENCE).unwrap();
        request.answer.send(text(200, "")).unwrap();
    }
    for mut client in clients {
        assert_eq!(client.reply().unwrap().status, 200);
    }
    assert_eq!(server.statistics.refused_in_total(), 0);
}
