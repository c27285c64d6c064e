//! The open loop: requests are due at fixed times, whatever the server does.
//!
//! A request that is due while all connections are busy waits, and its latency
//! counts from the time when it was due. A closed loop would have sent it later
//! and never noticed the wait: that is coordinated omission.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::Events;
use mio::unix::SourceFd;
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::measurement::{self, Measurement};
use crate::pool::{Outcome, Pool};

/// After the window, responses that are still due get this long to arrive.
const GRACE: Duration = Duration::from_secs(2);

/// The timer fires no more often than this: above 10,000 requests a second one
/// firing releases several requests.
const SHORTEST_INTERVAL: Duration = Duration::from_micros(100);

/// The requests that are due, and the connections that can take them.
struct Schedule {
    timer: OwnedFd,
    interval: Duration,
    next_due: Instant,
    /// No request is due from here on.
    end: Instant,
    waiting: VecDeque<Instant>,
    idle: VecDeque<usize>,
    /// Requests that are due from here on are measured.
    measured_from: Instant,
    answered: u64,
    /// How late the generator itself was: if this is large, then the generator and
    /// not the server is what was measured.
    release_delay_us: Histogram<u64>,
}

/// Runs the warm-up and the timed window at the rate that `arguments` asks for.
///
/// # Errors
///
/// The server can't be reached or fails too often.
pub fn run(arguments: &Arguments, rate: f64) -> io::Result<Value> {
    let mut pool = Pool::open(arguments)?;
    let mut measurement = Measurement::new(arguments)?;
    let interval = Duration::from_secs_f64(1.0 / rate);
    let timer = periodic_timer(interval)?;
    pool.watch(&mut SourceFd(&timer.as_raw_fd()))?;

    let start = Instant::now();
    let window_starts = start + arguments.warm_up;
    let window_ends = window_starts + arguments.duration;
    let mut schedule = Schedule {
        timer,
        interval,
        next_due: start,
        end: window_starts,
        waiting: VecDeque::new(),
        idle: (0..pool.len()).collect(),
        measured_from: window_starts,
        answered: 0,
        release_delay_us: measurement::histogram()?,
    };
    let mut events = Events::with_capacity(arguments.connections + 1);
    schedule.drive(&mut pool, &mut events, &mut measurement, window_starts)?;
    measurement.start_window()?;
    schedule.end = window_ends;
    schedule.release_delay_us.reset();
    schedule.drive(&mut pool, &mut events, &mut measurement, window_ends)?;
    measurement.end_window()?;
    let answered_in_window = schedule.answered;
    schedule.drive(
        &mut pool,
        &mut events,
        &mut measurement,
        window_ends + GRACE,
    )?;
    let unanswered = schedule.count_unanswered(&pool, &mut measurement);
    let more = json!({
        "rate": rate,
        "unanswered": unanswered,
        "release_delay_us": {
            "p50": schedule.release_delay_us.value_at_quantile(0.5),
            "p99": schedule.release_delay_us.value_at_quantile(0.99),
            "maximum": schedule.release_delay_us.max(),
        },
    });
    Ok(measurement.to_json(arguments, answered_in_window, &more))
}

impl Schedule {
    /// Works until `until`, or until everything that was due is answered.
    fn drive(
        &mut self,
        pool: &mut Pool,
        events: &mut Events,
        measurement: &mut Measurement,
        until: Instant,
    ) -> io::Result<()> {
        loop {
            self.release(pool, measurement)?;
            let now = Instant::now();
            let all_released = self.next_due >= self.end;
            let all_answered = self.waiting.is_empty() && self.idle.len() == pool.len();
            if now >= until || (now >= self.end && all_released && all_answered) {
                return Ok(());
            }
            pool.wait(events, (until - now).min(Duration::from_millis(100)))?;
            for event in events.iter() {
                let index = event.token().0;
                if index == pool.len() {
                    // Reading is what makes the kernel start the next interval. The
                    // count that it gives isn't needed: the clock says what is due.
                    let _ = rustix::io::read(&self.timer, &mut [0; 8]);
                    continue;
                }
                match pool.receive(index, measurement)? {
                    Outcome::Response { response, since } => {
                        if since >= self.measured_from {
                            self.answered += 1;
                            measurement.record(response, since.elapsed());
                        }
                        self.idle.push_back(index);
                    }
                    Outcome::Failed => self.idle.push_back(index),
                    Outcome::Nothing => {}
                }
            }
        }
    }

    /// Sends what is due, as far as there are idle connections.
    fn release(&mut self, pool: &mut Pool, measurement: &mut Measurement) -> io::Result<()> {
        let now = Instant::now();
        while self.next_due <= now && self.next_due < self.end {
            measurement::record(&mut self.release_delay_us, now - self.next_due);
            self.waiting.push_back(self.next_due);
            self.next_due += self.interval;
        }
        while !self.waiting.is_empty() && !self.idle.is_empty() {
            if let (Some(due), Some(index)) = (self.waiting.pop_front(), self.idle.pop_front()) {
                pool.send(index, due, measurement)?;
            }
        }
        Ok(())
    }

    /// Counts every request that never got its answer with the time it has waited
    /// so far: leaving it out would flatter a server that can't keep up.
    fn count_unanswered(&self, pool: &Pool, measurement: &mut Measurement) -> usize {
        let outstanding = pool
            .connections()
            .iter()
            .filter_map(crate::connection::Connection::waiting_since);
        let mut unanswered = 0;
        for due in outstanding.chain(self.waiting.iter().copied()) {
            if due >= self.measured_from {
                unanswered += 1;
                measurement.record_latency(due.elapsed());
            }
        }
        unanswered
    }
}

/// A timer with a finer resolution than the poll's millisecond timeout.
fn periodic_timer(interval: Duration) -> io::Result<OwnedFd> {
    let timer = timerfd_create(
        TimerfdClockId::Monotonic,
        TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
    )?;
    let interval = Timespec::try_from(interval.max(SHORTEST_INTERVAL))
        .map_err(|_| io::Error::other("the interval is too long for a timer"))?;
    let setting = Itimerspec {
        it_interval: interval,
        it_value: interval,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting)?;
    Ok(timer)
}
