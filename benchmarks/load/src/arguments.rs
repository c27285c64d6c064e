//! The load generator's command line.

use std::net::SocketAddr;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

/// What `load_generator --help` prints.
pub const HELP: &str = "\
Loads one HTTP/1.1 server and checks every response.

usage: load_generator --address HOST:PORT --path PATH --expect-length BYTES [options]

  --address HOST:PORT     the server
  --path PATH             path and query of the request, sent again and again
  --expect-length BYTES   length of the body that every response must have
  --expect-status STATUS  status that every response must have (200)
  --connections N         keep-alive connections, all on one thread (64)
  --warm-up SECONDS       load before the timed window (2)
  --duration SECONDS      length of the timed window (5)
  --rate N                open loop: N requests a second are due at fixed times,
                          and latency counts from the time a request was due;
                          without it, each connection sends as soon as it can

Standard output carries the lines `window start` and `window end` when the timed
window starts and ends, and then one line of JSON.";

/// Everything that one run needs to know.
#[derive(Debug, Clone)]
pub struct Arguments {
    /// The server's address.
    pub address: SocketAddr,
    /// Path and query of the request.
    pub path: String,
    /// The body length that every response must have.
    pub expected_length: usize,
    /// The status that every response must have.
    pub expected_status: u16,
    /// How many keep-alive connections to hold.
    pub connections: usize,
    /// How long to load the server before the timed window.
    pub warm_up: Duration,
    /// How long the timed window is.
    pub duration: Duration,
    /// Requests a second in the open loop; `None` for the closed loop.
    pub rate: Option<f64>,
}

/// Reads the command line. `Ok(None)` means that help was asked for.
///
/// # Errors
///
/// Says in a sentence what is wrong with the command line.
pub fn parse(mut parser: Parser) -> Result<Option<Arguments>, lexopt::Error> {
    let mut address = None;
    let mut path = None;
    let mut expected_length = None;
    let mut expected_status = 200;
    let mut connections = 64;
    let mut warm_up = Duration::from_secs(2);
    let mut duration = Duration::from_secs(5);
    let mut rate = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("address") => address = Some(parser.value()?.parse()?),
            Arg::Long("path") => path = Some(parser.value()?.string()?),
            Arg::Long("expect-length") => expected_length = Some(parser.value()?.parse()?),
            Arg::Long("expect-status") => expected_status = parser.value()?.parse()?,
            Arg::Long("connections") => connections = parser.value()?.parse()?,
            Arg::Long("warm-up") => warm_up = seconds(&mut parser)?,
            Arg::Long("duration") => duration = seconds(&mut parser)?,
            Arg::Long("rate") => rate = Some(parser.value()?.parse()?),
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    if connections == 0 {
        return Err("--connections must be at least 1".into());
    }
    if rate.is_some_and(|rate: f64| !(0.1..=1_000_000.0).contains(&rate)) {
        return Err("--rate must be between 0.1 and 1000000 requests a second".into());
    }
    Ok(Some(Arguments {
        address: address.ok_or("--address is required")?,
        path: path.ok_or("--path is required")?,
        expected_length: expected_length.ok_or("--expect-length is required")?,
        expected_status,
        connections,
        warm_up,
        duration,
        rate,
    }))
}

fn seconds(parser: &mut Parser) -> Result<Duration, lexopt::Error> {
    let value: f64 = parser.value()?.parse()?;
    Duration::try_from_secs_f64(value).map_err(|error| error.to_string().into())
}
