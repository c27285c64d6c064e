//! A server that does what a test says, and a client on the same thread.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

pub(crate) mod http2;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use carboy_client::{
    Client, ClientSettings, Error, PoolStatistics, Request, RequestBody, Response, Timeouts,
};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use url::Url;

/// Runs a test on a runtime of one thread; it must end within a bound.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("the test hangs")
    })
}

/// A listener whose connections are each given to a function.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    connections: Rc<Cell<usize>>,
}

impl Upstream {
    /// Serves each connection by `handle`, which is told how many came before.
    pub(crate) async fn start<F>(handle: impl Fn(TcpStream, usize) -> F + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Rc::new(Cell::new(0));
        let counter = Rc::clone(&connections);
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = counter.get();
                counter.set(number + 1);
                tokio::task::spawn_local(handle(stream, number));
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Answers each request of each connection with the same bytes.
    pub(crate) async fn always(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Rc<[u8]> = answer.into().into();
        Self::start(move |mut stream, _| {
            let answer = Rc::clone(&answer);
            async move {
                while read_request(&mut stream).await.is_some() {
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// Answers one request per connection with these bytes, and closes.
    pub(crate) async fn once(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Rc<[u8]> = answer.into().into();
        Self::start(move |mut stream, _| {
            let answer = Rc::clone(&answer);
            async move {
                if read_request(&mut stream).await.is_some() {
                    stream.write_all(&answer).await.ok();
                    stream.shutdown().await.ok();
                    // Until the client closes, too: no reset destroys the answer.
                    while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
                }
            }
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    /// How many connections have come.
    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }
}

/// Reads a head and the content that its Content-Length announces; `None` at the end.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let byte = stream.read_u8().await.ok()?;
        bytes.push(byte);
        if bytes.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await.ok()?;
    Some(head + &String::from_utf8_lossy(&content))
}

/// A whole response with this content.
pub(crate) fn ok(content: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}",
        content.len()
    )
}

/// Short enough that a test of a timeout is quick, long enough for a busy machine.
pub(crate) fn quick() -> Timeouts {
    let short = Some(Duration::from_millis(300));
    Timeouts {
        connect: short,
        read: short,
        write: short,
        pool: short,
        total: Some(Duration::from_secs(20)),
    }
}

/// No limits: a busy machine takes its time, and what hangs is noticed by the test's own limit.
pub(crate) fn untimed() -> Timeouts {
    Timeouts {
        connect: None,
        read: None,
        write: None,
        pool: None,
        total: None,
    }
}

pub(crate) fn client() -> Client {
    Client::new(Arc::new(ClientSettings::default()))
}

pub(crate) fn get(url: Url) -> Request {
    Request {
        timeouts: quick(),
        ..Request::new(Method::GET, url)
    }
}

pub(crate) fn post(url: Url, content: &'static str) -> Request {
    Request {
        timeouts: quick(),
        body: RequestBody::Full(content.into()),
        ..Request::new(Method::POST, url)
    }
}

/// Makes a call and reads its content.
pub(crate) async fn fetch(client: &Client, request: Request) -> Result<(Response, String), Error> {
    let mut response = client.send(request).await?;
    let content = response.body.collect(64 * 1024 * 1024).await?;
    let content = String::from_utf8_lossy(&content.into_bytes()).into_owned();
    Ok((response, content))
}

/// Waits until the pool is as it should be.
pub(crate) async fn wait_for(client: &Client, is_so: impl Fn(PoolStatistics) -> bool) {
    while !is_so(client.statistics()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
