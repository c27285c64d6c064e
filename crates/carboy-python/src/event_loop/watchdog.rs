//! The thread that notices that the loop is stuck, and has it reported while it is.
//!
//! It needs the GIL for nothing but a report. `carboy.watchdog` starts the thread with each
//! run of a loop that is to be watched, ends it with the run, and words the reports.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use carboy_event_loop::monotonic_seconds;
use carboy_event_loop::watchdog::{Activity, Finding, Pulse, Sampler, Stall};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::NativeEventLoop;
use crate::attach::detached;
use crate::names;

/// What a loop and the thread that watches it agree on.
#[derive(Default)]
pub(crate) struct Watch {
    /// The bits of the threshold in seconds; 0 while nobody is to watch.
    threshold_bits: AtomicU64,
    /// The number of the watch. One that is over has another.
    number: AtomicU64,
}

impl Watch {
    /// The threshold, unless the watch of this number is over.
    fn threshold_seconds(&self, number: u64) -> Option<f64> {
        let seconds = f64::from_bits(self.threshold_bits.load(Ordering::Relaxed));
        let is_over = self.number.load(Ordering::Relaxed) != number;
        (seconds > 0.0 && !is_over).then_some(seconds)
    }

    fn advance(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}

/// Something to report.
enum Report {
    /// The loop is stuck.
    Stall {
        stall: Stall,
        found_seconds: f64,
        processor: Option<ProcessorTime>,
    },
    /// It was stuck.
    End(Stall, Option<String>),
    /// There is nothing more to watch.
    Over,
}

/// The time that a thread spends on a processor, from a moment on.
struct ProcessorTime {
    thread: u32,
    began_seconds: f64,
    began: Scheduled,
}

/// What the scheduler has given to a thread since it began, in seconds.
struct Scheduled {
    running_seconds: f64,
    /// How long it was ready to run, and other threads had the processors.
    ready_seconds: f64,
}

impl ProcessorTime {
    fn begin(thread: u32) -> Option<Self> {
        Some(Self {
            thread,
            began_seconds: monotonic_seconds(),
            began: Scheduled::of(thread)?,
        })
    }

    /// Which part of the time that was, up to now. The time that the thread waited for a
    /// processor does not count: what else the machine does says nothing about the thread.
    fn share(&self) -> Option<f64> {
        let now = Scheduled::of(self.thread)?;
        let elapsed_seconds = monotonic_seconds() - self.began_seconds;
        let ready_seconds = now.ready_seconds - self.began.ready_seconds;
        let running_seconds = now.running_seconds - self.began.running_seconds;
        let wanted_seconds = (elapsed_seconds - ready_seconds).max(running_seconds);
        (wanted_seconds > 0.0).then_some(running_seconds / wanted_seconds)
    }
}

impl Scheduled {
    /// None where the kernel does not tell.
    fn of(thread: u32) -> Option<Self> {
        let times = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
        let mut times = times.split_ascii_whitespace().map(|nanoseconds| {
            let nanoseconds = nanoseconds.parse().ok()?;
            Some(Duration::from_nanos(nanoseconds).as_secs_f64())
        });
        Some(Self {
            running_seconds: times.next()??,
            ready_seconds: times.next()??,
        })
    }
}

/// What the watching thread knows from one look to the next.
struct Looks {
    sampler: Sampler,
    watch_number: u64,
    /// The loop's thread, by the kernel's number.
    loop_thread: u32,
    /// Since when the loop is suspected to be stuck.
    processor: Option<ProcessorTime>,
}

/// Looks at the loop's pulse until there is something to report.
fn look_on(pulse: &Pulse, watch: &Watch, looks: &mut Looks) -> Report {
    let sampler = &mut looks.sampler;
    loop {
        let Some(threshold_seconds) = watch.threshold_seconds(looks.watch_number) else {
            return match sampler.finish(pulse, monotonic_seconds()) {
                Finding::End(stall, description) => Report::End(stall, description),
                _ => Report::Over,
            };
        };
        sampler.set_threshold(threshold_seconds);
        match sampler.look(pulse, monotonic_seconds()) {
            Finding::Nothing => {}
            Finding::Parked => {
                let number = looks.watch_number;
                pulse.sleep_while_parked(|| watch.threshold_seconds(number).is_some());
                continue;
            }
            Finding::Suspicion => looks.processor = ProcessorTime::begin(looks.loop_thread),
            Finding::Stall(stall) => {
                return Report::Stall {
                    stall,
                    found_seconds: monotonic_seconds(),
                    processor: looks.processor.take(),
                };
            }
            Finding::End(stall, description) => return Report::End(stall, description),
        }
        let interval = Duration::try_from_secs_f64(sampler.interval_seconds());
        thread::park_timeout(interval.unwrap_or(Duration::MAX));
    }
}

#[pymethods]
impl NativeEventLoop {
    /// How long something may hold the loop, in seconds; 0 for as long as it likes.
    fn _set_stall_threshold(&self, seconds: f64) {
        self.watch
            .threshold_bits
            .store(seconds.to_bits(), Ordering::Relaxed);
        self.pulse().nudge_sampler();
    }

