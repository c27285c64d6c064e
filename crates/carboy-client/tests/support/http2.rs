//! Servers of HTTP/2: one that holds its answers back, and frames to write others by hand.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use carboy_client::{Client, ClientSettings, HttpVersions, PoolLimits};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::Upstream;

/// Starts hyper's tasks on this thread.
#[derive(Clone, Copy)]
pub(crate) struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// A client that speaks nothing but HTTP/2.
pub(crate) fn http2_client(pool: PoolLimits) -> Client {
    Client::new(Arc::new(ClientSettings {
        versions: HttpVersions::Http2Only,
        pool,
        ..ClientSettings::default()
    }))
}

/// A server that answers when a permit is there, and how it goes.
pub(crate) struct Gated {
    pub(crate) upstream: Upstream,
    pub(crate) gate: Rc<Semaphore>,
    /// Requests that wait for a permit, and the most of them that ever did on one connection.
    pub(crate) waiting: Rc<Cell<usize>>,
    pub(crate) paths: Rc<RefCell<Vec<String>>>,
}

impl Gated {
    /// Allows so many requests at a time on each connection.
    pub(crate) async fn start(streams: u32) -> Self {
        let gate = Rc::new(Semaphore::new(0));
        let waiting = Rc::new(Cell::new(0));
        let paths = Rc::new(RefCell::new(Vec::new()));
        let (its_gate, its_waiting, its_paths) =
            (Rc::clone(&gate), Rc::clone(&waiting), Rc::clone(&paths));
        let upstream = Upstream::start(move |stream, _| {
            let (gate, waiting, paths) = (
                Rc::clone(&its_gate),
                Rc::clone(&its_waiting),
                Rc::clone(&its_paths),
            );
            async move {
                let service = service_fn(move |request: hyper::Request<Incoming>| {
                    paths.borrow_mut().push(request.uri().path().to_owned());
                    waiting.set(waiting.get() + 1);
                    let (gate, waiting) = (Rc::clone(&gate), Rc::clone(&waiting));
                    async move {
                        gate.acquire().await.expect("the gate stays open").forget();
                        waiting.set(waiting.get() - 1);
                        let answer = Full::new(Bytes::from_static(b"done"));
                        Ok::<_, Infallible>(hyper::Response::new(answer))
                    }
                });
                hyper::server::conn::http2::Builder::new(Local)
                    .max_concurrent_streams(streams)
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .ok();
            }
        })
        .await;
        Self {
            upstream,
            gate,
            waiting,
            paths,
        }
    }
}

/// Types of frames (RFC 9113 section 6).
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
/// Flags: the end of a stream and of its head, for HEADERS.
pub(crate) const WHOLE: u8 = 5;
/// `:status: 200` of the static table (RFC 7541 appendix A).
pub(crate) const OK: &[u8] = &[0x88];
/// RFC 9113 section 7.
pub(crate) const REFUSED_STREAM: &[u8] = &[0, 0, 0, 7];

/// What comes from the other side.
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
}

/// Reads what a client begins a connection with (RFC 9113 section 3.4).
pub(crate) async fn read_preface(stream: &mut TcpStream) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.expect("a preface");
    assert!(preface.starts_with(b"PRI * HTTP/2.0"));
}

/// Reads a frame; `None` at the end.
pub(crate) async fn read_frame(stream: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame {
        kind: head[3],
        stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
    })
}

/// Reads until a request has come; its stream. `None` at the end.
pub(crate) async fn read_head(stream: &mut TcpStream) -> Option<u32> {
    loop {
        let frame = read_frame(stream).await?;
        if frame.kind == HEADERS {
            return Some(frame.stream);
        }
    }
}

/// Writes a frame.
pub(crate) async fn write_frame(
    stream: &mut TcpStream,
    kind: u8,
    flags: u8,
    id: u32,
    payload: &[u8],
) {
    let length = u32::try_from(payload.len()).expect("a short frame");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    // A client that has gone is no failure of the server.
    stream.write_all(&frame).await.ok();
}

/// Writes SETTINGS with `SETTINGS_MAX_CONCURRENT_STREAMS`.
pub(crate) async fn allow_streams(stream: &mut TcpStream, streams: u32) {
    let mut payload = vec![0, 3];
    payload.extend(streams.to_be_bytes());
    write_frame(stream, SETTINGS, 0, 0, &payload).await;
}
