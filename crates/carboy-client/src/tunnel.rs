//! Through a proxy to a server: `CONNECT` (RFC 9110 section 9.3.6) and SOCKS 5 (RFC 1928).

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::proxy::Proxy;
use crate::resolver::Resolver;
use crate::stream::Socket;
use crate::target::Target;
use crate::{Error, ErrorKind};

/// More than this is no answer to a `CONNECT`.
const LONGEST_ANSWER_BYTES: usize = 16 * 1024;

fn broken(proxy: &Proxy, error: io::Error) -> Error {
    let message = format!("the proxy {} port {} is gone", proxy.host(), proxy.port());
    Error::caused(ErrorKind::Proxy, message, error)
}

fn refused(proxy: &Proxy, target: &Target, reason: &str) -> Error {
    Error::new(
        ErrorKind::Proxy,
        format!(
            "the proxy {} port {} does not connect to {}: {reason}",
            proxy.host(),
            proxy.port(),
            target.authority(),
        ),
    )
}

/// Has an HTTP proxy connect to the target.
///
/// # Errors
///
/// `Proxy` when it refuses, or answers something else than HTTP.
pub(crate) async fn connect_by_http(
    socket: &mut Socket,
    proxy: &Proxy,
    target: &Target,
) -> Result<(), Error> {
    let authority = target.authority();
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(authorization) = proxy.authorization() {
        request.push_str("Proxy-Authorization: ");
        request.push_str(&authorization);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    let lost = |error| broken(proxy, error);
    socket.write_all(request.as_bytes()).await.map_err(lost)?;
    socket.flush().await.map_err(lost)?;
    let mut answer = Vec::with_capacity(256);
    // One byte at a time: what follows the head belongs to the server behind the proxy. It
    // is done once per connection, and heads of proxies are short.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= LONGEST_ANSWER_BYTES {
            return Err(refused(proxy, target, "its answer is too long"));
        }
        let byte = socket.read_u8().await.map_err(lost)?;
        answer.push(byte);
    }
    let status_line = answer.split(|byte| *byte == b'\r').next();
    let status_line = String::from_utf8_lossy(status_line.unwrap_or_default()).into_owned();
    let mut parts = status_line.splitn(2, ' ');
    let is_http = parts
        .next()
        .is_some_and(|version| version.starts_with("HTTP/1."));
    let status = parts.next().unwrap_or_default();
    if is_http && status.starts_with('2') {
        Ok(())
    } else {
        Err(refused(proxy, target, &format!("it says {status_line:?}")))
    }
}

/// Has a SOCKS proxy connect to the target.
///
/// # Errors
///
/// `Proxy` when it refuses, `Resolve` when the name is to be looked up here and has no address.
pub(crate) async fn connect_by_socks(
    socket: &mut Socket,
    resolver: &Resolver,
    proxy: &Proxy,
    target: &Target,
) -> Result<(), Error> {
    let lost = |error| broken(proxy, error);
    authenticate(socket, proxy, target).await?;
    // Version 5, connect, reserved.
    let mut request = vec![5, 1, 0];
    let address = match target.host.parse::<IpAddr>() {
        Ok(address) => Some(address),
        Err(_) if proxy.resolves_names() => None,
        Err(_) => resolver
            .resolve(&target.host, target.port)
            .await?
            .first()
            .map(SocketAddr::ip),
    };
    match address {
        Some(IpAddr::V4(address)) => {
            request.push(1);
            request.extend(address.octets());
        }
        Some(IpAddr::V6(address)) => {
            request.push(4);
            request.extend(address.octets());
        }
        None => {
            let length = u8::try_from(target.host.len());
            let length = length.map_err(|_| refused(proxy, target, "the name is too long"))?;
            request.extend([3, length]);
            request.extend(target.host.as_bytes());
        }
    }
    request.extend(target.port.to_be_bytes());
    socket.write_all(&request).await.map_err(lost)?;
    let mut head = [0; 4];
    socket.read_exact(&mut head).await.map_err(lost)?;
    let reason = match head[1] {
        0 => "",
        1 => "general failure",
        2 => "its rules forbid it",
        3 => "the network is unreachable",
        4 => "the host is unreachable",
        5 => "the connection was refused",
        6 => "the time to live expired",
        _ => "it does not say why",
    };
    if head[0] != 5 || !reason.is_empty() {
        return Err(refused(proxy, target, reason));
    }
    let bound_bytes = match head[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(socket.read_u8().await.map_err(lost)?),
        _ => return Err(refused(proxy, target, "its answer is not SOCKS 5")),
    };
    let mut bound = vec![0; bound_bytes + 2];
    socket.read_exact(&mut bound).await.map_err(lost)?;
    Ok(())
}

/// The choice of a method, and RFC 1929 where the proxy wants a password.
async fn authenticate(socket: &mut Socket, proxy: &Proxy, target: &Target) -> Result<(), Error> {
    let lost = |error| broken(proxy, error);
    let methods: &[u8] = if proxy.credentials().is_some() {
        &[5, 2, 0, 2]
    } else {
        &[5, 1, 0]
    };
    socket.write_all(methods).await.map_err(lost)?;
    let mut chosen = [0; 2];
    socket.read_exact(&mut chosen).await.map_err(lost)?;
    match (chosen, proxy.credentials()) {
        ([5, 0], _) => Ok(()),
        ([5, 2], Some((user, password))) => {
            let length = |text: &str| {
                u8::try_from(text.len())
                    .map_err(|_| refused(proxy, target, "user or password is too long"))
            };
            let mut message = vec![1, length(user)?];
            message.extend(user.as_bytes());
            message.push(length(password)?);
            message.extend(password.as_bytes());
            socket.write_all(&message).await.map_err(lost)?;
            let mut verdict = [0; 2];
            socket.read_exact(&mut verdict).await.map_err(lost)?;
            if verdict[1] == 0 {
                Ok(())
            } else {
                Err(refused(proxy, target, "it does not accept the password"))
            }
        }
        ([5, _], _) => Err(refused(proxy, target, "it wants a password")),
        _ => Err(refused(proxy, target, "its answer is not SOCKS 5")),
    }
}