    /// Begins a watch, and returns its number.
    fn _begin_watch(&self) -> u64 {
        self.watch.advance()
    }

    /// Ends the watch: `_watch` returns soon.
    fn _end_watch(&self) {
        self.watch.advance();
        self.pulse().nudge_sampler();
    }

    /// Watches the loop until the end of the watch. The target of a thread.
    ///
    /// `thread` is the number of the loop's thread for Python, `native_thread` for the kernel.
    fn _watch(slf: &Bound<'_, Self>, number: u64, thread: u64, native_thread: u32) {
        let py = slf.py();
        let this = slf.get();
        let (pulse, watch) = (this.pulse(), &this.watch);
        let mut looks = Looks {
            sampler: Sampler::new(f64::INFINITY, monotonic_seconds()),
            watch_number: number,
            loop_thread: native_thread,
            processor: None,
        };
        // The first look for a name may give the GIL back, and with it what there is to see.
        let known = names::current_frames(py)
            .and_then(|_| names::report_stall(py))
            .and_then(|_| names::report_end_of_stall(py));
        if let Err(error) = known {
            error.write_unraisable(py, Some(slf.as_any()));
        }
        pulse.attach_sampler();
        loop {
            let report = detached(py, || look_on(pulse, watch, &mut looks));
            let reported = match report {
                Report::Over => break,
                Report::Stall {
                    stall,
                    found_seconds,
                    processor,
                } => {
                    let attached_after_seconds = monotonic_seconds() - found_seconds;
                    let is_stalled = pulse.is_stalled();
                    // Python code may have to give the GIL back before it can look: the thread
                    // of the loop would go on meanwhile.
                    let frame = names::current_frames(py)
                        .and_then(|frames| frames.call0()?.cast_into::<PyDict>()?.get_item(thread));
                    frame.and_then(|frame| {
                        names::report_stall(py)?.call1((
                            slf,
                            thread,
                            frame,
                            stall.activity == Activity::Resuming,
                            stall.seconds,
                            attached_after_seconds,
                            processor.and_then(|processor| processor.share()),
                            is_stalled,
                        ))
                    })
                }
                Report::End(stall, description) => {
                    names::report_end_of_stall(py).and_then(|report| {
                        report.call1((
                            slf,
                            stall.activity == Activity::Resuming,
                            stall.seconds,
                            description,
                        ))
                    })
                }
            };
            if let Err(error) = reported {
                // A report that fails must not end the watch.
                error.write_unraisable(py, Some(slf.as_any()));
            }
            looks.sampler.skip_to(monotonic_seconds());
        }
        pulse.detach_sampler();
    }

    /// How often and how long the loop was stuck: things that it ran, how long together and
    /// how long the longest in seconds; waits for the GIL, and how long together.
    fn _stall_statistics(&self) -> (u64, f64, f64, u64, f64) {
        let statistics = self.pulse().statistics();
        (
            statistics.stalls,
            statistics.stalled.as_secs_f64(),
            statistics.longest.as_secs_f64(),
            statistics.resume_stalls,
            statistics.resume_stalled.as_secs_f64(),
        )
    }
}
