//! The hyper server that `static_server` and `upstream` share.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::LocalRuntime;

/// Serves `answer` on one thread, on the address that is the program's only
/// argument, until the process is stopped.
///
/// Runtime and hyper's settings are those of carboy's own server. What carboy
/// costs beyond this is the cost of its checks and timeouts, of the event loop,
/// of Python and of Flask.
///
/// # Errors
///
/// The argument is missing or the address can't be bound.
pub fn serve<Answer, Answering>(answer: Answer) -> io::Result<()>
where
    Answer: Fn(Request<Incoming>) -> Answering + Copy + 'static,
    Answering: Future<Output = Response<Full<Bytes>>> + 'static,
{
    let address: SocketAddr = std::env::args()
        .nth(1)
        .and_then(|argument| argument.parse().ok())
        .ok_or_else(|| {
            io::Error::other("the argument must be an address such as 127.0.0.1:8000")
        })?;
    LocalRuntime::new()?.block_on(async move {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(async move {
                let service = service_fn(move |request| {
                    let answering = answer(request);
                    async { Ok::<_, Infallible>(answering.await) }
                });
                let connection = http1::Builder::new()
                    .half_close(true)
                    .header_read_timeout(None)
                    .serve_connection(TokioIo::new(stream), service);
                if let Err(error) = connection.await {
                    // The load generator drops its connections when it is done,
                    // in the middle of a response: that is no news.
                    if !error.is_incomplete_message() {
                        eprintln!("connection failed: {error}");
                    }
                }
            });
        }
    })
}
