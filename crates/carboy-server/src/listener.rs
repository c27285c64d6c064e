//! Where connections come from: bound sockets, TCP or Unix.
//!
//! It knows nothing of HTTP. Options that every connection needs are set on the
//! listening socket, because accepted sockets inherit them and that saves two
//! system calls per connection.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::Address;

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    local: Address,
    exclusive: bool,
}

/// Why an address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {source}")]
pub struct BindError {
    address: String,
    source: io::Error,
}

impl BindError {
    /// What the operating system said.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl Listener {
    /// Listens on every address that `host` resolves to. Port 0 takes a free one,
    /// the same for every address.
    ///
    /// # Errors
    ///
    /// When the name does not resolve, or any of its addresses can't be bound.
    pub fn bind_tcp(host: &str, port: u16, backlog: u32) -> Result<Vec<Self>, BindError> {
        let failed = |address: String| move |source| BindError { address, source };
        let name = || {
            if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            }
        };
        let addresses = (host, port).to_socket_addrs().map_err(failed(name()))?;
        let mut listeners: Vec<Self> = Vec::new();
        let mut chosen_port = port;
        for mut address in addresses {
            address.set_port(chosen_port);
            if listeners
                .iter()
                .any(|listener| listener.local == Address::Tcp(address))
            {
                continue;
            }
            let listener =
                Self::bind_address(address, backlog).map_err(failed(address.to_string()))?;
            if let Address::Tcp(local) = &listener.local {
                chosen_port = local.port();
            }
            listeners.push(listener);
        }
        if listeners.is_empty() {
            return Err(failed(name())(io::ErrorKind::AddrNotAvailable.into()));
        }
        Ok(listeners)
    }

    /// Listens on a Unix socket. A socket file that nobody listens on any more is
    /// replaced, since a server that was killed leaves it behind.
    ///
    /// # Errors
    ///
    /// When the path can't be bound, also because another server listens there.
    pub fn bind_unix(path: impl AsRef<Path>, backlog: u32) -> Result<Self, BindError> {
        let path = path.as_ref();
        Self::bind_path(path, backlog).map_err(|source| BindError {
            address: format!("unix:{}", path.display()),
            source,
        })
    }

    /// Takes over a socket that already listens, for example one that a parent
    /// process or systemd passed on. It is taken to be shared with others.
    ///
    /// # Errors
    ///
    /// When the descriptor is not a listening stream socket.
    pub fn from_std(descriptor: impl Into<OwnedFd>) -> io::Result<Self> {
        let socket = Socket::from(descriptor.into());
        if socket.r#type()? != Type::STREAM || !is_listening(&socket)? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is not a listening stream socket",
            ));
        }
        let local = socket_address(&socket.local_addr()?);
        if matches!(local, Address::Tcp(_)) {
            prepare_for_connections(&socket)?;
        }
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            local,
            exclusive: false,
        })
    }

    /// Says whether other processes accept from the same socket. If none does, a
    /// graceful shutdown may stop the kernel from completing further handshakes.
    #[must_use]
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Where this listener can be reached.
    pub fn local_address(&self) -> &Address {
        &self.local
    }

    /// The socket, to be passed on to another process.
    ///
    /// # Errors
    ///
    /// When no descriptor is free.
    pub fn try_clone_descriptor(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone().map(OwnedFd::from)
    }

    pub(crate) fn into_parts(self) -> (Socket, Address, bool) {
        (self.socket, self.local, self.exclusive)
    }

    fn bind_address(address: SocketAddr, backlog: u32) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            // IPv4 has its own listener when the name resolves to both.
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        prepare_for_connections(&socket)?;
        socket.bind(&address.into())?;
        Self::listen(socket, backlog)
    }

    fn bind_path(path: &Path, backlog: u32) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        if let Err(error) = socket.bind(&address) {
            let abandoned = error.kind() == io::ErrorKind::AddrInUse
                && std::os::unix::net::UnixStream::connect(path)
                    .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            if !abandoned {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        Self::listen(socket, backlog)
    }

    fn listen(socket: Socket, backlog: u32) -> io::Result<Self> {
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        socket.set_nonblocking(true)?;
        let local = socket_address(&socket.local_addr()?);
        Ok(Self {
            socket,
            local,
            exclusive: true,
        })
    }
}

/// Options that Linux hands on to accepted sockets.
fn prepare_for_connections(socket: &Socket) -> io::Result<()> {
    // Responses are written whole, so waiting for more bytes only adds latency.
    socket.set_tcp_nodelay(true)?;
    // A peer that vanished without a word must not hold its connection for ever.
    socket.set_keepalive(true)
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn is_listening(socket: &Socket) -> io::Result<bool> {
    socket.is_listener()
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn is_listening(_socket: &Socket) -> io::Result<bool> {
    Ok(true)
}

fn socket_address(address: &SockAddr) -> Address {
    match address.as_socket() {
        Some(address) => Address::Tcp(address),
        None => Address::Unix(address.as_pathname().map(PathBuf::from)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_name_gets_the_same_free_port() {
        let listeners = Listener::bind_tcp("localhost", 0, 16).unwrap();
        let mut ports: Vec<u16> = listeners
            .iter()
            .map(|listener| match listener.local_address() {
                Address::Tcp(address) => address.port(),
                Address::Unix(_) => 0,
            })
            .collect();
        ports.dedup();
        assert_eq!(ports.len(), 1);
        assert_ne!(ports[0], 0);
    }

    #[test]
    fn a_taken_port_is_named_in_the_error() {
        let taken = Listener::bind_tcp("127.0.0.1", 0, 16).unwrap();
        let Address::Tcp(address) = taken[0].local_address() else {
            unreachable!()
        };
        let error = Listener::bind_tcp("127.0.0.1", address.port(), 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(
            Listener::from_std(one).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
