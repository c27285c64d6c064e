//! A server on a thread of its own and a client that sees raw bytes.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(unreachable_pub, reason = "each test file has its own copy")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

pub mod vectors;

use std::cell::RefCell;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{Shutdown as Half, SocketAddr, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use carboy_server::{
    Address, Application, Buffered, Listener, Request, Response, ResponseBody, ServeOutcome,
    Server, ServerConfig, Shutdown, ShutdownTrigger, Statistics,
};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

/// Longer than anything here takes; a test that waits for it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

type Answer = Pin<Box<dyn Future<Output = Response>>>;

/// An application made of a closure.
pub struct App(Rc<dyn Fn(Request) -> Answer>);

impl App {
    pub fn new<F: Future<Output = Response> + 'static>(
        call: impl Fn(Request) -> F + 'static,
    ) -> Self {
        Self(Rc::new(move |request| Box::pin(call(request))))
    }
}

impl Application for App {
    fn call(&self, request: Request) -> impl Future<Output = Response> + 'static {
        (self.0)(request)
    }
}

/// Answers with the method, the path and the content, or with what was wrong with it.
pub async fn echo(request: Request) -> Response {
    let line = format!("{} {}", request.method, request.uri);
    match request.body.buffer(64 * 1024 * 1024).await {
        Buffered::Complete(content) => text(
            200,
            &format!("{line} {}", String::from_utf8_lossy(&content)),
        ),
        Buffered::Failed(error) => text(400, &format!("{line} {error}")),
        Buffered::Partial { .. } => text(413, "too much for a test"),
    }
}

pub fn text(status: u16, content: &str) -> Response {
    let mut response = Response::new(ResponseBody::full(Bytes::from(content.to_owned())));
    *response.status_mut() = status.try_into().unwrap();
    response
}

pub struct TestServer {
    pub address: SocketAddr,
    pub trigger: ShutdownTrigger,
    pub statistics: Statistics,
    thread: RefCell<Option<JoinHandle<ServeOutcome>>>,
}

impl TestServer {
    pub fn start(config: ServerConfig, app: impl FnOnce() -> App + Send + 'static) -> Self {
        Self::start_on(Self::listen(), config, app)
    }

    /// One with a further address.
    pub fn start_on_two(
        config: ServerConfig,
        app: impl FnOnce() -> App + Send + 'static,
    ) -> (Self, SocketAddr) {
        let mut listeners = Self::listen();
        listeners.extend(Self::listen());
        let other = tcp_address(&listeners[1]);
        (Self::start_on(listeners, config, app), other)
    }

    fn listen() -> Vec<Listener> {
        Listener::bind_tcp("127.0.0.1", 0, 1024).unwrap()
    }

    fn start_on(
        listeners: Vec<Listener>,
        config: ServerConfig,
        app: impl FnOnce() -> App + Send + 'static,
    ) -> Self {
        let address = tcp_address(&listeners[0]);
        let (trigger, shutdown) = Shutdown::pair();
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async move {
                let server = Server::new(app(), config);
                sender.send(server.statistics()).unwrap();
                server.serve(listeners, shutdown).await.unwrap()
            })
        });
        let statistics = receiver.recv_timeout(PATIENCE).unwrap();
        Self {
            address,
            trigger,
            statistics,
            thread: RefCell::new(Some(thread)),
        }
    }

    pub fn echo() -> Self {
        Self::start(ServerConfig::default(), || App::new(echo))
    }

    pub fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).unwrap())
    }

    /// Waits until the server has stopped by itself.
    pub fn join(&self) -> ServeOutcome {
        self.thread.borrow_mut().take().unwrap().join().unwrap()
    }

    /// Waits until a counter has this value.
    pub fn wait_until(&self, mut condition: impl FnMut(&Statistics) -> bool) {
        let begun = std::time::Instant::now();
        while !condition(&self.statistics) {
            assert!(
                begun.elapsed() < PATIENCE,
                "never happened: {:?}",
                self.statistics
            );
            std::thread::yield_now();
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.trigger.force();
        if let Some(thread) = self.thread.borrow_mut().take() {
            let outcome = thread.join();
            assert!(
                outcome.is_ok() || std::thread::panicking(),
                "the server panicked"
            );
        }
    }
}

