//! What is written down about requests, and that writing never holds them up.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod support;

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};

use carboy_server::{AccessLog, Request, ServerConfig};
use support::{App, TestServer, echo};

/// An output that everybody can look at and that can be held up.
#[derive(Clone, Default)]
struct Output(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    held_up: bool,
    written: Vec<u8>,
}

impl Output {
    fn hold_up(&self, held_up: bool) {
        self.0.0.lock().unwrap().held_up = held_up;
        self.0.1.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().unwrap().written.clone()).unwrap()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let state = self.0.0.lock().unwrap();
        let mut state = self.0.1.wait_while(state, |state| state.held_up).unwrap();
        state.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn server(output: &Output) -> TestServer {
    let log = AccessLog::new(output.clone()).unwrap();
    let config = ServerConfig {
        access_log: Some(log),
        ..ServerConfig::default()
    };
    TestServer::start(config, || {
        App::new(async |request: Request| {
            if request.uri.path() == "/never" {
                std::future::pending::<()>().await;
            }
            echo(request).await
        })
    })
}

/// The lines without what differs from run to run: port, time and duration.
fn stable(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| {
            let (peer, rest) = line.split_once(" - - [").unwrap();
            assert!(peer.starts_with("127.0.0.1:"), "{line}");
            let (_time, rest) = rest.split_once("] ").unwrap();
            let (rest, duration) = rest.rsplit_once(' ').unwrap();
            assert!(duration.parse::<f64>().unwrap() < 20_000.0, "{line}");
            rest.to_owned()
        })
        .collect()
}

#[test]
fn every_request_is_one_line() {
    let output = Output::default();
    let server = server(&output);
    let mut client = server.connect();
    client
        .send("GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n")
        .reply();
    client
        .send("HEAD /h HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .reply_to("HEAD");
    client
        .send("POST /p HTTP/1.1\r\nHost: a, b\r\n\r\n")
        .reply();
    let mut client = server.connect();
    client
        .send(b"GET /\x1b]0;evil\x07\"\\ HTTP/1.1\r\nHost: a\r\n\r\n")
        .reply();
    let mut client = server.connect();
    client.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_until(|statistics| statistics.in_flight_requests() == 1);
    server.trigger.force();
    server.join();
    assert_eq!(
        stable(&output.text()),
        [
            r#""GET /a?b=c HTTP/1.1" 200 11"#,
            r#""HEAD /h HTTP/1.0" 200 0"#,
            r#""POST /p HTTP/1.1" 400 75"#,
            r#""GET /\x1b]0;evil\x07\"\\ HTTP/1.1" 400 86"#,
            r#""GET /never HTTP/1.1" 499 0"#,
        ]
    );
}

#[test]
fn a_slow_terminal_holds_up_nobody() {
    let output = Output::default();
    output.hold_up(true);
    let server = server(&output);
    let mut client = server.connect();
    let batch = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    // More than the queue holds.
    for _ in 0..20 {
        client.send(&batch);
        for _ in 0..1000 {
            assert_eq!(client.reply().unwrap().status, 200);
        }
    }
    output.hold_up(false);
    drop(client);
    server.trigger.begin();
    server.join();
    let text = output.text();
    assert!(text.contains(" lines lost\n"), "nothing was lost?");
    assert!(text.lines().count() > 10_000);
}
