//! What a timed window counts, and its JSON form.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::response::Response;

/// Latencies are recorded up to this; a slower response counts as this slow.
const MAXIMUM_LATENCY_US: u64 = 60_000_000;

/// What was counted since the timed window started, or since the run started as
/// long as it has not.
#[derive(Debug)]
pub struct Measurement {
    expected_status: u16,
    expected_length: usize,
    latency_us: Histogram<u64>,
    failures: u64,
    first_failure: Option<String>,
    reconnects: u64,
    started: Instant,
    cpu_at_start: Duration,
    window: Option<(Duration, Duration)>,
}

impl Measurement {
    /// Starts counting.
    ///
    /// # Errors
    ///
    /// The histogram can't be made.
    pub fn new(arguments: &Arguments) -> io::Result<Self> {
        Ok(Self {
            expected_status: arguments.expected_status,
            expected_length: arguments.expected_length,
            latency_us: histogram()?,
            failures: 0,
            first_failure: None,
            reconnects: 0,
            started: Instant::now(),
            cpu_at_start: process_cpu(),
            window: None,
        })
    }

    /// Starts the timed window: forgets the latencies of the warm-up, keeps its
    /// failures, and tells whoever reads standard output.
    ///
    /// # Errors
    ///
    /// Standard output is closed.
    pub fn start_window(&mut self) -> io::Result<()> {
        self.latency_us.reset();
        announce("window start")?;
        self.cpu_at_start = process_cpu();
        self.started = Instant::now();
        Ok(())
    }

    /// Ends the timed window and tells whoever reads standard output.
    ///
    /// # Errors
    ///
    /// Standard output is closed.
    pub fn end_window(&mut self) -> io::Result<()> {
        let cpu = process_cpu().saturating_sub(self.cpu_at_start);
        self.window = Some((self.started.elapsed(), cpu));
        announce("window end")
    }

    /// Counts a response, after checking that it is the expected one.
    pub fn record(&mut self, response: Response, latency: Duration) {
        if response.status != self.expected_status || response.length != self.expected_length {
            self.fail(format!(
                "expected status {} and {} bytes, got status {} and {} bytes",
                self.expected_status, self.expected_length, response.status, response.length,
            ));
        } else {
            self.record_latency(latency);
        }
    }

    /// Counts a latency without a response, for a request that never got one.
    pub fn record_latency(&mut self, latency: Duration) {
        record(&mut self.latency_us, latency);
    }

    /// Counts a failure, and keeps the text of the first one.
    pub fn fail(&mut self, reason: String) {
        self.failures += 1;
        self.first_failure.get_or_insert(reason);
    }

    /// How many requests have failed so far, the warm-up included.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Counts a connection that was replaced.
    pub fn count_reconnect(&mut self) {
        self.reconnects += 1;
    }

    /// The result as JSON; `more` holds what only one of the modes has.
    pub fn to_json(&self, arguments: &Arguments, requests: u64, more: &Value) -> Value {
        let (elapsed, cpu) = self
            .window
            .unwrap_or_else(|| (self.started.elapsed(), process_cpu()));
        let seconds = elapsed.as_secs_f64();
        #[expect(
            clippy::cast_precision_loss,
            reason = "A run has far fewer than 2^52 requests."
        )]
        let requests_per_second = requests as f64 / seconds;
        json!({
            "connections": arguments.connections,
            "path": arguments.path,
            "window_seconds": seconds,
            "requests": requests,
            "requests_per_second": requests_per_second,
            "failures": self.failures,
            "first_failure": self.first_failure,
            "reconnects": self.reconnects,
            "load_cpu_seconds": cpu.as_secs_f64(),
            "latency_us": {
                "mean": self.latency_us.mean(),
                "p50": self.latency_us.value_at_quantile(0.5),
                "p90": self.latency_us.value_at_quantile(0.9),
                "p99": self.latency_us.value_at_quantile(0.99),
                "p99_9": self.latency_us.value_at_quantile(0.999),
                "maximum": self.latency_us.max(),
            },
            "fixed_rate": more,
        })
    }
}

/// Makes a histogram of microseconds, with three significant digits.
///
/// # Errors
///
/// The histogram can't be made.
pub fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, MAXIMUM_LATENCY_US, 3).map_err(io::Error::other)
}

/// Records a duration in a histogram of microseconds.
pub fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
}

fn announce(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}