pub fn runtime() -> LocalRuntime {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap()
}

pub fn tcp_address(listener: &Listener) -> SocketAddr {
    match listener.local_address() {
        Address::Tcp(address) => *address,
        Address::Unix(_) => unreachable!("only TCP is bound here"),
    }
}

/// One response as read from the wire.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.contains("close"))
    }
}

/// What a client needs of a socket of either family.
pub trait Stream: Read + Write {
    fn shut_down_writing(&self);
    fn set_patience(&self);
}

macro_rules! stream {
    ($socket:ty) => {
        impl Stream for $socket {
            fn shut_down_writing(&self) {
                // The server may have closed already.
                let _ = self.shutdown(Half::Write);
            }

            fn set_patience(&self) {
                self.set_read_timeout(Some(PATIENCE)).unwrap();
                self.set_write_timeout(Some(PATIENCE)).unwrap();
            }
        }
    };
}
stream!(TcpStream);
stream!(std::os::unix::net::UnixStream);

pub struct Client<S = TcpStream> {
    pub socket: S,
    received: Vec<u8>,
}

impl<S: Stream> Client<S> {
    pub fn new(socket: S) -> Self {
        socket.set_patience();
        Self {
            socket,
            received: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        // A server that has refused what it saw may be gone already.
        let _ = self.socket.write_all(bytes.as_ref());
        self
    }

    pub fn end(&mut self) -> &mut Self {
        self.socket.shut_down_writing();
        self
    }

    /// Reads more; `false` at the end, however the connection ended.
    pub fn fill(&mut self) -> bool {
        let mut buffer = vec![0; 65536];
        match self.socket.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.received.extend_from_slice(&buffer[..length]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}; so far {:?}", self.received_text()),
        }
    }

    pub fn received_text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }

    /// Reads to the end of the connection and gives back everything.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.received)
    }

    /// Reads until these bytes have come, and takes everything up to their end.
    pub fn read_until(&mut self, needle: &[u8]) -> Vec<u8> {
        loop {
            let found = self
                .received
                .windows(needle.len())
                .position(|part| part == needle);
            if let Some(start) = found {
                return self.received.drain(..start + needle.len()).collect();
            }
            assert!(
                self.fill(),
                "the connection ended after {:?}",
                self.received_text()
            );
        }
    }

    /// The next response to a request that is not HEAD; `None` at the end.
    pub fn reply(&mut self) -> Option<Reply> {
        self.reply_to("GET")
    }

    pub fn reply_to(&mut self, method: &str) -> Option<Reply> {
        while !self.received.windows(4).any(|part| part == b"\r\n\r\n") {
            if !self.fill() {
                assert!(
                    self.received.is_empty(),
                    "half a head: {:?}",
                    self.received_text()
                );
                return None;
            }
        }
        let head = self.read_until(b"\r\n\r\n");
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut reply = Reply {
            status,
            headers,
            body: Vec::new(),
        };
        if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) {
            return Some(reply);
        }
        if let Some(length) = reply.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.received.len() < length {
                assert!(self.fill(), "the body is cut off");
            }
            reply.body = self.received.drain(..length).collect();
        } else if reply.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.read_until(b"\r\n");
                let digits = std::str::from_utf8(&line).unwrap().trim_end();
                let size = usize::from_str_radix(digits, 16).unwrap();
                while self.received.len() < size + 2 {
                    assert!(self.fill(), "a chunk is cut off");
                }
                reply.body.extend(self.received.drain(..size));
                self.received.drain(..2);
                if size == 0 {
                    break;
                }
            }
        } else {
            while self.fill() {}
            reply.body = std::mem::take(&mut self.received);
        }
        Some(reply)
    }

    /// All responses up to the end of the connection.
    pub fn replies(&mut self) -> Vec<Reply> {
        std::iter::from_fn(|| self.reply()).collect()
    }
}
