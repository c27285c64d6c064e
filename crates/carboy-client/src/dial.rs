//! From a name to an open TCP connection.
//!
//! The addresses of the name are tried as RFC 8305 ("happy eyeballs") says: the families in turns,
//! the next one after a short while already, and whichever answers first is taken.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::resolver::Resolver;
use crate::timings::Stopwatch;
use crate::{Error, ErrorKind};

/// RFC 8305 section 5, the connection attempt delay.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to a host by TCP.
///
/// # Errors
///
/// `Resolve` when the name has no address, `Connect` when none of its addresses answers.
pub(crate) async fn dial(
    resolver: &Resolver,
    host: &str,
    port: u16,
    stopwatch: &Stopwatch,
) -> Result<TcpStream, Error> {
    stopwatch.resolve_began();
    let addresses = resolver.resolve(host, port).await?;
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

/// A connection that is being opened.
type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;

/// Connects to the first of the addresses that answers. Those that are silent are waited for
/// while others are tried; one that refuses makes way for the next at once.
async fn connect_to_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut untried = in_turns(addresses).into_iter();
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = untried.next() {
            attempts.push(Box::pin(TcpStream::connect(address)));
        }
        if attempts.is_empty() {
            return Err(failure);
        }
        tokio::select! {
            biased;
            ended = first_to_end(&mut attempts) => match ended {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if untried.len() > 0 => {}
        }
    }
}

/// RFC 8305 section 4: the resolver's order, but the families in turns.
fn in_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let prefers_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let of_family = |is_v6: bool| {
        let addresses = addresses.iter().copied();
        addresses.filter(move |address| address.is_ipv6() == is_v6)
    };
    let (mut preferred, mut other) = (of_family(prefers_v6), of_family(!prefers_v6));
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(preferred.next());
        ordered.extend(other.next());
    }
    ordered
}

/// Waits for the first attempt that ends, and takes it out.
async fn first_to_end(attempts: &mut Vec<Attempt>) -> io::Result<TcpStream> {
    poll_fn(|context| {
        let ended = attempts
            .iter_mut()
            .enumerate()
            .find_map(|(index, attempt)| match attempt.as_mut().poll(context) {
                Poll::Ready(outcome) => Some((index, outcome)),
                Poll::Pending => None,
            });
        match ended {
            Some((index, outcome)) => {
                drop(attempts.remove(index));
                Poll::Ready(outcome)
            }
            None => Poll::Pending,
        }
    })
    .await
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

    /// A listener that answers nobody: its queue is full.
    async fn silent(address: &str) -> (SocketAddr, Vec<TcpStream>, tokio::net::TcpListener) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(address.parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        let patience = Duration::from_millis(200);
        while let Ok(stream) = tokio::time::timeout(patience, TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
        }
        (address, queued, listener)
    }

    #[test]
    fn a_silent_address_does_not_keep_the_next_of_its_family_waiting() {
        run(async {
            let (first, _queue, _listener) = silent("127.0.0.1:0").await;
            let (second, _other_queue, _other_listener) = silent("127.0.0.1:0").await;
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let good = listener.local_addr().unwrap();
            let began = tokio::time::Instant::now();
            let stream = connect_to_any(&[first, second, good]).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good);
            assert!(began.elapsed() >= 2 * ATTEMPT_DELAY);
            assert!(
                began.elapsed() < Duration::from_secs(3),
                "the connect timeout"
            );
        });
    }

    #[test]
    fn a_silent_address_is_still_waited_for_when_all_others_refuse() {
        run(async {
            let (first, queue, listener) = silent("127.0.0.1:0").await;
            let refusing: SocketAddr = "127.0.0.1:1".parse().unwrap();
            let addresses = [first, refusing];
            let connecting = connect_to_any(&addresses);
            let makes_room = async {
                tokio::time::sleep(2 * ATTEMPT_DELAY).await;
                for _ in 0..=queue.len() {
                    listener.accept().await.unwrap();
                }
            };
            let (stream, ()) = tokio::join!(connecting, makes_room);
            assert_eq!(stream.unwrap().peer_addr().unwrap(), first);
        });
    }

    #[test]
    fn families_take_turns_in_the_order_of_the_resolver() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "[::4]:1"]);
        let turns = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1", "[::4]:1"]);
        assert_eq!(in_turns(&given), turns);
        let given = addresses(&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"]);
        let turns = addresses(&["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"]);
        assert_eq!(in_turns(&given), turns);
        assert_eq!(in_turns(&[]), []);
    }

    #[test]
    fn without_an_address_that_answers_the_last_refusal_is_told() {
        run(async {
            let refusing: SocketAddr = "127.0.0.1:1".parse().unwrap();
            let error = connect_to_any(&[refusing, refusing]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        });
    }
}
