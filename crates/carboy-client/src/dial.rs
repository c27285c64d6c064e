//! From a name to an open TCP connection.
//!
//! Names are looked up by tokio, which asks the system's resolver on a thread of its own. The
//! addresses are tried as RFC 8305 ("happy eyeballs") says: the families in turns, the other one
//! after a short while already.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::timings::Stopwatch;
use crate::{Error, ErrorKind};

/// RFC 8305 section 5, the connection attempt delay.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to a host by TCP.
///
/// # Errors
///
/// `Resolve` when the name has no address, `Connect` when none of its addresses answers.
pub(crate) async fn dial(host: &str, port: u16, stopwatch: &Stopwatch) -> Result<TcpStream, Error> {
    let addresses = resolve(host, port).await?;
    stopwatch.resolved();
    let stream = connect_to_any(&addresses).await.map_err(|error| {
        let message = format!("no connection to {host} port {port}");
        Error::caused(ErrorKind::Connect, message, error)
    })?;
    // Requests are written at once and whole; waiting for more to send only delays them.
    stream.set_nodelay(true).map_err(|error| {
        let message = format!("no connection to {host} port {port}");
        Error::caused(ErrorKind::Connect, message, error)
    })?;
    Ok(stream)
}

/// The addresses of a host, in the resolver's order of preference.
///
/// # Errors
///
/// `Resolve` when there is none.
pub(crate) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|error| {
        let message = format!("the name {host} can't be resolved");
        Error::caused(ErrorKind::Resolve, message, error)
    })?;
    let addresses: Vec<_> = found.collect();
    if addresses.is_empty() {
        return Err(Error::new(
            ErrorKind::Resolve,
            format!("the name {host} has no address"),
        ));
    }
    Ok(addresses)
}

async fn connect_to_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let prefers_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) = addresses
        .iter()
        .copied()
        .partition(|address| address.is_ipv6() == prefers_v6);
    if other.is_empty() {
        return connect_in_order(&preferred).await;
    }
    let first = connect_in_order(&preferred);
    let second = async {
        tokio::time::sleep(ATTEMPT_DELAY).await;
        connect_in_order(&other).await
    };
    tokio::pin!(first, second);
    tokio::select! {
        result = &mut first => match result {
            Ok(stream) => Ok(stream),
            // No reason to go on waiting for the delay.
            Err(_) => connect_in_order(&other).await,
        },
        result = &mut second => match result {
            Ok(stream) => Ok(stream),
            Err(_) => first.await,
        },
    }
}

async fn connect_in_order(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(future)
    }

    #[test]
    fn the_other_family_is_tried_when_the_first_refuses() {
        run(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let good = listener.local_addr().unwrap();
            // Port 1 of the other family has no listener.
            let bad: SocketAddr = "[::1]:1".parse().unwrap();
            let stream = connect_to_any(&[bad, good]).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good);
        });
    }

    #[test]
    fn names_without_an_address_are_told() {
        let error = run(resolve("does-not-exist.invalid", 80)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resolve);
        assert!(error.message().contains("does-not-exist.invalid"));
    }
}
