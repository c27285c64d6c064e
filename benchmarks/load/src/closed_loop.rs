//! The closed loop: every connection sends again as soon as it has its answer.
//!
//! This finds out how much a server can do. Its latencies are those of a server
//! under as much load as it can bear, and they say little about an ordinary day:
//! [`fixed_rate`](crate::fixed_rate) is for that.

use std::io;
use std::time::{Duration, Instant};

use mio::Events;
use serde_json::Value;

use crate::arguments::Arguments;
use crate::measurement::Measurement;
use crate::pool::{Outcome, Pool};

/// A server that answers nothing for this long is taken for dead.
const STALL: Duration = Duration::from_secs(10);

/// Runs the warm-up and the timed window.
///
/// # Errors
///
/// The server can't be reached, fails too often, or stops answering.
pub fn run(arguments: &Arguments) -> io::Result<Value> {
    let mut pool = Pool::open(arguments)?;
    let mut measurement = Measurement::new(arguments)?;
    let mut events = Events::with_capacity(arguments.connections);
    for index in 0..pool.len() {
        pool.send(index, Instant::now(), &mut measurement)?;
    }
    let warm_up_ends = Instant::now() + arguments.warm_up;
    drive(&mut pool, &mut events, &mut measurement, warm_up_ends)?;
    measurement.start_window()?;
    let window_ends = Instant::now() + arguments.duration;
    let requests = drive(&mut pool, &mut events, &mut measurement, window_ends)?;
    measurement.end_window()?;
    Ok(measurement.to_json(arguments, requests, &Value::Null))
}

/// Keeps every connection busy until `end`; returns how many responses came.
fn drive(
    pool: &mut Pool,
    events: &mut Events,
    measurement: &mut Measurement,
    end: Instant,
) -> io::Result<u64> {
    let mut responses = 0;
    let mut now = Instant::now();
    let mut last_progress = now;
    while now < end {
        let timeout = (end - now).min(Duration::from_millis(100));
        pool.wait(events, timeout)?;
        now = Instant::now();
        for event in events.iter() {
            let index = event.token().0;
            match pool.receive(index, measurement)? {
                Outcome::Response { response, since } => {
                    now = Instant::now();
                    last_progress = now;
                    responses += 1;
                    measurement.record(response, now - since);
                    pool.send(index, now, measurement)?;
                }
                Outcome::Failed => pool.send(index, Instant::now(), measurement)?,
                Outcome::Nothing => {}
            }
        }
        if now - last_progress > STALL {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the server answered nothing for {} s", STALL.as_secs()),
            ));
        }
    }
    Ok(responses)
}
