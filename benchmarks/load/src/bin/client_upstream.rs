//! The server that HTTP clients are compared with: `/json` answers a small object, `/10k` and
//! `/1m` as many bytes.
//!
//! ```text
//! client_upstream PLAIN_ADDRESS HTTP1_TLS_ADDRESS HTTP2_TLS_ADDRESS CERTIFICATE_AND_KEY_FILE
//! ```
//!
//! One thread serves HTTP/1.1 on the first address, HTTP/1.1 by TLS on the second, and HTTP/2 by
//! TLS on the third, so that every client is made to speak the same version.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::LocalRuntime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const JSON: &[u8] = br#"{"id": 7, "name": "a small answer", "tags": ["one", "two"], "ok": true}"#;
static TEN_KILOBYTES: [u8; 10_240] = [b'x'; 10_240];
static ONE_MEGABYTE: [u8; 1_048_576] = [b'x'; 1_048_576];

/// Starts the tasks of HTTP/2 on this thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F> Executor<F> for LocalExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// What a listener speaks.
#[derive(Clone)]
enum Protocol {
    Http1,
    Http1Tls(TlsAcceptor),
    Http2Tls(TlsAcceptor),
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [plain, http1_tls, http2_tls, file] = arguments.as_slice() else {
        return Err(io::Error::other(
            "the arguments are three addresses and a PEM file",
        ));
    };
    let with_http1 = Protocol::Http1Tls(acceptor(file, b"http/1.1")?);
    let with_http2 = Protocol::Http2Tls(acceptor(file, b"h2")?);
    LocalRuntime::new()?.block_on(async {
        tokio::try_join!(
            listen(plain, Protocol::Http1),
            listen(http1_tls, with_http1),
            listen(http2_tls, with_http2),
        )
    })?;
    Ok(())
}

fn acceptor(file: &str, protocol: &[u8]) -> io::Result<TlsAcceptor> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(io::Error::other)?
        .collect();
    let key = PrivateKeyDer::from_pem_file(file).map_err(io::Error::other)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(certificates.map_err(io::Error::other)?, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn listen(address: &str, protocol: Protocol) -> io::Result<()> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    // A thousand clients connect at the same time.
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(4096)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let protocol = protocol.clone();
        tokio::task::spawn_local(async move {
            // A client that goes away in the middle of something is no news.
            serve(stream, protocol).await.ok();
        });
    }
}

async fn serve(stream: TcpStream, protocol: Protocol) -> io::Result<()> {
    match protocol {
        Protocol::Http1 => serve_http1(stream).await,
        Protocol::Http1Tls(acceptor) => serve_http1(acceptor.accept(stream).await?).await,
        Protocol::Http2Tls(acceptor) => {
            let stream = TokioIo::new(acceptor.accept(stream).await?);
            http2::Builder::new(LocalExecutor)
                .max_concurrent_streams(1000)
                .serve_connection(stream, service_fn(answer))
                .await
                .map_err(io::Error::other)
        }
    }
}

async fn serve_http1<S>(stream: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await
        .map_err(io::Error::other)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (content_type, content) = match request.uri().path() {
        "/json" => ("application/json", JSON),
        "/10k" => ("application/octet-stream", &TEN_KILOBYTES[..]),
        "/1m" => ("application/octet-stream", &ONE_MEGABYTE[..]),
        _ => ("text/plain", &[][..]),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(content)));
    if content.is_empty() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Ok(response)
}
