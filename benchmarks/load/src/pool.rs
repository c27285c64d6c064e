//! All connections of a run, and the poll that watches them.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::{Events, Interest, Poll, Token};

use crate::arguments::Arguments;
use crate::connection::{Connection, Received};
use crate::measurement::Measurement;
use crate::response::Response;

/// A run with more failures than this is stopped: its figures would be of no use.
const MAXIMUM_FAILURES: u64 = 1_000;

/// The connections, each registered under its index.
#[derive(Debug)]
pub struct Pool {
    poll: Poll,
    address: SocketAddr,
    request: Rc<[u8]>,
    connections: Vec<Connection>,
}

/// What became of a connection that the poll reported.
#[derive(Debug)]
pub enum Outcome {
    /// A whole response has arrived; the connection is free again.
    Response {
        /// The response.
        response: Response,
        /// When the latency of its request began.
        since: Instant,
    },
    /// The outstanding request is lost; the connection was replaced and is free.
    Failed,
    /// Nothing that changes whether the connection is free.
    Nothing,
}

impl Pool {
    /// Opens all connections.
    ///
    /// # Errors
    ///
    /// The server can't be reached.
    pub fn open(arguments: &Arguments) -> io::Result<Self> {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\n\r\n",
            arguments.path, arguments.address
        );
        let poll = Poll::new()?;
        let request: Rc<[u8]> = request.into_bytes().into();
        let connections = (0..arguments.connections)
            .map(|index| {
                let token = Token(index);
                Connection::open(arguments.address, request.clone(), poll.registry(), token)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            poll,
            address: arguments.address,
            request,
            connections,
        })
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// The connections.
    pub fn connections(&self) -> &[Connection] {
        &self.connections
    }

    /// Watches one more source; its token is the first that no connection has.
    ///
    /// # Errors
    ///
    /// The poll refuses the source.
    pub fn watch(&self, source: &mut impl Source) -> io::Result<Token> {
        let token = Token(self.connections.len());
        self.poll
            .registry()
            .register(source, token, Interest::READABLE)?;
        Ok(token)
    }

    /// Waits for something to happen, at most for `timeout`.
    ///
    /// # Errors
    ///
    /// The poll itself fails.
    pub fn wait(&mut self, events: &mut Events, timeout: Duration) -> io::Result<()> {
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    /// Sends the request on a free connection. A connection that broke while it
    /// was idle is replaced once.
    ///
    /// # Errors
    ///
    /// The request can't be sent on a new connection either.
    pub fn send(
        &mut self,
        index: usize,
        since: Instant,
        measurement: &mut Measurement,
    ) -> io::Result<()> {
        if self.connections[index].send(since).is_ok() {
            return Ok(());
        }
        self.replace(index, measurement)?;
        self.connections[index].send(since)
    }

    /// Reads from a connection that the poll reported, and keeps it usable.
    ///
    /// # Errors
    ///
    /// The server can't be reached again, or too many requests have failed.
    pub fn receive(&mut self, index: usize, measurement: &mut Measurement) -> io::Result<Outcome> {
        match self.connections[index].receive() {
            Ok(Received::Incomplete) => Ok(Outcome::Nothing),
            Ok(Received::Response { response, since }) => {
                if response.closes {
                    self.replace(index, measurement)?;
                }
                Ok(Outcome::Response { response, since })
            }
            Ok(Received::ClosedWhileIdle) => {
                self.replace(index, measurement)?;
                Ok(Outcome::Nothing)
            }
            Err(error) => {
                measurement.fail(error.to_string());
                if measurement.failures() > MAXIMUM_FAILURES {
                    return Err(io::Error::other(format!(
                        "more than {MAXIMUM_FAILURES} requests failed, the last with: {error}"
                    )));
                }
                let was_waiting = self.connections[index].waiting_since().is_some();
                self.replace(index, measurement)?;
                Ok(if was_waiting {
                    Outcome::Failed
                } else {
                    Outcome::Nothing
                })
            }
        }
    }

    fn replace(&mut self, index: usize, measurement: &mut Measurement) -> io::Result<()> {
        measurement.count_reconnect();
        self.connections[index] = Connection::open(
            self.address,
            self.request.clone(),
            self.poll.registry(),
            Token(index),
        )?;
        Ok(())
    }
}
