//! Takes connections from one listener.
//!
//! While descriptors or connections run out it waits for one to close instead of
//! failing or spinning: the kernel's queue keeps the clients meanwhile. When a
//! shutdown begins, no connection that the kernel has completed is lost.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};
use tokio::net::{TcpStream, UnixStream};

use crate::connection_context::ServerState;
use crate::socket::Socket;
use crate::{Address, ConnectionInfo, Listener};

/// Connections taken before those already open get their turn.
const BATCH: usize = 16;

/// How long to wait for a descriptor when it is not one of our connections that
/// will free it.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a handshake that began before a shutdown may take to end: more than most
/// round trips. Clients that begin one meanwhile lose up to a second, because that is
/// when they try again, so it should not be longer than needed.
const HANDSHAKE_TIME: Duration = Duration::from_millis(250);

/// A listener that belongs to the loop.
#[derive(Debug)]
pub(crate) struct Acceptor {
    socket: ListeningSocket,
    local: Address,
    exclusive: bool,
}

#[derive(Debug)]
enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What a failed accept calls for.
enum Remedy {
    /// That one connection is gone: take the next.
    Continue,
    /// Something has run out: wait.
    Pause,
}

impl Acceptor {
    pub(crate) fn new(listener: Listener) -> io::Result<Self> {
        let (socket, local, exclusive) = listener.into_parts();
        let socket = match local {
            Address::Tcp(_) => ListeningSocket::Tcp(TcpListener::from_std(socket.into())?),
            Address::Unix(_) => ListeningSocket::Unix(UnixListener::from_std(socket.into())?),
        };
        Ok(Self {
            socket,
            local,
            exclusive,
        })
    }

    /// Accepts until a shutdown begins and the kernel's queue is empty.
    pub(crate) async fn run(self, server: Rc<ServerState>, start: impl Fn(Socket, ConnectionInfo)) {
        let stage_changed = Arc::clone(&server.stage_changed).notified_owned();
        if !server.is_draining() {
            tokio::select! {
                biased;
                () = stage_changed => {}
                () = self.serve(&server, &start) => {}
            }
        }
        self.drain(&server, &start).await;
    }

    async fn serve(&self, server: &ServerState, start: &impl Fn(Socket, ConnectionInfo)) {
        let mut batch = 0;
        loop {
            self.wait_for_room(server).await;
            match self.socket.accept().await {
                Ok((socket, peer)) => start(socket, self.info(peer)),
                Err(error) => self.recover(server, &error).await,
            }
            batch += 1;
            if batch % BATCH == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes what the kernel has accepted or is about to, then nothing more. The
    /// limit of connections does not count here: those already open are ending.
    async fn drain(&self, server: &ServerState, start: &impl Fn(Socket, ConnectionInfo)) {
        if self.exclusive && self.stop_handshakes() {
            let handshakes_end = server.config.timeouts.drain_linger.min(HANDSHAKE_TIME);
            let accepting = async {
                loop {
                    match self.socket.accept().await {
                        Ok((socket, peer)) => start(socket, self.info(peer)),
                        Err(error) => self.recover(server, &error).await,
                    }
                }
            };
            let ended: Result<(), _> = tokio::time::timeout(handshakes_end, accepting).await;
            drop(ended);
        }
        loop {
            match self.socket.accept_now() {
                Ok((socket, peer)) => start(socket, self.info(peer)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.recover(server, &error).await,
            }
        }
    }

    /// Makes the kernel drop packets that begin a handshake, while those that end one
    /// still arrive. Otherwise a connection could be completed between the last accept
    /// and the close, and its client would be reset after it sent a request. Clients
    /// whose first packet was dropped try again and reach whoever listens next.
    #[cfg(target_os = "linux")]
    fn stop_handshakes(&self) -> bool {
        use socket2::SockFilter;
        // Classic BPF over the TCP header (linux/filter.h): load the byte with the
        // flags; if SYN is among them keep nothing of the packet, else all of it.
        const LOAD_BYTE: u16 = 0x30;
        const JUMP_IF_ANY_BIT: u16 = 0x45;
        const RETURN: u16 = 0x06;
        const FLAGS_OFFSET: u32 = 13;
        const SYN: u32 = 0x02;
        let drop_beginnings = [
            SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_OFFSET),
            SockFilter::new(JUMP_IF_ANY_BIT, 0, 1, SYN),
            SockFilter::new(RETURN, 0, 0, 0),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
        ];
        match &self.socket {
            ListeningSocket::Tcp(listener) => SockRef::from(listener)
                .attach_filter(&drop_beginnings)
                .is_ok(),
            // Without a network there are no handshakes.
            ListeningSocket::Unix(_) => false,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn stop_handshakes(&self) -> bool {
        false
    }

    async fn wait_for_room(&self, server: &ServerState) {
        let Some(limit) = server.config.connection_limit else {
            return;
        };
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        while server.counters().open_connections.get() >= limit {
            server.counters().accept_pauses.increment();
            server.connection_closed.notified().await;
        }
    }

    async fn recover(&self, server: &ServerState, error: &io::Error) {
        match remedy(error) {
            Remedy::Continue => tokio::task::yield_now().await,
            Remedy::Pause => {
                server.counters().accept_pauses.increment();
                let closed = server.connection_closed.notified();
                drop(tokio::time::timeout(PAUSE, closed).await);
            }
        }
    }

    fn info(&self, peer: Address) -> ConnectionInfo {
        ConnectionInfo {
            peer,
            local: self.local.clone(),
            secure: false,
        }
    }
}

fn remedy(error: &io::Error) -> Remedy {
    match Errno::from_io_error(error) {
        // accept(2): errors of the connection itself are reported by accept.
        Some(
            Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::INTR
            | Errno::PROTO
            | Errno::PERM
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTUNREACH,
        ) => Remedy::Continue,
        _ => Remedy::Pause,
    }
}

impl ListeningSocket {
    async fn accept(&self) -> io::Result<(Socket, Address)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Socket::Tcp(stream), Address::Tcp(peer)))
            }
            Self::Unix(listener) => {
                let (stream, peer) = listener.accept().await?;
                let path = peer.as_pathname().map(ToOwned::to_owned);
                Ok((Socket::Unix(stream), Address::Unix(path)))
            }
        }
    }

    /// Asks the kernel directly: tokio asks only after the kernel has told it of
    /// a connection, which may not have happened yet.
    fn accept_now(&self) -> io::Result<(Socket, Address)> {
        let (socket, peer) = match self {
            Self::Tcp(listener) => SockRef::from(listener).accept()?,
            Self::Unix(listener) => SockRef::from(listener).accept()?,
        };
        socket.set_nonblocking(true)?;
        if let Some(peer) = peer.as_socket() {
            let stream = TcpStream::from_std(socket.into())?;
            Ok((Socket::Tcp(stream), Address::Tcp(peer)))
        } else {
            let stream = UnixStream::from_std(socket.into())?;
            let path = peer.as_pathname().map(ToOwned::to_owned);
            Ok((Socket::Unix(stream), Address::Unix(path)))
        }
    }
}
