//! Running out of connections or descriptors delays clients and fails none.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod support;

use std::net::TcpStream;

use carboy_server::{ServerConfig, raise_descriptor_limit};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use support::{App, Client, TestServer, echo};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// These tests look at one limit of the process, hence one function.
#[test]
fn clients_wait_until_there_is_room() {
    connection_limit();
    room_is_for_every_listener();
    descriptor_limit();
}

fn connection_limit() {
    let config = ServerConfig {
        connection_limit: Some(3),
        ..ServerConfig::default()
    };
    let server = TestServer::start(config, || App::new(echo));
    let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(REQUEST);
    }
    for mut client in clients {
        assert_eq!(client.reply().unwrap().status, 200);
        assert!(server.statistics.open_connections() <= 3);
        // The end of this connection lets another one in.
    }
    assert!(server.statistics.accept_pauses() > 0);
    assert_eq!(server.statistics.accepted_connections(), 10);
}

/// A listener whose clients wait must not sleep because another one, which has none, was told
/// that there is room.
fn room_is_for_every_listener() {
    let config = ServerConfig {
        connection_limit: Some(1),
        ..ServerConfig::default()
    };
    let (server, other) = TestServer::start_on_two(config, || App::new(echo));
    // Both listeners are in accept() by now, so each takes one before it looks for room.
    let first = server.connect();
    server.wait_until(|statistics| statistics.accepted_connections() == 1);
    let second = Client::new(TcpStream::connect(other).unwrap());
    server.wait_until(|statistics| statistics.accepted_connections() == 2);
    let mut waiting = [server.connect(), server.connect()];
    for client in &mut waiting {
        client.send(REQUEST);
    }
    drop(first);
    server.wait_until(|statistics| statistics.open_connections() == 1);
    drop(second);
    for mut client in waiting {
        assert_eq!(client.reply().unwrap().status, 200);
    }
}

fn descriptor_limit() {
    let server = TestServer::echo();
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(64),
            maximum: hard,
        },
    )
    .unwrap();
    // The last client has its descriptor before they run out.
    let last = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let mut clients = Vec::new();
    // The server takes its own descriptor before the next client does. A failed connect is tried
    // again: accept(2) holds the last descriptor for a moment even when nobody is waiting.
    server.wait_until(|statistics| {
        if statistics.accepted_connections() == clients.len() as u64
            && let Ok(socket) = TcpStream::connect(server.address)
        {
            clients.push(Client::new(socket));
        }
        statistics.accept_pauses() > 0
    });
    last.connect(&server.address.into()).unwrap();
    let mut last = Client::new(TcpStream::from(last));
    last.send(REQUEST);
    // Those inside are served meanwhile.
    assert_eq!(clients[0].send(REQUEST).reply().unwrap().status, 200);
    let pauses = server.statistics.accept_pauses();
    drop(clients);
    assert_eq!(last.reply().unwrap().status, 200);
    // Waiting, not spinning.
    assert!(pauses < 1000, "{pauses} pauses");
    assert!(raise_descriptor_limit().unwrap() > 64);
}
