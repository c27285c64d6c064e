//! The clock of `asyncio`: `time.monotonic()`, in seconds.

use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

fn seconds(time: Timespec) -> f64 {
    // A monotonic clock counts from the machine's start: its seconds fit a double's
    // 53 bits with nanoseconds to spare for a century.
    #[expect(
        clippy::cast_precision_loss,
        reason = "the same rounding as time.monotonic()"
    )]
    let (whole, fraction) = (time.tv_sec as f64, time.tv_nsec as f64);
    fraction.mul_add(1e-9, whole)
}

/// The time of the clock that Python's `time.monotonic()` reads, in seconds.
pub fn monotonic_seconds() -> f64 {
    seconds(clock_gettime(ClockId::Monotonic))
}

/// The resolution of that clock, in seconds: timers this near are due.
pub fn clock_resolution_seconds() -> f64 {
    seconds(clock_getres(ClockId::Monotonic))
}
